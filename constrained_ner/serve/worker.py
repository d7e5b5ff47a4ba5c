"""A single thread that uses the model. Requests that arrive meanwhile are answered together."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from threading import Thread
from typing import NamedTuple

from constrained_ner.documents import Document
from constrained_ner.errors import CnerError
from constrained_ner.pipeline.prediction import Prediction
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.scheduling import answer


class BusyError(CnerError):
    """Too many requests are waiting already."""


class _Request(NamedTuple):
    predictor: Predictor
    document: Document
    outcome: Future[Prediction]


class Worker:
    """Answers requests, several at a time, whatever their formats and levels.

    Parameters
    ----------
    most: how many requests may wait.
    """

    def __init__(self, most: int):
        self._waiting: queue.Queue[_Request | None] = queue.Queue(most)
        self._closed = False
        self._thread = Thread(target=self._work, name="cner-worker", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return self._waiting.qsize()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, predictor: Predictor, document: Document) -> Future[Prediction]:
        """Put a request in the queue; the future will have its prediction.

        Parameters
        ----------
        predictor: all requests must have the same model and the same engine.

        Raises
        ------
        BusyError: too many requests are waiting.
        """
        request = _Request(predictor, document, Future())
        try:
            self._waiting.put_nowait(request)
        except queue.Full:
            raise BusyError(f"{self.waiting} requests are waiting: try again later") from None
        return request.outcome

    def close(self) -> None:
        """Answer the requests that are waiting, then end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while not self._closed and (first := self._waiting.get()) is not None:
            under_way: deque[_Request] = deque()
            try:
                for prediction in answer(self._asked(first, under_way)):
                    under_way.popleft().outcome.set_result(prediction)
            except Exception as error:
                # Whatever it was: the callers must be told, and the thread must go on.
                for request in under_way or [first]:
                    if not request.outcome.done():
                        request.outcome.set_exception(error)

    def _asked(
        self, first: _Request, under_way: deque[_Request]
    ) -> Iterator[tuple[Predictor, Document] | None]:
        """The first request, then those that arrive meanwhile; None whenever none is waiting."""
        request: _Request | None = first
        while request is not None:
            # Skip requests whose callers have gone away.
            if request.outcome.set_running_or_notify_cancel():
                under_way.append(request)
                yield request.predictor, request.document
            while True:
                try:
                    request = self._waiting.get_nowait()
                    break
                except queue.Empty:
                    yield None
        self._closed = True
