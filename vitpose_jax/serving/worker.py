"""One thread that runs a model for all requests, with a bounded queue in front of it."""

import contextlib
import queue
import threading
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field

import numpy as np

from vitpose_jax.inference.estimator import PoseEstimator, Prediction
from vitpose_jax.inference.preparation import BoxSource


class QueueFull(Exception):
    """So many requests are waiting that another would only wait too."""


@dataclass
class Job:
    """A picture on its way.

    Attributes:
        image: uint8 RGB.
        boxes: where people are.
        result: what was found, or the error.
    """

    image: np.ndarray
    boxes: BoxSource
    result: Future[Prediction] = field(default_factory=Future)


class Worker:
    """Takes whatever requests are waiting, runs them as one stream, and starts over.

    While a stream runs, others gather, so that batches fill by themselves under load, and a
    single request never waits for company.
    """

    def __init__(self, estimator: PoseEstimator, most_waiting: int) -> None:
        """Start the thread; `most_waiting` pictures may wait."""
        self.estimator = estimator
        self._waiting: queue.Queue[Job | None] = queue.Queue(most_waiting)
        self._at_once = 2 * estimator.batch_size
        self._thread = threading.Thread(target=self._run, name="vitpose-serve", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many pictures wait."""
        return self._waiting.qsize()

    def submit(self, image: np.ndarray, boxes: BoxSource) -> Future[Prediction]:
        """Queue a picture; cancel the future if nobody wants the result any more.

        Raises:
            QueueFull: too many wait already.
        """
        job = Job(image, boxes)
        try:
            self._waiting.put_nowait(job)
        except queue.Full:
            raise QueueFull from None
        return job.result

    def close(self) -> None:
        """Answer what was accepted, then end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            jobs = [self._waiting.get()]
            while len(jobs) < self._at_once and jobs[-1] is not None:
                try:
                    jobs.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            is_open = jobs[-1] is not None
            wanted = [job for job in jobs if job is not None]
            self._answer([job for job in wanted if job.result.set_running_or_notify_cancel()])

    def _answer(self, jobs: list[Job]) -> None:
        answered = 0
        try:
            items = ((job.image, job.boxes) for job in jobs)
            stream = self.estimator.stream(items, skip_errors=True, keep_images=False)
            for job, found in zip(jobs, stream, strict=True):
                answered += 1
                _settle(job, found)
        except Exception as error:  # whatever it is, the requests must not wait for ever
            for job in jobs[answered:]:
                with contextlib.suppress(InvalidStateError):
                    job.result.set_exception(error)


def _settle(job: Job, found: Prediction) -> None:
    with contextlib.suppress(InvalidStateError):  # given up meanwhile
        job.result.set_result(found)
