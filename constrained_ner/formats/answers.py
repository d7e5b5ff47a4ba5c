"""What is read from an answer: entities, where in the answer they stand, and problems."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from lark import Token, Tree

from constrained_ner.documents import Entity
from constrained_ner.formats.grammar import Level
from constrained_ner.words import Span


class ProblemKind(StrEnum):
    """What can be wrong with an answer."""

    UNPARSABLE = "unparsable"
    UNKNOWN_LABEL = "unknown label"
    NOT_IN_TEXT = "not in the text"
    OFFSET = "offset out of range"
    DUPLICATE = "duplicate"
    TRUNCATED = "truncated"
    COPY = "copy differs from the text"
    DROPPED = "dropped"
    UNMASKED = "written without its grammar"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with an answer, and an excerpt of it."""

    kind: ProblemKind
    detail: str


# Where in an answer something is written: one or more spans of it.
Places = tuple[Span, ...]


@dataclass(frozen=True)
class Decoded:
    """The entities of an answer, in text order, each once, and what was wrong with it.

    Attributes
    ----------
    places: where in the answer each entity stands, if that was read strictly. An item begins where
        the one before it ends; of tags it is the pair of markers, of BIO the run of tags, and of a
        multi_brat line whose surface decides label and surface.
    """

    entities: tuple[Entity, ...]
    problems: tuple[Problem, ...] = ()
    places: Mapping[Entity, Places] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Settled(Decoded):
    """A masked answer after settling.

    Attributes
    ----------
    answer: what `encode` writes for its entities; `places` are those in the answer as it was.
    """

    answer: str = ""


class Reader:
    """Collects the entities of one answer, each once, and the problems with it."""

    def __init__(self, text: str, level: Level):
        self.text = text
        self.level = level
        self.problems: list[Problem] = []
        self.places: dict[Entity, Places] = {}

    def problem(self, kind: ProblemKind, detail: str) -> None:
        self.problems.append(Problem(kind, detail if len(detail) <= 120 else detail[:117] + "..."))

    def add(self, label: str, fragments: Sequence[Span], places: Places = ()) -> bool:
        """Add an entity; False, with a problem, where its offsets cannot be or it is there already.

        Parameters
        ----------
        places: where in the answer it stands.
        """
        spans = list(fragments)
        last = 0
        for start, end in spans:
            if not last <= start < end <= len(self.text):
                self.problem(
                    ProblemKind.OFFSET,
                    f"{label} {spans}: expected start < end <= {len(self.text)}, in text order",
                )
                return False
            last = end
        entity = Entity(label, tuple(spans))
        if entity in self.places:
            self.problem(ProblemKind.DUPLICATE, entity.describe(self.text))
            return False
        self.places[entity] = places
        return True


def body_of(answer: str) -> str:
    """What follows `Answer:` in an answer that nothing holds to its format."""
    return answer.lstrip().removeprefix("Answer:").removeprefix(" ")


def offset(digits: str) -> int:
    """An offset as written. Python reads no number of thousands of digits; none is in a text."""
    return int(digits) if len(digits) < 19 else sys.maxsize


class Item(dict[str, str]):
    """A subtree of an answer's syntax tree: its tokens by their name.

    Attributes
    ----------
    span: where it stands in the answer, with what separates it from the item before it.
    spans: where each of its tokens stands.
    """

    def __init__(self, tokens: Sequence[Token], after: int | None):
        super().__init__({token.type: str(token) for token in tokens})
        self.spans = {token.type: span_of(token) for token in tokens}
        start, end = span_of(tokens[0])[0], span_of(tokens[-1])[1]
        self.span: Span = (start if after is None else after, end)


def span_of(token: Token) -> Span:
    """Where in the answer it stands."""
    start = token.start_pos or 0
    return start, start + len(token)


def values(tree: Tree[Token], rule: str) -> list[Item]:
    """The subtrees of a rule, in the answer's order."""
    found: list[Item] = []
    todo: list[Tree[Token] | Token] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, Token):
            continue
        if node.data == rule:
            tokens = list(node.scan_values(lambda value: isinstance(value, Token)))
            found.append(Item(tokens, found[-1].span[1] if found else None))
        else:
            todo += reversed(node.children)
    return found
