"""The order of requests: documents of one or of several predictors are answered side by side.

A second thread prepares requests in advance, while the model works. The next turn of a conversation
comes before all other requests, because the beginning of its prompt is still in the cache. A run
over files (`answer`) asks document after document and gives predictions in that order. A server
(`answer_in_turns`) has callers who do not know of one another: their questions take turns, and each
document is given as soon as it is done.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, takewhile
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

_AHEAD = 2  # requests of an owner that are prepared in advance where owners take turns


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


def answer(asked: Iterable[_Pair]) -> Iterator[Prediction]:
    """A prediction for each document, made by its predictor, in the order of the documents.

    Parameters
    ----------
    asked: the predictors may differ in format, targets, level, index and examples only.
    """
    source = iter(asked)
    first = next(source, None)
    if first is None:
        return
    predictor = first[0]
    jobs = (Job(*pair) for pair in chain([first], source))
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
    jobs: their predictors may differ as in `answer`. None means that there is no job for now. It
        ends the iteration if nothing is being answered. All that there are for now are taken at
        once.
    """
    source = iter(jobs)
    first = next(source, None)
    if first is not None:
        yield from _answered(chain([first], source), first.predictor, in_turns=True)


def _answered(
    source: Iterator[Job | None], predictor: Predictor, *, in_turns: bool
) -> Iterator[tuple[Job, Prediction]]:
    under_way: deque[_Pending] = deque()
    in_hand: dict[Turn, _Pending] = {}

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
                    in_hand[turn] = pending
                    request.wanted = partial(_is_wanted, pending.job)
                    return request
                pending.take(turn, request)
                preparation.give_back(pending)
            return None

        for request, answered in predictor.new_engine().decode(next_request):
            turn: Turn = request.key
            pending = in_hand.pop(turn)
            if isinstance(answered, CnerError):
                pending.take(turn, answered)
            else:
                pending.take(turn, turn.predictor.read(turn, answered))
            # The next turn goes first, because the cache still holds the turns before it.
            if turn.after is not None and isinstance(turn.outcome, Reply):
                preparation.put_first(pending, turn.after)
            else:
                preparation.give_back(pending)
            yield from done()
    yield from done()


def _is_wanted(job: Job) -> bool:
    return not job.abandoned


@dataclass(eq=False)
class _Waiting:
    """A turn that waits for the engine, and its request, once that is being prepared."""

    pending: _Pending
    turn: Turn
    request: Future[Request | CnerError] | None = None


class _Preparation:
    """The requests in their order, prepared while the model works.

    A second thread tokenizes the prompts and builds the grammars of some requests in advance. A
    turn that was put first is prepared when it is asked for.

    Parameters
    ----------
    source: jobs; None where there is none for now.
    under_way: jobs whose requests were begun are appended to it.
    rows: how many requests the engine answers at a time.
    in_turns: take all jobs that there are for now, let their owners take turns, and keep one row
        free of each owner for another one. Else so many jobs are taken as can be prepared for.
        In both cases documents are cut into questions shortly before these are asked.
    """

    def __init__(
        self,
        source: Iterator[Job | None],
        under_way: deque[_Pending],
        rows: int,
        *,
        in_turns: bool,
    ):
        self._source = source
        self._under_way = under_way
        self._in_turns = in_turns
        self._ahead = _AHEAD if in_turns else rows  # of each owner
        self._share = max(1, rows - 1) if in_turns else rows  # of the rows for one owner
        self._jobs: dict[Hashable, deque[Job]] = {}  # by owner, before they are cut
        self._lanes: dict[Hashable, deque[_Waiting]] = {}  # by owner; the next to ask is the first
        self._held: Counter[Hashable] = Counter()  # rows by owner
        self._first: deque[tuple[_Pending, Turn]] = deque()
        self._pool = ThreadPoolExecutor(1, "cner-preparation")
        self._alone = Lock()  # a tokenizer must not be used by two threads at once

    def __enter__(self) -> _Preparation:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def put_first(self, pending: _Pending, turn: Turn) -> None:
        """The next turn of a conversation. It goes on in the row of the turn before."""
        self._first.appendleft((pending, turn))

    def give_back(self, pending: _Pending) -> None:
        """A row that `next` gave a turn is free again."""
        owner = pending.job.owner
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]  # a server has new ones all the time

    def next(self) -> tuple[_Pending, Turn, Request | CnerError] | None:
        """A turn with its request, or the error in its place; None if there is none for now."""
        while self._first:
            pending, turn = self._first.popleft()
            if not pending.job.abandoned:
                return pending, turn, self._request(turn)
            self.give_back(pending)
        self._look_ahead()
        chosen = self._choose()
        if chosen is None:
            return None
        assert chosen.request is not None  # each owner's first turn is looked ahead to
        self._held[chosen.pending.job.owner] += 1
        self._look_ahead()
        return chosen.pending, chosen.turn, chosen.request.result()

    def _choose(self) -> _Waiting | None:
        """The next turn of the owner who has waited longest and has less than a share of rows."""
        for owner, lane in self._lanes.items():
            if self._held[owner] < self._share:
                chosen = lane.popleft()
                del self._lanes[owner]
                if lane:
                    self._lanes[owner] = lane  # behind all others
                return chosen
        return None

    def _look_ahead(self) -> None:
        """Take jobs, and have the first turns of each owner prepared."""
        if self._in_turns:
            self._take_turns()
        else:
            while len(self._lanes.get(None, ())) < self._ahead and (
                job := next(self._source, None)
            ):
                self._open(job)
        for owner, lane in list(self._lanes.items()):
            while lane and lane[0].pending.job.abandoned:
                lane.popleft()
            if not lane:
                del self._lanes[owner]
            for waiting in islice(lane, self._ahead):
                if waiting.request is None:
                    waiting.request = self._pool.submit(self._request, waiting.turn)

    def _take_turns(self) -> None:
        """Take all jobs that there are, and cut those of each owner that are asked about next."""
        while (job := next(self._source, None)) is not None:
            self._jobs.setdefault(job.owner, deque()).append(job)
        for owner, jobs in list(self._jobs.items()):
            while jobs and len(self._lanes.get(owner, ())) < self._ahead:
                self._open(jobs.popleft())
            if not jobs:
                del self._jobs[owner]

    def _open(self, job: Job) -> None:
        """Cut the document of a job into questions."""
        if job.abandoned:
            return
        with self._alone:
            pending = _Pending.of(job)
        self._under_way.append(pending)
        # The first turn of each conversation; the others are put first when their time comes.
        first = [_Waiting(pending, turn) for turn in pending.turns if not turn.before]
        if first:
            self._lanes.setdefault(job.owner, deque()).extend(first)

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
