"""The order of requests: documents of one or of several predictors are answered side by side.

A second thread prepares requests in advance, while the model works. The next turn of a conversation
comes before all other requests, because the beginning of its prompt is still in the cache. A run
over files (`answer`) asks document after document and gives predictions in that order. A server
(`answer_in_turns`) has callers who do not know of one another: their questions take turns, and each
document is given as soon as it is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, takewhile
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
class Job:
    """A document that is to be answered by a predictor.

    Attributes
    ----------
    owner: who asked. The questions of different owners take turns.
    abandoned: nobody waits for it any more: what was not asked about yet never is, and there is no
        prediction. Any thread may set it.
    """

    predictor: Predictor
    document: Document | InputError
    owner: Hashable = None
    abandoned: bool = False


@dataclass(eq=False)
class _Pending:
    """A job whose turns are being answered.

    Attributes
    ----------
    open: how many of the turns have no outcome yet.
    """

    job: Job
    turns: list[Turn]
    open: int

    @classmethod
    def of(cls, job: Job) -> _Pending:
        turns = job.predictor.turns(job.document)
        return cls(job, turns, len(turns))

    @property
    def prediction(self) -> Prediction:
        """Once no turn is open."""
        return self.job.predictor.prediction(self.job.document, self.turns)

    def take(self, turn: Turn, outcome: Reply | CnerError) -> None:
        """Note the outcome of a turn. If it failed, so did the rest of its conversation."""
        while True:
            turn.outcome = outcome
            self.open -= 1
            if self.job.predictor.on_answer:
                self.job.predictor.on_answer(turn.document, len(self.turns))
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
    jobs = (None if pair is None else Job(*pair) for pair in chain([first], source))
    answered = _answered(jobs, predictor, in_turns=False)
    while True:
        with predictor.costs.timed("seconds"):
            done = next(answered, None)
        if done is None:
            return
        yield done[1]


def answer_in_turns(jobs: Iterable[Job | None]) -> Iterator[tuple[Job, Prediction]]:
    """Each job with its prediction, as soon as it is done; owners of jobs take turns.

    Parameters
    ----------
    jobs: see `answer`. All that there are for now are taken at once.
    """
    source = iter(jobs)
    first = next(source, None)
    if first is not None:
        yield from _answered(chain([first], source), first.predictor, in_turns=True)


def _answered(
    source: Iterator[Job | None], predictor: Predictor, *, in_turns: bool
) -> Iterator[tuple[Job, Prediction]]:
    under_way: deque[_Pending] = deque()
    in_hand: dict[int, _Pending] = {}  # by id of the turn

    def done() -> Iterator[tuple[Job, Prediction]]:
        if in_turns:
            ready = [pending for pending in under_way if not pending.open or pending.job.abandoned]
        else:
            ready = list(takewhile(lambda pending: not pending.open, under_way))
        for pending in ready:
            under_way.remove(pending)
            if not pending.job.abandoned:
                yield pending.job, pending.prediction

    with _Preparation(source, under_way, predictor.batch_size, in_turns=in_turns) as preparation:

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


class _Lanes:
    """Turns that wait: in their order for each owner, and the owners take turns."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, deque[tuple[_Pending, Turn]]] = {}

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def add(self, pending: _Pending) -> None:
        """Add the first turn of each conversation."""
        first = [(pending, turn) for turn in pending.turns if not turn.before]
        if first:
            self._lanes.setdefault(pending.job.owner, deque()).extend(first)

    def pop(self) -> tuple[_Pending, Turn]:
        """The next turn of the owner who has waited longest."""
        owner = next(iter(self._lanes))
        lane = self._lanes.pop(owner)
        found = lane.popleft()
        if lane:
            self._lanes[owner] = lane  # behind all others
        return found


class _Preparation:
    """The requests in their order, prepared while the model works.

    A second thread tokenizes the prompts and builds the grammars of some requests in advance. A
    turn that was put first is prepared when it is asked for.

    Parameters
    ----------
    source: jobs; None where there is none for now.
    under_way: jobs whose requests were begun are appended to it.
    ahead: how many requests to prepare in advance.
    in_turns: take all jobs that there are for now, so that none waits for those before it; else
        the next one when the turns of those before it are prepared.
    """

    def __init__(
        self,
        source: Iterator[Job | None],
        under_way: deque[_Pending],
        ahead: int,
        *,
        in_turns: bool,
    ):
        self._source = source
        self._under_way = under_way
        self._most = ahead
        self._in_turns = in_turns
        self._waiting = _Lanes()
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
        while self._first:
            pending, turn = self._first.popleft()
            if not pending.job.abandoned:
                return pending, turn, self._request(turn)
        self._look_ahead()
        while self._ready:
            pending, turn, request = self._ready.popleft()
            self._look_ahead()
            if not pending.job.abandoned:
                return pending, turn, request.result()
        return None

    def _look_ahead(self) -> None:
        if self._in_turns:
            while self._take_job():
                pass
        while len(self._ready) < self._most:
            while not self._waiting:
                if not self._take_job():
                    return
            pending, turn = self._waiting.pop()
            if not pending.job.abandoned:
                self._ready.append((pending, turn, self._pool.submit(self._request, turn)))

    def _take_job(self) -> bool:
        """Whether there was one."""
        job = next(self._source, None)
        if job is None:
            return False
        with self._alone:
            pending = _Pending.of(job)
        self._under_way.append(pending)
        self._waiting.add(pending)
        return True

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
