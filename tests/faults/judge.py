"""Runs actions in processes of their own, with limits, and says how each of them ended."""

import json
import os
import re
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_BYTES = 2 * 10**9
MOST_SECONDS = 10.0
"""Of processor time, beyond the undamaged input's, so that a busy machine makes nothing hang."""
MOST_WAITING = 60.0
"""Of the clock, without computing anything."""

Action = Callable[[Path], tuple[int, Any]]
"""Does something with a folder of input; gives an exit status and a JSON value of what was read."""

_NOISE = re.compile(
    r"Corrupt JPEG|Premature end|libpng|TIFF\w*:|JPEGLib|\[\w+ @ 0x|Warning: |warn\(|"
    r"^[WEF]\d{4} |Fatal Python|terminate called|\x1b",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Ending:
    """How one action ended.

    Attributes:
        how: "0", "1", "2" (exit statuses), "traceback", "noise", "hang", "memory" or "crash".
        value: what was read, if it ended with a status.
        text: what it printed or raised.
        seconds: processor time.
        peak: memory in bytes.
    """

    how: str
    value: Any = None
    text: str = ""
    seconds: float = 0.0
    peak: int = 0


def run_all(action: Action, folders: Sequence[Path], allowed: float = 0.0) -> list[Ending]:
    """Run an action on each folder, in one process; after a crash or the like, in a new one.

    `allowed`: processor time that the undamaged input takes, in seconds.
    """
    endings: list[Ending] = []
    while len(endings) < len(folders):
        endings += _run_some(action, folders[len(endings) :], allowed)
    return endings


def _run_some(action: Action, folders: Sequence[Path], allowed: float) -> list[Ending]:
    report = folders[0].with_suffix(".report")
    report.write_text("")
    child = os.fork()
    if not child:
        _work(action, folders, report)
    stopped, seen, busy, base, before = "", 0, time.monotonic(), 0.0, 0.0
    while not (gone := os.waitpid(child, os.WNOHANG))[0]:
        time.sleep(0.02)
        count = report.read_bytes().count(b"\n")
        used, peak = _usage(child)
        if count > seen:
            seen, base = count, used
        if used > before:
            busy, before = time.monotonic(), used
        if peak > MOST_BYTES:
            stopped = "memory"
        elif used - base > allowed + MOST_SECONDS or time.monotonic() - busy > MOST_WAITING:
            stopped = "hang"
        if stopped:
            os.kill(child, signal.SIGKILL)
            gone = os.waitpid(child, 0)
            break
    endings = [Ending(**json.loads(line)) for line in report.read_text().splitlines()]
    if len(endings) < len(folders):
        what = stopped or "crash"
        text = folders[len(endings)].with_suffix(".text").read_text(errors="replace")[-2000:]
        endings.append(Ending(what, text=f"wait status {gone[1]}\n{text}"))
    return endings


def _usage(process: int) -> tuple[float, int]:
    """Processor seconds and memory in bytes."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0, 0
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    return (int(stat[11]) + int(stat[12])) / ticks, int(stat[21]) * page


def _work(action: Action, folders: Sequence[Path], report: Path) -> None:
    """In the child: one line a folder; never returns."""
    try:
        os.setsid()
        with report.open("a") as out:
            for folder in folders:
                out.write(json.dumps(vars(_act(action, folder))) + "\n")
                out.flush()
    finally:
        os._exit(0)


def _act(action: Action, folder: Path) -> Ending:
    from vitpose_jax.errors import UserError, shown

    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of memory so far
    text = folder.with_suffix(".text")
    target = os.open(text, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", buffering=1) for n in (1, 2))
    started, value, lines = time.process_time(), None, 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            for hidden in (DeprecationWarning, PendingDeprecationWarning, ImportWarning):
                warnings.simplefilter("ignore", hidden)  # as Python does
            warnings.simplefilter("ignore", ResourceWarning)
            warnings.filterwarnings("ignore", module=r"PIL\.")  # as the commands do
            status, value = action(folder)
        how = str(status)
    except UserError as error:
        how = "2"
        print(shown(error))
        lines = len(error.args)
    except SystemExit as stop:
        how = str(stop.code)
    except BaseException:
        how = "traceback"
        traceback.print_exc()
    seconds = time.process_time() - started
    written = text.read_bytes()[:20_000_000].decode(errors="replace")
    if "Traceback (most recent call last)" in written:
        how = "traceback"
    elif _NOISE.search(written) or (how == "2" and len(written) > 3000 * lines):
        how = "noise"
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    how = "memory" if peak > MOST_BYTES else how
    how = "hang" if seconds > 3600 else how
    return Ending(how, value, written[-2000:], seconds, peak)
