"""Work done meanwhile: in order, bounded, finished at the end, its errors told."""

import threading
import time

import pytest

from vitpose_jax.inference.background import WAITING, Background


def test_one_thread_keeps_the_order_and_everything_is_finished() -> None:
    done: list[int] = []
    with Background(threads=1) as background:
        for index in range(100):
            background.submit(done.append, index)
    assert done == list(range(100))


def test_what_was_handed_over_is_finished_after_ctrl_c() -> None:
    done: list[int] = []

    def interrupted() -> None:
        with Background(threads=1) as background:
            for index in range(10):
                background.submit(lambda index: (time.sleep(0.01), done.append(index)), index)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == list(range(10))


def test_only_so_much_waits() -> None:
    held, handed = threading.Event(), []
    background = Background(threads=2)

    def hand_over() -> None:
        for index in range(2 + WAITING + 5):
            background.submit(held.wait)
            handed.append(index)

    thread = threading.Thread(target=hand_over)
    thread.start()
    thread.join(0.3)
    assert len(handed) == 2 + WAITING
    held.set()
    thread.join()
    background.close()


def test_the_first_error_is_told_and_the_rest_dropped() -> None:
    done: list[int] = []
    background = Background(threads=1)
    started = threading.Event()

    def fail() -> None:
        started.wait()
        raise ValueError("the first")

    background.submit(fail)
    background.submit(done.append, 1)
    started.set()
    with pytest.raises(ValueError, match="the first"):
        background.close()
    with pytest.raises(ValueError, match="the first"):
        background.submit(done.append, 2)
    assert done == []


def test_an_error_of_the_last_work_is_told_at_the_end() -> None:
    with pytest.raises(ZeroDivisionError), Background(threads=1) as background:
        background.submit(lambda: 1 / 0)
