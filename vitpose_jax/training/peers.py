"""Several processes train one model: when one is lost, the others end at once and say which.

A collective operation waits for all its processes, for ever on some devices, and JAX's own check
takes over a minute and prints pages. So each process keeps a connection to process 0. The operating
system closes it when a process ends in any way, and soon after its machine is gone.

When process 0 is gone, JAX aborts the other processes within a second, with pages of C++; they are
held back while ours ends the process first.
"""

import contextlib
import logging
import os
import secrets
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import NoReturn

import jax

from vitpose_jax.errors import UserError, shown
from vitpose_jax.files.native_messages import native_messages
from vitpose_jax.training.sharding import gather_values

log = logging.getLogger(__name__)

SECONDS_TO_CONNECT = 10.0
SECONDS_OF_SILENCE = 15
"""After this long without a sign of life, a machine counts as lost."""
_SECONDS_FOR_LAST_WORDS = 3.0
_DONE, _FAILED, _LOST = "done", "failed", "lost"


@contextlib.contextmanager
def watched(coordinator: str | None) -> Iterator[None]:
    """Context in which this process ends soon after any other process is lost, or fails.

    One line says which it was, and the exit status is 2. An error inside the block ends the other
    processes likewise.

    Args:
        coordinator: host:port of process 0, if the user gave it.
    """
    with native_messages(delay=1):
        peers = Peers(coordinator)
        try:
            yield
        except Exception as error:
            peers.fail(error)
        finally:
            peers.leave()


class Peers:
    """The connections of this process: to process 0, or as process 0 to all others."""

    def __init__(self, coordinator: str | None) -> None:
        """Connect; process 0 first says where it listens."""
        self._index, self._count = jax.process_index(), jax.process_count()
        self._connections: dict[int, socket.socket] = {}
        self._lock, self._concluded = threading.Lock(), threading.Event()
        self._ending = threading.Lock()  # of the first thread that ends the process
        self._word = ""
        listener, about = None, {"host": socket.gethostname(), "pid": os.getpid()}
        if self._index == 0:
            both = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if both else socket.AF_INET
            listener = socket.create_server(("", 0), family=family, dualstack_ipv6=both)
            about |= {"port": listener.getsockname()[1], "token": secrets.token_hex(16)}
        self._about = gather_values(about)
        token = f"{self._about[0]['token']} "
        if listener is not None:
            self._start(self._accept, listener, token)
        else:
            given = [coordinator.rpartition(":")[0].strip("[]")] if coordinator else []
            self._connect([*given, self._about[0]["host"]], token)

    def _start(self, target: object, *arguments: object) -> None:
        threading.Thread(target=target, args=arguments, daemon=True).start()  # type: ignore[arg-type]

    def _accept(self, listener: socket.socket, token: str) -> None:
        """As process 0: wait for the others; whoever does not know the token is none of them."""
        listener.settimeout(2 * SECONDS_TO_CONNECT)
        with listener, contextlib.suppress(OSError):
            while len(self._connections) < self._count - 1:
                connection, _ = listener.accept()
                with contextlib.suppress(OSError, ValueError):
                    connection.settimeout(SECONDS_TO_CONNECT)
                    greeting = connection.recv(len(token) + 10, socket.MSG_WAITALL).decode()
                    index = int(greeting.removeprefix(token))
                    if 0 < index < self._count:
                        self._listen_to(index, connection)

    def _connect(self, hosts: list[str], token: str) -> None:
        for host in hosts:
            with contextlib.suppress(OSError):
                address = host, self._about[0]["port"]
                connection = socket.create_connection(address, SECONDS_TO_CONNECT)
                connection.sendall(f"{token}{self._index:10d}".encode())
                self._listen_to(0, connection)
                return
        log.warning(
            "process %d cannot connect to process 0 (%s, port %d): should another process be lost, "
            "it may wait for minutes",
            *(self._index, " or ".join(hosts), self._about[0]["port"]),
        )

    def _listen_to(self, index: int, connection: socket.socket) -> None:
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("IDLE", SECONDS_OF_SILENCE // 3), ("INTVL", 2), ("CNT", 5)):
            if hasattr(socket, f"TCP_KEEP{name}"):  # not everywhere
                option = getattr(socket, f"TCP_KEEP{name}")
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
        self._connections[index] = connection
        self._start(self._hear, index, connection)

    def _hear(self, index: int, connection: socket.socket) -> None:
        """Wait for a process's words; if it ends without one, it is lost.

        One that is done stays connected until it ends, so that it hears of the others.
        """
        word = ""
        with contextlib.suppress(OSError):
            for line in connection.makefile():
                word = line.strip()
                if word != _DONE:
                    break
        del self._connections[index]
        if word != _DONE:
            self._conclude(word or f"{_LOST} {index}")

    def _conclude(self, word: str) -> None:
        """Some process is gone: tell the others, and end this one."""
        with self._lock:
            if self._word:
                return
            self._word = word
        self._tell(word)
        self._concluded.set()
        if word.startswith(_FAILED):
            time.sleep(_SECONDS_FOR_LAST_WORDS)  # for our own error, which may be the same
        self._end()

    def _tell(self, word: str) -> None:
        for connection in list(self._connections.values()):
            with contextlib.suppress(OSError):
                connection.sendall(f"{word}\n".encode())

    def _end(self) -> NoReturn:
        self._ending.acquire()
        what, _, index = self._word.partition(" ")
        about = self._about[int(index)]
        log.error(
            "process %s of %d (pid %d on %s) %s; its own messages may say why. Start all "
            "processes again, with the same command, to resume from the last checkpoint",
            *(index, self._count, about["pid"], about["host"]),
            "was lost" if what == _LOST else "stopped with an error",
        )
        self._exit(2)

    def fail(self, error: Exception) -> NoReturn:
        """End this process because of an error, and the others with it.

        If another process is gone, the error is most likely only a consequence, and is not shown.
        """
        if self._concluded.wait(_SECONDS_FOR_LAST_WORDS):
            self._end()
        with self._lock:
            self._word = f"{_FAILED} {self._index}"
        self._tell(self._word)
        if isinstance(error, UserError):
            print(shown(error), file=sys.stderr)
            self._exit(2)
        traceback.print_exception(error)
        self._exit(1)

    def _exit(self, status: int) -> NoReturn:
        """Leave without Python's usual end, in which JAX would wait for the other processes.

        Process 0 goes last, since JAX aborts the others when it is gone.
        """
        until = time.monotonic() + 2 * _SECONDS_FOR_LAST_WORDS
        while self._index == 0 and self._connections and time.monotonic() < until:
            time.sleep(0.01)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    def leave(self) -> None:
        """Tell the others that this process has come to its end as it should."""
        self._tell(_DONE)
