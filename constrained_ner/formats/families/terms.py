"""Shared by the formats that list surfaces without offsets: lists, code and triples."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from lark import Token, Tree

from constrained_ner.documents import Document, Entity
from constrained_ner.formats.alignment import Aligner, most_mentions
from constrained_ner.formats.answers import Places, ProblemKind, Reader, offset, values
from constrained_ner.formats.base import (
    Feature,
    Format,
    TextObstacle,
    too_long_for_fragments,
)
from constrained_ner.formats.fillings import (
    choice,
    item_bound,
    json_body,
    quote,
    surface,
    up_to,
)
from constrained_ner.formats.grammar import Completions, Grammar, RepetitionGuard
from constrained_ner.formats.repetition import REPEATS, bounding_guard, written_items

TERM_FEATURES = frozenset(
    {Feature.NESTED, Feature.SAME_SPAN, Feature.CROSSING, Feature.DISCONTINUOUS}
)


# The inside of a JSON or Python string.
JSON_BODY = r'(?:[^"\\]|\\.)*'


class SurfaceFormat(Format):
    """A format whose items are surfaces; their offsets come from aligning them to the text.

    Subclasses set `item`, a pattern of a whole item with what stands before it: `surface` and, in
    formats with several labels, `label`; `item_end`, its last byte; `separator`, what stands
    between two items; and `closing`, what ends an answer.
    """

    item: ClassVar[re.Pattern[str]]
    item_end: ClassVar[bytes]
    separator: ClassVar[str] = ""
    closing: ClassVar[str]

    def said(self, match: re.Match[str]) -> tuple[str | None, str]:
        """Label and surface of an item."""
        return match.groupdict().get("label"), unescape(match["surface"])

    def spelling(self, text: str) -> str:
        """The text as surfaces spell it."""
        return text

    def escape(self, piece: str) -> str:
        """A piece of the text as answers write it."""
        return self.spelling(piece)

    def repetition_guard(
        self, grammar: Grammar, text: str, labels: Sequence[str]
    ) -> RepetitionGuard:
        """No further item once `REPEATS` were said more often than the text says them.

        Settling drops those: each item takes an occurrence of its own. Annotators write none.
        """
        begin = len(grammar.empty) - len(self.closing)
        spelt, fragments = self.spelling(text), self.options.max_fragments

        def most(said: tuple[str | None, str]) -> int:
            return most_mentions(said[1], spelt, fragments)

        def bound(answer: str) -> int | None:
            items = written_items(answer, begin, self.item, self.said, most)
            ended = self.closing and items.rest.startswith(self.closing[0])
            return None if ended or items.repeats < REPEATS else items.begun - self.listed_first

        return bounding_guard(grammar, self.item_end, bound)

    def place(
        self,
        items: Sequence[tuple[str, str]],
        reader: Reader,
        places: Sequence[Places] = (),
    ) -> None:
        """Align (label, surface) pairs, in the answer's order.

        Parameters
        ----------
        places: of the pairs in the answer, where they are known.
        """
        spelt = self.spelling(reader.text)
        aligner = Aligner(spelt, self.options.max_fragments, self.options.boundaries)
        places = places or [()] * len(items)
        for (label, said), place in zip(items, places, strict=True):
            fragments = aligner.leftmost(said, label)
            if fragments is not None:
                reader.add(label, fragments, place)
            elif aligner.in_text(said):
                reader.problem(ProblemKind.DUPLICATE, f"{label} {said!r}: once more than the text")
            else:
                reader.problem(ProblemKind.NOT_IN_TEXT, f"{label} {said!r}")

    def text_obstacle(self, text: str) -> TextObstacle | None:
        units, fragments = len(self.units(text)), self.options.max_fragments
        return super().text_obstacle(text) or too_long_for_fragments(text, units, fragments)

    @property
    def listed_first(self) -> int:
        """How many items the grammar names before `more`: a list's first one has no separator."""
        return 1 if self.separator else 0

    def faithful(self, text: str, labels: Sequence[str]) -> dict[str, str]:
        further = f"{quote(self.separator)} item" if self.separator else "item"
        most = self.bound(text, labels) - self.listed_first
        fragments = 1, self.options.max_fragments
        return {
            "more": "more: " + up_to(most, further),
            "SURFACE": surface("SURFACE", text, self.units(text), self.escape, fragments),
        }

    def excess(
        self, entity: Entity, kept: Sequence[Entity], document: Document, labels: Sequence[str]
    ) -> str | None:
        most = self.bound(document.text, labels)
        return f"more than {most} items" if len(kept) >= most else None

    def bound(self, text: str, labels: Sequence[str]) -> int:
        return item_bound(len(self.units(text)), len(labels), self.options.max_fragments)


class JsonFormat(SurfaceFormat):
    """A format whose surfaces stand in JSON strings, or in Python's."""

    def escape(self, piece: str) -> str:
        return json_body(piece)

    def spelt(self, text: str, labels: Sequence[str]) -> str:
        return super().spelt(text, labels) + json_body(text)


class StringListFormat(JsonFormat):
    """One label, a JSON list of strings."""

    expresses = TERM_FEATURES
    item = re.compile(rf'(?:, )?"(?P<surface>{JSON_BODY})"')
    item_end = b'"'
    separator = ", "
    closing = "]"

    def write(self, text: str, entities: Sequence[Entity], labels: Sequence[str]) -> str:
        surfaces = [entity.surface(text) for entity in entities]
        return f"Answer: {json.dumps(surfaces, ensure_ascii=False)}"

    def read(self, tree: Tree[Token], reader: Reader, labels: Sequence[str]) -> None:
        items = values(tree, "item")
        found = [(labels[0], unescape(item["SURFACE"])) for item in items]
        self.place(found, reader, [(item.span,) for item in items])

    def salvage(self, answer: str, reader: Reader, labels: Sequence[str]) -> None:
        items = []
        for value in salvage_list(answer, reader):
            if isinstance(value, str) and value.strip():
                items.append((labels[0], value.strip()))
            else:
                reader.problem(ProblemKind.UNPARSABLE, f"{value!r}: expected a string")
        self.place(items, reader)

    def completions(self, text: str, labels: Sequence[str]) -> Completions:
        return lambda partial: ("]", '"]')


def label_strings(labels: Sequence[str]) -> str:
    """`LABEL`: the labels as JSON strings."""
    return choice("LABEL", [json.dumps(label, ensure_ascii=False) for label in labels])


def shortest(labels: Sequence[str]) -> str:
    return min(labels, key=len)


def unescape(body: str) -> str:
    """The string whose JSON spelling has this inside."""
    value: str = json.loads(f'"{body}"')
    return value


def checked_label(label: Any, reader: Reader, labels: Sequence[str]) -> str | None:
    """The label if it was asked for; else None, with a problem."""
    if isinstance(label, str) and label.strip() in labels:
        return label.strip()
    reader.problem(ProblemKind.UNKNOWN_LABEL, f"{label!r}: expected {', '.join(labels)}")
    return None


def salvage_object(value: Any, reader: Reader, labels: Sequence[str]) -> tuple[str, str] | None:
    """(label, surface) from an object such as a free model writes."""
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        reader.problem(ProblemKind.UNPARSABLE, f"{value!r}: expected text and type")
        return None
    label = checked_label(value.get("type"), reader, labels) if "type" in value else None
    if "type" not in value:
        if len(labels) != 1:
            reader.problem(ProblemKind.UNPARSABLE, f"{value!r}: expected text and type")
            return None
        label = labels[0]
    text = value["text"].strip()
    if not text:
        reader.problem(ProblemKind.UNPARSABLE, f"{value!r}: the text is empty")
    return (label, text) if label and text else None


_NO_COMMA = re.compile(r"\s*[\[{\"]")


def salvage_list(answer: str, reader: Reader) -> Iterator[Any]:
    """The values of a JSON list that may be broken, unclosed, or among other words."""
    position = answer.find("[")
    if position < 0:
        if answer.strip() not in ("Answer:", ""):
            reader.problem(ProblemKind.UNPARSABLE, f"{answer!r}: expected a list")
        else:
            reader.problem(ProblemKind.TRUNCATED, f"{answer!r}: expected a list")
        return
    decoder = json.JSONDecoder(parse_int=offset)
    position += 1
    while True:
        while position < len(answer) and answer[position] in " \t\r\n,":
            position += 1
        if position == len(answer):
            reader.problem(ProblemKind.TRUNCATED, "the list is not closed")
            return
        if answer[position] == "]":
            if rest := answer[position + 1 :].strip():
                reader.problem(ProblemKind.UNPARSABLE, f"{rest!r} after the list")
            return
        try:
            value, position = decoder.raw_decode(answer, position)
            yield value
            if _NO_COMMA.match(answer, position):
                reader.problem(ProblemKind.UNPARSABLE, f"no comma behind {value!r}")
        except RecursionError:  # brackets, over and over: no use in trying each of them
            reader.problem(ProblemKind.UNPARSABLE, f"{answer[position:]!r}")
            return
        except json.JSONDecodeError as error:
            if error.pos >= len(answer.rstrip()) or error.msg.startswith("Unterminated string"):
                reader.problem(ProblemKind.TRUNCATED, f"{answer[position:]!r}")
                return
            # Go on at the next thing that may begin a value; what lies between is lost.
            ahead = [answer.find(c, position + 1) for c in '{["]']
            following = min((p for p in ahead if p >= 0), default=len(answer))
            lost = answer[position:following]
            kind = ProblemKind.TRUNCATED if following == len(answer) else ProblemKind.UNPARSABLE
            reader.problem(kind, f"{lost!r}")
            position = following
