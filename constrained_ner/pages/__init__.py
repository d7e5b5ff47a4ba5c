"""Predictions as one HTML file that needs no network: for looking at them, not for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from constrained_ner.atomic import whole
from constrained_ner.corpora.jsonl import entity_to_json
from constrained_ner.documents import Document
from constrained_ner.errors import InputError

_DATA = "/* documents */"


Shown = tuple[Mapping[str, Any], Document | None]


def write_page(records: Iterable[Shown], path: Path, *, title: str = "Entities") -> None:
    """Write records as a page, one document after the other.

    Parameters
    ----------
    records: as `Prediction.to_json` makes them, or without answers; and the gold document of each,
        if there is one. Its entities of the labels that were asked for are compared with what was
        found.

    Raises
    ------
    InputError: the file cannot be written.
    """
    before, after = render("page.html", title=title, data=Markup(_DATA)).split(_DATA)
    try:
        with whole(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
            file.write(before)
            _write_documents(file, records)
            file.write(after)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", path) from None


def _write_documents(file: TextIO, records: Iterable[Shown]) -> None:
    separator = "[\n"
    for record, gold in records:
        file.write(separator + script_data(_shown(record, gold)))
        separator = ",\n"
    file.write("\n]" if separator[0] == "," else "[]")


def _shown(record: Mapping[str, Any], gold: Document | None) -> dict[str, Any]:
    """What the page has to know of a document."""
    if "error" in record:
        return {"id": record["id"], "error": record["error"]}
    answers = record.get("answers", ())
    asked = {label for answer in answers for label in answer.get("labels", ())}
    found = [
        {
            "label": entity["label"],
            "fragments": entity["fragments"],
            **({"confidence": entity["confidence"]} if "confidence" in entity else {}),
        }
        for entity in record.get("entities", ())
    ]
    shown: dict[str, Any] = {
        "id": record["id"],
        "text": record["text"],
        "format": ", ".join(record[key] for key in ("format", "level") if key in record),
        "entities": found,
        "answers": [
            {"labels": [], "answer": ""}
            | {
                key: answer[key]
                for key in (
                    "labels",
                    "segment",
                    "answer",
                    "settled",
                    "problems",
                    "allowed_mass",
                    "forced",
                )
                if answer.get(key) not in (None, [], False)
            }
            for answer in answers
        ],
    }
    if "left_out" in record:
        shown["left_out"] = record["left_out"]
    if gold is not None and gold.text == record["text"] and gold.entities:
        shown["gold"] = [
            entity_to_json(entity)
            for entity in gold.entities
            if entity.label in asked or not answers
        ]
    return shown


def script_data(value: Any) -> Markup:
    """JSON that a script element can hold: nothing in it ends the element or opens another."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def render(template: str, **values: str) -> str:
    """A page.

    Parameters
    ----------
    values: for its holes; `script_data` stands as it is, all else is escaped.
    """
    environment = Environment(
        loader=PackageLoader("constrained_ner.pages"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template(template).render(values)
