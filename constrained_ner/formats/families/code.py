"""Shared by single_code and multi_code: a Python function that echoes the text and appends items.

The paper prints single_code with multi_tag's example; this is the project's reconstruction.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import ClassVar

from lark import Token, Tree

from constrained_ner.documents import Entity
from constrained_ner.formats.answers import ProblemKind, Reader, values
from constrained_ner.formats.families.terms import (
    JSON_BODY,
    JsonFormat,
    label_strings,
    salvage_object,
    shortest,
    unescape,
)
from constrained_ner.formats.fillings import json_body, quote
from constrained_ner.formats.grammar import Completions

# The function, in the order in which it is written; `grammars/*_code.lark` has the same.
_HEAD = """Answer:
```py
def named_entity_recognition(input_text):
    \"\"\" extract {subject}entities from the input_text. \"\"\"
    input_text = \""""
_AFTER_ECHO = """\"
    entity_list = []
    # extracted entities for {about} {noun}.
"""
_ITEM = "    entity_list.append({item})\n"
_CLOSING = "```"
# What a free model may write of it.
_APPEND = re.compile(r"entity_list\.append\(\s*")
_ECHO = re.compile(r"^[ \t]*input_text = (?P<text>\".*\")[ \t\r]*$", re.MULTILINE)


class CodeFormat(JsonFormat):
    with_type: ClassVar[bool]  # whether an item says its label
    noun: ClassVar[str]  # of the closing comment: `type` or `types`
    whole_items = r"(?<=[)\n])"
    item = re.compile(
        re.escape(_ITEM).replace(
            re.escape("{item}"),
            rf'\{{"text": "(?P<surface>{JSON_BODY})"(?:, "type": (?P<label>"{JSON_BODY}"))?\}}',
        )
    )
    item_end = b"\n"
    closing = _CLOSING

    def about(self, labels: Sequence[str]) -> str:
        """The labels as the comment names them, escaped as in a string: on one line."""
        return json_body(", ".join(labels))

    def after_echo(self, labels: Sequence[str]) -> str:
        return _AFTER_ECHO.format(about=self.about(labels), noun=self.noun)

    def write(self, text: str, entities: Sequence[Entity], labels: Sequence[str]) -> str:
        subject = "" if self.with_type else f"{self.about(labels)} "
        written = [_HEAD.format(subject=subject), json_body(text), self.after_echo(labels)]
        for entity in entities:
            item = {"text": entity.surface(text)}
            if self.with_type:
                item["type"] = entity.label
            written.append(_ITEM.format(item=json.dumps(item, ensure_ascii=False)))
        return "".join([*written, _CLOSING])

    def read(self, tree: Tree[Token], reader: Reader, labels: Sequence[str]) -> None:
        self.check_echo(unescape(values(tree, "input")[0]["SURFACE"]), reader)
        items = values(tree, "item")
        found = [
            (json.loads(i["LABEL"]) if self.with_type else labels[0], unescape(i["SURFACE"]))
            for i in items
        ]
        self.place(found, reader, [(item.span,) for item in items])

    def check_echo(self, echoed: str, reader: Reader) -> None:
        if echoed != reader.text:
            reader.problem(ProblemKind.COPY, f"input_text is {echoed!r}")

    def salvage(self, answer: str, reader: Reader, labels: Sequence[str]) -> None:
        if match := _ECHO.search(answer):
            try:
                self.check_echo(json.loads(match["text"]), reader)
            except json.JSONDecodeError:
                reader.problem(ProblemKind.COPY, f"input_text is {match['text']}")
        else:
            reader.problem(ProblemKind.UNPARSABLE, "no line that sets input_text")
        if not answer.rstrip().endswith("```"):
            reader.problem(ProblemKind.TRUNCATED, f"the code ends with {answer[-40:]!r}")
        items = []
        decoder = json.JSONDecoder()
        for match in _APPEND.finditer(answer):
            try:
                value, _ = decoder.raw_decode(answer, match.end())
            except (ValueError, RecursionError) as error:  # a number may be too long, too
                if getattr(error, "pos", 0) >= len(answer.rstrip()):
                    continue  # cut off, which is said above
                line = answer[match.end() : match.end() + 200].partition("\n")[0]
                reader.problem(ProblemKind.UNPARSABLE, line.rstrip())
                continue
            if item := salvage_object(value, reader, labels):
                items.append(item)
        self.place(items, reader)

    def label_fillings(self, labels: Sequence[str]) -> dict[str, str]:
        fillings = {"about": f"about: {quote(self.about(labels))}"}
        if self.with_type:
            fillings["LABEL"] = label_strings(labels)
        return fillings

    def faithful(self, text: str, labels: Sequence[str]) -> dict[str, str]:
        return super().faithful(text, labels) | {"input": f"input: {quote(json_body(text))}"}

    def completions(self, text: str, labels: Sequence[str]) -> Completions:
        label = json.dumps(shortest(labels), ensure_ascii=False)
        after_text = f'", "type": {label}' if self.with_type else '"'
        end = f"}})\n{_CLOSING}"
        tails = (
            *(_CLOSING, f"\n{_CLOSING}", end, f'"{end}', f"{after_text}{end}"),
            f"{self.after_echo(labels)}{_CLOSING}",
        )
        return lambda partial: tails
