"""Entities and documents, and the orders in which entities are listed.

Offsets are half-open and count Unicode code points of the text exactly as it is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from constrained_ner.errors import InputError


@dataclass(frozen=True, slots=True)
class Entity:
    """A label and one or more fragments of a text.

    An entity with one fragment is *contiguous*, with several it is *discontinuous*.

    Parameters
    ----------
    label: any string that is not empty.
    fragments: pairs of start and end in text order, which do not overlap.

    Raises
    ------
    InputError: the label is empty, or the fragments are not as above.
    """

    label: str
    fragments: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if not self.label:
            raise InputError("an entity has an empty label")
        if not self.fragments:
            raise InputError(f"an entity {self.label!r} has no fragments")
        last = 0
        for start, end in self.fragments:
            if not last <= start < end:
                raise InputError(
                    f"entity {self.label!r} has the fragments {list(self.fragments)}: expected "
                    "0 <= start < end, in text order, without overlap"
                )
            last = end

    @property
    def start(self) -> int:
        return self.fragments[0][0]

    @property
    def end(self) -> int:
        return self.fragments[-1][1]

    def overlaps(self, other: Entity) -> bool:
        """Whether they have a character in common."""
        return any(s < u and t < e for s, e in self.fragments for t, u in other.fragments)

    @property
    def key(self) -> tuple[int, int, str, tuple[tuple[int, int], ...]]:
        """What text order sorts by: the start, then the end (the later first), then the label."""
        return self.start, -self.end, self.label, self.fragments

    @property
    def discontinuous(self) -> bool:
        return len(self.fragments) > 1

    def surface(self, text: str) -> str:
        """The fragments' text, joined by one space."""
        return " ".join(text[start:end] for start, end in self.fragments)

    def describe(self, text: str) -> str:
        """The label, offsets and surface, for messages."""
        offsets = ";".join(f"{start}-{end}" for start, end in self.fragments)
        return f"{self.label} {offsets} {self.surface(text)!r}"


def text_order(entities: Iterable[Entity]) -> tuple[Entity, ...]:
    """The entities sorted by start, then end (the later first), then label; each only once."""
    return tuple(sorted(set(entities), key=attrgetter("key")))


def paper_order(entities: Iterable[Entity], text: str) -> tuple[Entity, ...]:
    """The entities sorted by surface, ignoring case: the order of answers in the paper."""
    return tuple(
        sorted(text_order(entities), key=lambda e: (e.surface(text).casefold(), e.label.casefold()))
    )


@dataclass(frozen=True, slots=True)
class Passage:
    """A named part of a text, such as its title. The offsets are half-open."""

    type: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Document:
    """A text and, if they are known, its entities, which are kept in text order.

    Parameters
    ----------
    passages: named parts of the text in text order. They do not overlap, and need not cover it.
    unread: what else its record says, for `ConversionLosses` to count.
    confidences: how sure a model is of each entity, from 0 to 1, where that is known.
    meta: what its record has under keys that are the user's own, such as a date; JSON values.
    sections: the title of the section that each entity stands in, where that is known.

    The last four are ignored when documents are compared.

    Raises
    ------
    InputError: the text cannot be encoded as UTF-8, or an entity or a passage lies outside of it.
    """

    id: str
    text: str
    entities: tuple[Entity, ...] = ()
    passages: tuple[Passage, ...] = ()
    unread: tuple[str, ...] = field(default=(), compare=False, repr=False)
    confidences: Mapping[Entity, float] = field(default_factory=dict, compare=False, repr=False)
    meta: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    sections: Mapping[Entity, str] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        try:
            self.text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"document {self.id!r}: lone surrogate {self.text[error.start]!r} at offset "
                f"{error.start}: expected text that can be encoded as UTF-8"
            ) from None
        for entity in self.entities:
            if entity.end > len(self.text):
                raise InputError(
                    f"document {self.id!r}: {entity.label} {list(entity.fragments)} ends after "
                    f"the text, which has {len(self.text)} characters"
                )
        last = 0
        for passage in self.passages:
            if not last <= passage.start < passage.end <= len(self.text):
                raise InputError(
                    f"document {self.id!r}: passage {passage.type!r} {passage.start}-{passage.end} "
                    f"of {len(self.text)} characters: expected passages in text order, without "
                    "overlap, inside the text"
                )
            last = passage.end
        object.__setattr__(self, "entities", text_order(self.entities))
