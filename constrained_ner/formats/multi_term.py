"""multi_term: surfaces and labels, as a JSON list of objects."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from lark import Token, Tree

from constrained_ner.documents import Entity
from constrained_ner.formats.answers import Reader, values
from constrained_ner.formats.base import Feature
from constrained_ner.formats.families.terms import (
    JSON_BODY,
    TERM_FEATURES,
    JsonFormat,
    label_strings,
    salvage_list,
    salvage_object,
    shortest,
    unescape,
)
from constrained_ner.formats.grammar import Completions


class MultiTerm(JsonFormat):
    name = "multi_term"
    expresses = TERM_FEATURES | {Feature.ALL_LABELS}
    item = re.compile(
        rf'(?:, )?\{{"text": "(?P<surface>{JSON_BODY})", "type": (?P<label>"{JSON_BODY}")\}}'
    )
    item_end = b"}"
    separator = ", "
    closing = "]"

    def instruction(self, labels: Sequence[str]) -> str:
        return (
            f"List the mentions of {', '.join(labels)} in the text, in the order in which they "
            'occur, as a JSON list of objects with the keys "text" and "type".'
        )

    def write(self, text: str, entities: Sequence[Entity], labels: Sequence[str]) -> str:
        items = [{"text": entity.surface(text), "type": entity.label} for entity in entities]
        return f"Answer: {json.dumps(items, ensure_ascii=False)}"

    def read(self, tree: Tree[Token], reader: Reader, labels: Sequence[str]) -> None:
        items = values(tree, "item")
        found = [(json.loads(item["LABEL"]), unescape(item["SURFACE"])) for item in items]
        self.place(found, reader, [(item.span,) for item in items])

    def salvage(self, answer: str, reader: Reader, labels: Sequence[str]) -> None:
        found = [salvage_object(value, reader, labels) for value in salvage_list(answer, reader)]
        self.place([item for item in found if item], reader)

    def label_fillings(self, labels: Sequence[str]) -> dict[str, str]:
        return {"LABEL": label_strings(labels)}

    def completions(self, text: str, labels: Sequence[str]) -> Completions:
        label = json.dumps(shortest(labels), ensure_ascii=False)
        return lambda partial: ("]", "}]", '"}]', f'", "type": {label}}}]')
