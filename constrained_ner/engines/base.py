"""What an engine is: requests go in, and answers come out as they end.

A new engine is a module here with a subclass of `Engine`; its name stands in `engines.ENGINES`, and
`engines.choose_engine` has a branch for it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch

from constrained_ner.engines.costs import Costs
from constrained_ner.errors import CnerError, DecodingError
from constrained_ner.formats.grammar import Grammar

if TYPE_CHECKING:
    from constrained_ner.engines.language_model import LanguageModel
    from constrained_ner.engines.sequence import ConstrainedSequence


@dataclass(eq=False)
class Request:
    """A prompt to be answered.

    Parameters
    ----------
    prompt: token ids.
    budget: the most tokens of the answer, its end included.
    grammar: what the answer follows; None for a free one.
    schema: the JSON schema that the answer follows, for engines that take no grammar.
    messages: what the prompt is made of, for engines that take no tokens.
    name: what to call it in messages.
    kind: answers of one kind, say a format, teach each other's drafts.
    propose_draft: from the end of the answer so far to how it is likely to go on, see
        `Format.propose_draft`.
    key: for the caller.
    sequence: the empty answer under the grammar, if it is there already; it serves once.
    wanted: whether anybody still waits for the answer; an engine may give up one that nobody does.
    """

    prompt: list[int]
    budget: int
    grammar: Grammar | None = None
    name: str = "prompt"
    kind: str = ""
    propose_draft: Callable[[str], str] | None = None
    key: Any = None
    sequence: ConstrainedSequence | None = None
    schema: dict[str, Any] | None = None
    messages: Sequence[dict[str, str]] = ()
    wanted: Callable[[], bool] = lambda: True


@dataclass(frozen=True)
class Step:
    """What was recorded of one token.

    Attributes
    ----------
    token: its id.
    masked: its log-probability under the mask. `free`: by the model alone; None where the engine
        does not say.
    allowed_mass: the share of the model's probability that the mask lets through, 0 to 1; None
        where `free` is.
    """

    token: int
    free: float | None
    masked: float
    allowed_mass: float | None

    @classmethod
    def of(cls, token: int, free: float, masked: float) -> Step:
        """By both log-probabilities, whose difference is what the mask leaves out."""
        return cls(token, free, masked, math.exp(min(0.0, free - masked)))


@dataclass(frozen=True)
class Answer:
    """What a model wrote.

    Attributes
    ----------
    text: the answer, without the token that ends it.
    tokens: its token ids, the one that ends it included where there is one.
    ended: whether it came to its end, and was not cut off by the budget.
    forced: whether the budget made a masked answer end where the model would have gone on.
    steps: a record of each token, where they were asked for.
    guaranteed: False where an engine did not apply the grammar that it was given.
    """

    text: str
    tokens: tuple[int, ...]
    ended: bool
    forced: bool = False
    steps: tuple[Step, ...] = ()
    guaranteed: bool = True


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do.

    Attributes
    ----------
    grammars: it masks by a grammar of each request, else by a JSON schema. Answers end by it within
        any budget that holds the shortest one; those of other engines that are cut, and ended here,
        may go some tokens beyond it.
    log_probabilities: it records `Step`s.
    """

    grammars: bool = True
    log_probabilities: bool = True


Requests = Callable[[], Request | None]
Answered = tuple[Request, Answer | CnerError]


class Engine(ABC):
    """A model that answers requests, several at a time.

    Parameters
    ----------
    rows: how many answers are written at the same time.
    record: keep `Step`s.
    costs: what to add to what answering takes.
    """

    capabilities: ClassVar[Capabilities]

    def __init__(
        self, model: LanguageModel, rows: int, *, record: bool = False, costs: Costs | None = None
    ):
        self.model = model
        self.rows = rows
        self.record = record
        self.costs = costs or Costs()

    def decode(self, requests: Requests) -> Iterator[Answered]:
        """Each request with its answer, as they come to their ends, or with what went wrong.

        Where memory runs out, what is being answered is begun anew, half as much at a time.

        Parameters
        ----------
        requests: gives the next one, or None where there is none for now. Decoding ends when there
            is none and nothing is being answered.
        """
        under_way: dict[Request, None] = {}  # in their order
        again: deque[Request] = deque()

        def next_request() -> Request | None:
            request = again.popleft() if again else requests()
            if request is not None:
                under_way[request] = None
            return request

        while True:
            try:
                for request, answer in self._decode(next_request):
                    del under_way[request]
                    yield request, answer
                return
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
            lost = list(under_way)
            under_way.clear()
            if self.rows == 1:
                for request in lost:
                    yield request, DecodingError(f"{request.name}: out of memory")
            else:
                again.extendleft(reversed(lost))
                self.rows //= 2
            self._free_memory()

    @abstractmethod
    def _decode(self, requests: Requests) -> Iterator[Answered]:
        """`decode`, without a thought for memory."""

    def _free_memory(self) -> None:
        """Give back what can be made again."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class Chosen(NamedTuple):
    """An engine for a model.

    Attributes
    ----------
    make: the engine, of a model and a number of rows; see `Engine`.
    capabilities: what it can do.
    name: of it.
    unsupported_reason: why it is not the speculative engine that was asked for; else empty.
    """

    make: Callable[..., Engine]
    capabilities: Capabilities
    name: str
    unsupported_reason: str = ""


def out_of_memory(error: RuntimeError) -> bool:
    """Of the device, or of this machine, for which torch has no error of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
