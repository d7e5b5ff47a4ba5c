"""A single thread that uses the model. Those who call meanwhile are answered together, in turns."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Self

from constrained_ner.documents import Document
from constrained_ner.errors import CnerError, reason_of
from constrained_ner.pipeline.prediction import Prediction
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.scheduling import Job, answer_in_turns


class RefusedError(CnerError):
    """The worker takes nothing for now. `status`: what that is in HTTP."""

    status: int


class BusyError(RefusedError):
    """There are as many callers already as the worker takes."""

    status = 429


class StoppingError(RefusedError):
    """The worker is about to end, or has ended."""

    status = 503


class Worker:
    """Answers the documents of several callers at a time, whatever their formats and levels.

    Parameters
    ----------
    most: how many callers there may be at a time.
    """

    def __init__(self, most: int):
        self._most = most
        self._callers: set[Caller] = set()
        self._open: dict[Job, Future[Prediction]] = {}
        self._taken: set[Job] = set()  # of the open ones those that the thread knows of
        self._arrived: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = Lock()  # of all above
        self._stopping = self._given_up = self._closed = False
        self._thread = Thread(target=self._work, name="cner-worker", daemon=True)
        self._thread.start()

    @property
    def callers(self) -> int:
        """How many have been admitted and have not left."""
        return len(self._callers)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def check(self, others: int = 0) -> None:
        """See that another caller would be admitted.

        Parameters
        ----------
        others: how many are on their way already, those who have been admitted included.

        Raises
        ------
        BusyError, StoppingError
        """
        if self._stopping or not self.alive:
            raise StoppingError("the server is stopping")
        before = max(self.callers, others)
        if before >= self._most:
            raise BusyError(f"{before} requests are being answered: try again later")

    def admit(self) -> Caller:
        """A new caller, who leaves at the end of the `with` block.

        Raises
        ------
        BusyError, StoppingError
        """
        with self._lock:
            self.check()
            caller = Caller(self)
            self._callers.add(caller)
        return caller

    def stop(self) -> None:
        """Admit nobody any more. Those who are here go on."""
        self._stopping = True

    def give_up(self) -> None:
        """Refuse whatever has no answer yet."""
        with self._lock:
            self._stopping = self._given_up = True
            refused, self._open = self._open, {}
            self._taken.clear()
        for job, outcome in refused.items():
            job.abandoned = True
            _settle(outcome, StoppingError("the server is stopping"))

    def close(self) -> None:
        """Answer what was submitted, then end the thread."""
        self.stop()
        self._arrived.put(None)
        self._thread.join()

    # ---- for callers

    def submit(self, job: Job) -> Future[Prediction]:
        """Raises `StoppingError`."""
        outcome: Future[Prediction] = Future()
        with self._lock:
            if self._given_up:
                raise StoppingError("the server is stopping")
            self._open[job] = outcome
        self._arrived.put(job)
        return outcome

    def leave(self, caller: Caller) -> None:
        with self._lock:
            self._callers.discard(caller)
            for job in [job for job in self._open if job.owner is caller]:
                job.abandoned = True
                self._taken.discard(job)
                self._open.pop(job).cancel()

    # ---- the thread

    def _work(self) -> None:
        while not self._closed and (first := self._arrived.get()) is not None:
            try:
                for job, prediction in answer_in_turns(self._jobs(first)):
                    self._settle(job, prediction)
            except BaseException as error:
                # Whatever it was: the callers must be told, and the thread must go on. A panic of a
                # library in Rust is no `Exception`, and would end their threads, too.
                told = error if isinstance(error, Exception) else RuntimeError(reason_of(error))
                for job in list(self._taken):
                    self._settle(job, told)

    def _jobs(self, first: Job) -> Iterator[Job | None]:
        """The first job, then those that arrive meanwhile; None whenever there is none."""
        job: Job | None = first
        while job is not None:
            with self._lock:
                wanted = job in self._open
                if wanted:
                    self._taken.add(job)
            if wanted:
                yield job
            while True:
                try:
                    job = self._arrived.get_nowait()
                    break
                except Empty:
                    yield None
        self._closed = True

    def _settle(self, job: Job, outcome: Prediction | Exception) -> None:
        with self._lock:
            self._taken.discard(job)
            future = self._open.pop(job, None)
        if future is not None:
            _settle(future, outcome)


class Caller:
    """Someone whose documents are answered. What has no answer when they leave is abandoned."""

    def __init__(self, worker: Worker):
        self._worker = worker

    def submit(self, predictor: Predictor, document: Document) -> Future[Prediction]:
        """Have a document answered; the future will have its prediction.

        Parameters
        ----------
        predictor: all must have the same model and the same engine.

        Raises
        ------
        StoppingError: the worker answers nothing any more.
        """
        return self._worker.submit(Job(predictor, document, owner=self))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.leave(self)


def _settle(future: Future[Prediction], outcome: Prediction | Exception) -> None:
    if not future.set_running_or_notify_cancel():
        return
    if isinstance(outcome, Prediction):
        future.set_result(outcome)
    else:
        future.set_exception(outcome)
