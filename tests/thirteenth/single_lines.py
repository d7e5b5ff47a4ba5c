"""single_lines: one line a surface. It is added by a test, to see that one module is enough."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lark import Token, Tree

from constrained_ner.documents import Entity
from constrained_ner.formats.answers import Reader, values
from constrained_ner.formats.families.terms import TERM_FEATURES, SurfaceFormat
from constrained_ner.formats.grammar import Completions
from constrained_ner.words import one_line


class SingleLines(SurfaceFormat):
    name = "single_lines"
    expresses = TERM_FEATURES
    item = re.compile(r"\n- (?P<surface>[^\n]+)(?=\n)")
    item_end = b"\n"
    closing = ""

    def said(self, match: re.Match[str]) -> tuple[str | None, str]:
        return None, match["surface"]

    def spelling(self, text: str) -> str:
        return one_line(text)

    def instruction(self, labels: Sequence[str]) -> str:
        return f"Write one line for each {labels[0]} in the text: a hyphen, and the mention."

    def write(self, text: str, entities: Sequence[Entity], labels: Sequence[str]) -> str:
        return "Answer:" + "".join(f"\n- {one_line(entity.surface(text))}" for entity in entities)

    def read(self, tree: Tree[Token], reader: Reader, labels: Sequence[str]) -> None:
        items = values(tree, "item")
        found = [(labels[0], item["SURFACE"]) for item in items]
        self.place(found, reader, [(item.span,) for item in items])

    def salvage(self, answer: str, reader: Reader, labels: Sequence[str]) -> None:
        lines = re.findall(r"^\s*-\s*(.*\S)\s*$", answer, re.MULTILINE)
        self.place([(labels[0], line) for line in lines], reader)

    def completions(self, text: str, labels: Sequence[str]) -> Completions:
        return lambda partial: ("- x", " x", "x")
