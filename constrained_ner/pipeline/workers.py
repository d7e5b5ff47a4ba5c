"""Workers that answer the chunks of a run side by side, on one machine or on a Ray cluster.

Each worker is a Ray actor with a model of its own. No record depends on anything outside of its
chunk (`runs`), and chunks come back in their order: so the file is the one that a single process
writes, and what one of them began the other can go on with. A chunk whose worker is lost is
answered by another one. A document that takes its worker down with it again and again is left out
alone.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from constrained_ner.documents import Document
from constrained_ner.errors import CnerError, InputError, MissingExtraError, ModelError, reason_of
from constrained_ner.pipeline.prediction import Prediction
from constrained_ner.pipeline.runs import Chunk

if TYPE_CHECKING:
    from constrained_ner.pipeline.predictor import Predictor

_log = logging.getLogger(__name__)
_PATIENCE = 30.0  # seconds
_RETRIES = 2  # of documents whose worker is lost
_AHEAD = 4  # chunks a worker that may be under way, or wait for one in front of them


@dataclass(eq=False)
class _Piece:
    """What a worker answers at a time: a chunk, or one document of a chunk that failed as a whole.

    Attributes
    ----------
    found: the predictions, once they are there. `pieces`: what it was taken apart into.
    """

    documents: Chunk
    found: list[Prediction] = field(default_factory=list)
    pieces: list[_Piece] = field(default_factory=list)

    @property
    def predictions(self) -> list[Prediction]:
        """A prediction for each document, or fewer so long as some are missing."""
        return self.found or [one for piece in self.pieces for one in piece.found]

    @property
    def done(self) -> bool:
        return len(self.predictions) == len(self.documents)


@dataclass
class Workers:
    """Workers of a Ray cluster.

    Parameters
    ----------
    make: a predictor; it is called once in each worker, with what it needs from there.
    failed: the prediction for a document that cannot be answered, and why.
    number: how many workers there are.
    address: of a cluster, as `ray.init` takes it; empty for that of the variable `RAY_ADDRESS`, or
        without one for one of this machine's own, which ends with this process.
    cpus: that a worker has; by default its share of this machine. `gpus`: also a part of one.
    """

    make: Callable[[], Predictor]
    failed: Callable[[Document | InputError, str], Prediction]
    number: int
    address: str = ""
    cpus: int = 0
    gpus: float = 0.0
    _ready: list[Any] = field(default_factory=list)
    _starting: dict[Any, Any] = field(default_factory=dict)  # by the task that makes them ready

    def start(self, wait_for: int = 1) -> Workers:
        """Start them, and wait until so many of them have their models.

        Raises
        ------
        MissingExtraError: Ray is not installed.
        InputError: there is no such cluster, or this machine has not the GPUs.
        CnerError: what a worker raises: there is no such model.
        """
        self._connect()
        remote = self._ray.remote(
            num_cpus=self._cpus,
            num_gpus=self.gpus,
            max_restarts=-1,
            max_task_retries=_RETRIES,
            # Each has its own cores, and no more threads than those.
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(self._cpus)}},
        )(_Worker)
        for _ in range(self.number):
            worker = remote.remote(self.make)
            self._starting[worker.prepare.remote()] = worker
        while len(self._ready) < wait_for and self._starting:
            self._greet(self._first_done({}))
        return self

    def _first_done(self, running: Mapping[Any, Any]) -> Any:
        """The first task that is done, of what workers answer or of those that make them ready."""
        while True:
            patience = None if running else _PATIENCE
            tasks = [*running, *self._starting]
            if done := self._ray.wait(tasks, num_returns=1, timeout=patience)[0]:
                return done[0]
            has = self._ray.cluster_resources()
            _log.warning(
                "no worker is ready yet: each takes %d CPUs and %g GPUs, and the cluster has "
                "%g and %g in all",
                *(self._cpus, self.gpus, has.get("CPU", 0), has.get("GPU", 0)),
            )

    def _greet(self, task: Any) -> None:
        """Count a worker in that has its model; of one that is lost, say so where others are left.

        Raises
        ------
        CnerError: what a worker raises while it starts. ModelError: it is lost, and it is the last.
        """
        from ray.exceptions import RayError

        worker = self._starting.pop(task)
        try:
            self._ray.get(task)
        except RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, CnerError):
                raise cause from None
            reason = reason_of(cause or error, kind=True)
            if not (self._ready or self._starting):
                raise ModelError(f"a worker cannot start: {reason}") from error
            _log.warning("a worker cannot start: %s", reason)
        else:
            self._ready.append(worker)

    def predict_chunks(self, chunks: Iterable[Chunk]) -> Iterator[list[Prediction]]:
        """See `runs.Answers`.

        Raises
        ------
        CnerError: what a worker raises that is no fault of a document; or all workers are lost.
        ModelError: the cluster is gone.
        """
        try:
            yield from self._predict_chunks(chunks)
        except ConnectionError as error:  # an error of the system, as a full disk is one
            raise ModelError(f"the cluster is gone: {reason_of(error, kind=True)}") from error

    def _predict_chunks(self, chunks: Iterable[Chunk]) -> Iterator[list[Prediction]]:
        left = iter(chunks)
        free = deque(self._ready)
        waiting: deque[_Piece] = deque()  # chunks
        again: deque[_Piece] = deque()
        running: dict[Any, tuple[Any, _Piece]] = {}
        while True:
            while free:
                if again:
                    piece = again.popleft()
                # A slow chunk holds up those behind it; others go on meanwhile, up to a bound.
                elif len(waiting) < _AHEAD * self.number and (chunk := next(left, None)):
                    piece = _Piece(chunk)
                    waiting.append(piece)
                else:
                    break
                worker = free.popleft()
                running[worker.predict.remote(piece.documents)] = worker, piece
            if not waiting:
                return
            task = self._first_done(running)
            if task in self._starting:
                known = len(self._ready)
                self._greet(task)
                free += self._ready[known:]
            else:
                worker, piece = running.pop(task)
                again += self._settle(piece, task, worker)
                if worker in self._ready:
                    free.append(worker)
            while waiting and waiting[0].done:
                yield waiting.popleft().predictions

    def _settle(self, piece: _Piece, task: Any, worker: Any) -> list[_Piece]:
        """Take what a worker gives; give what has to be answered again.

        Where a chunk failed as a whole, its documents come one by one.
        """
        from ray.exceptions import RayError, RayTaskError

        try:
            piece.found = self._ray.get(task)
            return []
        except RayTaskError as error:
            if isinstance(error.cause, CnerError):
                raise error.cause from None
            reason = reason_of(error.cause, kind=True)
        except RayError as error:
            if not self._is_there(worker):  # not a document's fault, but its machine's
                self._ready.remove(worker)
                if not (self._ready or self._starting):
                    raise ModelError(
                        f"all workers are lost: {reason_of(error, kind=True)}"
                    ) from None
                _log.warning("a worker is lost: %s", reason_of(error, kind=True))
                return [piece]
            reason = f"its worker was lost {_RETRIES + 1} times ({type(error).__name__})"
        documents = piece.documents
        if len(documents) == 1:
            piece.found = [self.failed(documents[0], reason)]
        else:
            _log.warning("%d documents are answered one by one: %s", len(documents), reason)
            piece.pieces = [_Piece([document]) for document in documents]
        return piece.pieces

    def _is_there(self, worker: Any) -> bool:
        """Whether a worker that was lost has come back."""
        from ray.exceptions import RayError

        try:
            self._ray.get(worker.answer_call.remote(), timeout=4 * _PATIENCE)
        except RayError:
            return False
        return True

    @property
    def _cpus(self) -> int:
        return self.cpus or max(1, (os.cpu_count() or 1) // self.number)

    def _connect(self) -> None:
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        address = self.address or os.environ.get("RAY_ADDRESS", "") or "local"
        if address == "local":
            # As many as they ask for, however few there are: no worker waits for another's place.
            settings |= {"num_cpus": self._cpus * self.number, "include_dashboard": False}
        if not self._ray.is_initialized():
            try:
                self._ray.init(address=address, **settings)
            except (ConnectionError, ImportError, RuntimeError, ValueError) as error:
                raise InputError(
                    f"no Ray cluster at {address!r}: {reason_of(error, kind=True)}"
                ) from None
        there = self._ray.cluster_resources().get("GPU", 0)
        if address == "local" and there < self.gpus:
            raise InputError(f"a worker takes {self.gpus:g} GPUs, and this machine has {there:g}")

    @cached_property
    def _ray(self) -> Any:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the building
        # Ray says this of each process on a machine without a GPU.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError:
            raise MissingExtraError("the engine ray", "ray") from None
        return ray


class _Worker:
    """What runs in an actor."""

    def __init__(self, make: Callable[[], Predictor]):
        self._make = make

    @cached_property
    def predictor(self) -> Predictor:
        # Not with the actor: what goes wrong with a model is an error of a task, which Ray hands
        # over as it is. One that is started again loads its model again.
        return self._make()

    def prepare(self) -> None:
        _ = self.predictor

    def answer_call(self) -> None:
        """It is there."""

    def predict(self, chunk: Chunk) -> list[Prediction]:
        return list(self.predictor.predict(chunk))
