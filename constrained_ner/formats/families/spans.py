"""Shared by single_span and multi_span: offsets without surfaces."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, ClassVar

from lark import Token, Tree

from constrained_ner.documents import Document, Entity
from constrained_ner.formats.answers import ProblemKind, Reader, offset, values
from constrained_ner.formats.base import Feature, Format, TextObstacle, too_long
from constrained_ner.formats.families.offsets import propose_offsets
from constrained_ner.formats.families.terms import salvage_list
from constrained_ner.formats.fillings import MAX_SAME_START, MAX_SPAN_UNITS, span_list
from constrained_ner.formats.grammar import Completions
from constrained_ner.words import Span

_UNDER_WAY = re.compile(r"\[(?P<start>\d{1,9})(?:, (?P<end>\d{0,9}))?\Z")

SPAN_FEATURES = frozenset({Feature.NESTED, Feature.SAME_SPAN, Feature.CROSSING, Feature.OFFSETS})


class SpanFormat(Format):
    by_place = True
    # What an item has before its offsets, between them and its label, and at its end.
    opening: ClassVar[str]
    middle: ClassVar[str]
    closing: ClassVar[str]

    def written(self, label: str) -> str:
        """The label as an item writes it; "" where it has none."""
        return ""

    def write(self, text: str, entities: Sequence[Entity], labels: Sequence[str]) -> str:
        items = [
            f"{self.opening}{entity.start}, {entity.end}{self.middle}{self.written(entity.label)}"
            f"{self.closing}"
            for entity in entities
        ]
        return f"Answer: [{', '.join(items)}]"

    def read(self, tree: Tree[Token], reader: Reader, labels: Sequence[str]) -> None:
        by_spelling = {self.written(label): label for label in labels}
        for item in values(tree, "item"):
            label = by_spelling[item.get("LABEL", "")]
            reader.add(label, [(offset(item["START"]), offset(item["END"]))], (item.span,))

    def salvage(self, answer: str, reader: Reader, labels: Sequence[str]) -> None:
        for value in salvage_list(answer, reader):
            label, span = self.salvage_item(value, reader, labels)
            if isinstance(span, list) and len(span) == 2 and all(type(x) is int for x in span):
                if label is not None:
                    reader.add(label, [(span[0], span[1])])
            else:
                reader.problem(ProblemKind.UNPARSABLE, f"{value!r}: expected two offsets")

    def salvage_item(
        self, value: Any, reader: Reader, labels: Sequence[str]
    ) -> tuple[str | None, Any]:
        """Label (None where it is not one asked for) and offsets of one value of the list."""
        return labels[0], value

    def excess(
        self, entity: Entity, kept: Sequence[Entity], document: Document, labels: Sequence[str]
    ) -> str | None:
        same = takewhile(lambda other: other.start == entity.start, reversed(kept))
        if sum(1 for _ in same) < MAX_SAME_START:
            return None
        return f"more than {MAX_SAME_START} begin at one place"

    def solid_units(self, text: str) -> list[Span]:
        return [(start, end) for start, end in self.units(text) if not text[start:end].isspace()]

    def text_obstacle(self, text: str) -> TextObstacle | None:
        units = len(self.solid_units(text))
        long = too_long(text, "offsets in text order", units, MAX_SPAN_UNITS)
        return super().text_obstacle(text) or long

    def faithful(self, text: str, labels: Sequence[str]) -> dict[str, str]:
        solid = self.solid_units(text)
        items = span_list(
            self.opening,
            self.middle,
            self.closing,
            [start for start, _ in solid],
            [end for _, end in solid],
            len(labels),
        )
        return {"items": items}

    def completions(self, text: str, labels: Sequence[str]) -> Completions:
        label = min((self.written(label) for label in labels), key=len)
        tail = f"{self.middle}{label}{self.closing}]"
        return lambda partial: [tail[i:] for i in range(len(tail) - 1, -1, -1)]

    def propose_draft(self, written: str, text: str) -> str:
        found = propose_offsets(_UNDER_WAY, ", ", written, text)
        return f"{found[0]}]" if found else ""
