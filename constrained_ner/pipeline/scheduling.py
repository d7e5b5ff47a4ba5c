"""The order of requests: documents of one or of several predictors are answered side by side.

A second thread prepares requests in advance, while the model works. Predictions are given in the
order of the documents. The next turn of a conversation comes before all other requests, because
the beginning of its prompt is still in the cache.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING

from constrained_ner.documents import Document
from constrained_ner.engines.base import Request
from constrained_ner.engines.sequence import begin
from constrained_ner.errors import CnerError, InputError
from constrained_ner.pipeline.prediction import Prediction, Reply

if TYPE_CHECKING:
    from constrained_ner.pipeline.predictor import Predictor, Turn

    _Pair = tuple[Predictor, Document | InputError]


@dataclass(eq=False)
class _Pending:
    """A document whose turns are being answered.

    Attributes
    ----------
    open: how many of the turns have no outcome yet.
    """

    predictor: Predictor
    document: Document | InputError
    turns: list[Turn]
    open: int

    @classmethod
    def of(cls, predictor: Predictor, document: Document | InputError) -> _Pending:
        turns = predictor.turns(document)
        return cls(predictor, document, turns, len(turns))

    def take(self, turn: Turn, outcome: Reply | CnerError) -> None:
        """Note the outcome of a turn. If it failed, so did the rest of its conversation."""
        while True:
            turn.outcome = outcome
            self.open -= 1
            if self.predictor.on_answer:
                self.predictor.on_answer(turn.document, len(self.turns))
            if turn.after is None or isinstance(outcome, Reply):
                return
            turn = turn.after


def answer(asked: Iterable[_Pair | None]) -> Iterator[Prediction]:
    """A prediction for each document, made by its predictor, in the order of the documents.

    Parameters
    ----------
    asked: the predictors may differ in format, targets, level, index and examples only. None means
        that there is no document for now. It ends the iteration if nothing is being answered.
    """
    source = iter(asked)
    first = next(source, None)
    if first is None:
        return
    predictor = first[0]
    answered = _answered(chain([first], source), predictor)
    while True:
        with predictor.costs.timed("seconds"):
            prediction = next(answered, None)
        if prediction is None:
            return
        yield prediction


def _answered(source: Iterator[_Pair | None], predictor: Predictor) -> Iterator[Prediction]:
    under_way: deque[_Pending] = deque()
    in_hand: dict[int, _Pending] = {}  # by id of the turn

    def done() -> Iterator[Prediction]:
        while under_way and not under_way[0].open:
            pending = under_way.popleft()
            yield pending.predictor.prediction(pending.document, pending.turns)

    with _Preparation(source, under_way, predictor.batch_size) as preparation:

        def next_request() -> Request | None:
            while (next_one := preparation.next()) is not None:
                pending, turn, request = next_one
                if isinstance(request, Request):
                    in_hand[id(turn)] = pending
                    return request
                pending.take(turn, request)
            return None

        for request, answered in predictor.new_engine().decode(next_request):
            turn: Turn = request.key
            pending = in_hand.pop(id(turn))
            if isinstance(answered, CnerError):
                pending.take(turn, answered)
            else:
                pending.take(turn, turn.predictor.read(turn, answered))
                # The next turn goes first, because the cache still holds the turns before it.
                if turn.after is not None and isinstance(turn.outcome, Reply):
                    preparation.put_first(pending, turn.after)
            yield from done()
    yield from done()


class _Preparation:
    """The requests in their order, prepared while the model works.

    A second thread tokenizes the prompts and builds the grammars of some requests in advance. A
    turn that was put first is prepared when it is asked for.

    Parameters
    ----------
    source: documents with their predictors; None where there is none for now.
    under_way: documents whose requests were begun are appended to it.
    ahead: how many requests to prepare in advance.
    """

    def __init__(self, source: Iterator[_Pair | None], under_way: deque[_Pending], ahead: int):
        self._source = source
        self._under_way = under_way
        self._most = ahead
        self._waiting: deque[tuple[_Pending, Turn]] = deque()
        self._first: deque[tuple[_Pending, Turn]] = deque()
        self._ready: deque[tuple[_Pending, Turn, Future[Request | CnerError]]] = deque()
        self._pool = ThreadPoolExecutor(1, "cner-preparation")
        self._alone = Lock()  # a tokenizer must not be used by two threads at once

    def __enter__(self) -> _Preparation:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def put_first(self, pending: _Pending, turn: Turn) -> None:
        self._first.appendleft((pending, turn))

    def next(self) -> tuple[_Pending, Turn, Request | CnerError] | None:
        """A turn with its request, or the error in its place; None if there is none for now."""
        if self._first:
            pending, turn = self._first.popleft()
            return pending, turn, self._request(turn)
        self._look_ahead()
        if not self._ready:
            return None
        pending, turn, request = self._ready.popleft()
        self._look_ahead()
        return pending, turn, request.result()

    def _look_ahead(self) -> None:
        while len(self._ready) < self._most:
            while not self._waiting:
                if (pair := next(self._source, None)) is None:
                    return
                with self._alone:
                    pending = _Pending.of(*pair)
                self._under_way.append(pending)
                self._waiting.extend((pending, turn) for turn in pending.turns if not turn.before)
            pending, turn = self._waiting.popleft()
            self._ready.append((pending, turn, self._pool.submit(self._request, turn)))

    def _request(self, turn: Turn) -> Request | CnerError:
        predictor = turn.predictor
        try:
            with self._alone:
                request = predictor.request(turn)
            with predictor.costs.timed("grammar_seconds"):
                request.sequence = begin(request, predictor.model.vocabulary)
        except CnerError as error:
            return error
        return request
