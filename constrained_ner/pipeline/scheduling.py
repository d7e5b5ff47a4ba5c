"""Which request comes next: documents of one predictor or of several, answered side by side.

Requests are made on a thread beside the model, some ahead; answers are handed on in the documents'
order; the next turn of a conversation goes before all others, since its prompt is in the cache.
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
    """A document that is being asked about.

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
        """A turn is done; where it failed, the rest of its conversation has, too."""
        while True:
            turn.outcome = outcome
            self.open -= 1
            if turn.after is None or isinstance(outcome, Reply):
                return
            turn = turn.after


def answer(asked: Iterable[_Pair | None]) -> Iterator[Prediction]:
    """One prediction for each document, asked for by its predictor, in their order.

    Parameters
    ----------
    asked: the predictors are alike but for format, targets, level, index and examples. None says
        that there is none for now; it ends when that is said and nothing is under way.
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
                # The next turn goes first: its row still holds the turns before.
                if turn.after is not None and isinstance(turn.outcome, Reply):
                    preparation.put_first(pending, turn.after)
            yield from done()
    yield from done()


class _Preparation:
    """Requests in their order; the next ones are made ready while the model works.

    Prompts are tokenized and grammars built on a thread beside it, some ahead. What is put first
    is made ready when it is asked for.

    Parameters
    ----------
    source: documents; None where there is none for now.
    under_way: where to put documents that have begun to be asked about.
    ahead: how many requests to have ready.
    """

    def __init__(self, source: Iterator[_Pair | None], under_way: deque[_Pending], ahead: int):
        self._source = source
        self._under_way = under_way
        self._most = ahead
        self._waiting: deque[tuple[_Pending, Turn]] = deque()
        self._first: deque[tuple[_Pending, Turn]] = deque()
        self._ready: deque[tuple[_Pending, Turn, Future[Request | CnerError]]] = deque()
        self._pool = ThreadPoolExecutor(1, "cner-preparation")
        self._alone = Lock()  # a tokenizer must not be used by two threads

    def __enter__(self) -> _Preparation:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def put_first(self, pending: _Pending, turn: Turn) -> None:
        self._first.appendleft((pending, turn))

    def next(self) -> tuple[_Pending, Turn, Request | CnerError] | None:
        """A turn and its request, or what is wrong with it; None where there is none for now."""
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
