"""multi_triple: one line an entity: `surface; is a; label`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lark import Token, Tree

from constrained_ner.documents import Entity
from constrained_ner.formats.answers import ProblemKind, Reader, body_of, values
from constrained_ner.formats.base import Feature
from constrained_ner.formats.families.terms import (
    TERM_FEATURES,
    SurfaceFormat,
    checked_label,
    shortest,
)
from constrained_ner.formats.fillings import choice
from constrained_ner.formats.grammar import Completions
from constrained_ner.labels import slug, unslug
from constrained_ner.words import one_line

_LINE = re.compile(r"(?P<surface>.+?)\s*;\s*is an?\s*;\s*(?P<label>[^;]+)")


class MultiTriple(SurfaceFormat):
    name = "multi_triple"
    expresses = TERM_FEATURES | {Feature.ALL_LABELS}
    # A label may go on until its line ends.
    item = re.compile(r"\n(?P<surface>[^\n]+); is a; (?P<label>[^;\n]+)(?=\n)")
    item_end = b"\n"
    closing = ""
    whole_items = r"(?=\n)"

    def said(self, match: re.Match[str]) -> tuple[str | None, str]:
        return match["label"], match["surface"]

    def spelling(self, text: str) -> str:
        return one_line(text)

    def instruction(self, labels: Sequence[str]) -> str:
        return (
            f"Write one line for each mention of {', '.join(map(slug, labels))} in the text, in "
            "the order in which they occur: the mention; is a; its type."
        )

    def write(self, text: str, entities: Sequence[Entity], labels: Sequence[str]) -> str:
        return "Answer:" + "".join(
            f"\n{one_line(entity.surface(text))}; is a; {slug(entity.label)}" for entity in entities
        )

    def read(self, tree: Tree[Token], reader: Reader, labels: Sequence[str]) -> None:
        items = values(tree, "item")
        found = []
        for item in items:
            text, _, label = item["TRIPLE"].rpartition("; is a; ")
            found.append((unslug(label), text))
        self.place(found, reader, [(item.span,) for item in items])

    def salvage(self, answer: str, reader: Reader, labels: Sequence[str]) -> None:
        items = []
        for line in filter(None, map(str.strip, body_of(answer).splitlines())):
            match = _LINE.fullmatch(line)
            if not match:
                reader.problem(ProblemKind.UNPARSABLE, f"{line!r}: expected 'mention; is a; type'")
            elif label := checked_label(unslug(match["label"].strip()), reader, labels):
                items.append((label, match["surface"]))
        self.place(items, reader)

    def label_fillings(self, labels: Sequence[str]) -> dict[str, str]:
        return {"LABEL": choice("LABEL", [slug(label) for label in labels])}

    def completions(self, text: str, labels: Sequence[str]) -> Completions:
        separator = "; is a; "
        label = shortest([slug(label) for label in labels])
        tails = [separator[i:] + label for i in range(len(separator), -1, -1)]
        return lambda partial: tails
