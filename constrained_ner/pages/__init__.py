"""Predictions as one HTML file that needs no network, for people to look at."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from constrained_ner.atomic import whole
from constrained_ner.corpora.jsonl import entity_to_json
from constrained_ner.documents import Document
from constrained_ner.errors import InputError
from constrained_ner.evaluation.records import Record
from constrained_ner.pipeline.prediction import Reply

_DATA = "/* documents */"

# What was found in a document, or why nothing was; and its gold annotation, if there is one.
Shown = tuple[Record | InputError, Document | None]


def write_page(records: Iterable[Shown], path: Path, *, title: str = "Entities") -> None:
    """Write records as a page, one document after the other.

    The gold entities of the labels that were asked for are compared with what was found.

    Raises
    ------
    InputError: the file cannot be written.
    """
    # The title stands before them, whatever it is.
    before, _, after = render("page.html", title=title, data=Markup(_DATA)).rpartition(_DATA)
    try:
        # A title or a message may have the name of a file, in whatever encoding.
        with (
            whole(path) as part,
            part.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
        ):
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


# ---- what the page's script is told -------------------------------------------------------------


def _shown(record: Record | InputError, gold: Document | None) -> dict[str, Any]:
    """A document as the script expects it, or the error in its place."""
    if isinstance(record, InputError):
        return {"id": "", "error": str(record)}
    document, prediction = record.document, record.prediction
    if document is None:
        return {"id": record.id, "error": record.error}
    confidences = document.confidences
    replies = prediction.replies if prediction else ()
    shown: dict[str, Any] = {
        "id": document.id,
        "text": document.text,
        "format": f"{prediction.format}, {prediction.level}" if prediction else "",
        "entities": [
            entity_to_json(entity, confidences.get(entity)) for entity in document.entities
        ],
        "answers": [_answer(reply, document.text) for reply in replies],
    }
    if prediction and len(prediction.formats) > 1:
        for answer, reply in zip(shown["answers"], replies, strict=True):
            answer["format"] = f"{reply.format}, {prediction.level}"
    if prediction and prediction.left_out:
        shown["left_out"] = [[start, end, why] for (start, end), why in prediction.left_out]
    if gold is not None and gold.text == document.text:
        asked = {label for reply in replies for label in reply.labels}
        shown["gold"] = [
            entity_to_json(entity)
            for entity in gold.entities
            if entity.label in asked or not replies
        ]
    return shown


def _answer(reply: Reply, text: str) -> dict[str, Any]:
    """An answer; what it has only sometimes is left out where it has not."""
    shown: dict[str, Any] = {"labels": list(reply.labels), "answer": reply.answer}
    if reply.segment != (0, len(text)):
        shown["segment"] = list(reply.segment)
    if reply.settled not in (None, reply.answer):
        shown["settled"] = reply.settled
    if reply.problems:
        shown["problems"] = [[problem.kind, problem.detail] for problem in reply.problems]
    if reply.allowed_mass is not None:
        shown["allowed_mass"] = list(reply.allowed_mass)
    if reply.forced:
        shown["forced"] = True
    return shown


def script_data(value: Any) -> Markup:
    """JSON for a script element, escaped so that nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def render(template: str, **values: str) -> str:
    """A page made of a template.

    Parameters
    ----------
    values: of its variables; all are escaped but those that `script_data` made.
    """
    environment = Environment(
        loader=PackageLoader("constrained_ner.pages"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template(template).render(values)
