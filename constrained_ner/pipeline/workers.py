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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from constrained_ner.documents import Document
from constrained_ner.errors import CnerError, InputError, MissingExtraError
from constrained_ner.pipeline.prediction import Prediction
from constrained_ner.pipeline.runs import Chunk

if TYPE_CHECKING:
    from constrained_ner.pipeline.predictor import Predictor

_log = logging.getLogger(__name__)
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
    address: of a cluster, as `ray.init` takes it; empty for one of this machine's own, which ends
        with this process.
    cpus: that a worker has; by default its share of this machine. `gpus`: also a part of one.

    Raises
    ------
    MissingExtraError: Ray is not installed.
    """

    make: Callable[[], Predictor]
    failed: Callable[[Document | InputError, str], Prediction]
    number: int
    address: str = ""
    cpus: int = 0
    gpus: float = 0.0

    def predict_chunks(self, chunks: Iterable[Chunk]) -> Iterator[list[Prediction]]:
        """See `runs.Answers`.

        Raises
        ------
        CnerError: what a worker raises that is no fault of a document: there is no such model.
        """
        left = iter(chunks)
        free = deque(self._actors)
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
            if not running:
                return
            for task in self._ray.wait(list(running), num_returns=1)[0]:
                worker, piece = running.pop(task)
                free.append(worker)
                self._settle(piece, task)
                again += piece.pieces
            while waiting and waiting[0].done:
                yield waiting.popleft().predictions

    def _settle(self, piece: _Piece, task: Any) -> None:
        """Take what a worker gives; where it failed as a whole, documents come one by one."""
        from ray.exceptions import RayError, RayTaskError

        try:
            piece.found = self._ray.get(task)
            return
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, CnerError):
                raise cause from None
            reason = f"{type(cause).__name__}: {cause}"
        except RayError as error:  # the worker, its machine or its memory
            reason = f"its worker was lost {_RETRIES + 1} times ({type(error).__name__})"
        reason = " ".join(reason.split())[:300]
        documents = piece.documents
        if len(documents) == 1:
            piece.found = [self.failed(documents[0], reason)]
        else:
            _log.warning("%d documents are answered one by one: %s", len(documents), reason)
            piece.pieces = [_Piece([document]) for document in documents]

    @cached_property
    def _actors(self) -> list[Any]:
        cpus = self.cpus or max(1, (os.cpu_count() or 1) // self.number)
        if not self._ray.is_initialized():
            self._connect(cpus)
        remote = self._ray.remote(
            num_cpus=cpus,
            num_gpus=self.gpus,
            max_restarts=-1,
            max_task_retries=_RETRIES,
            # Each has its own cores, and no more threads than those.
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(cpus)}},
        )(_Worker)
        return [remote.remote(self.make) for _ in range(self.number)]

    def _connect(self, cpus: int) -> None:
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        address = self.address or os.environ.get("RAY_ADDRESS", "")
        if not address:
            # As many as they ask for, however few there are: nothing waits for ever.
            address = "local"
            settings |= {"num_cpus": cpus * self.number, "include_dashboard": False}
        try:
            self._ray.init(address=address, **settings)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"no Ray cluster at {address!r}: {reason}") from None

    @cached_property
    def _ray(self) -> Any:
        # Ray says this of each process on a machine without a GPU.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError:
            raise MissingExtraError("the engine ray", "ray") from None
        return ray


class _Worker:
    """What runs in an actor.

    The model is loaded with the first chunk: what goes wrong with it is an error of that task then,
    and Ray hands it over as it is.
    """

    def __init__(self, make: Callable[[], Predictor]):
        self._make = make

    @cached_property
    def predictor(self) -> Predictor:
        return self._make()

    def predict(self, chunk: Chunk) -> list[Prediction]:
        return list(self.predictor.predict(chunk))
