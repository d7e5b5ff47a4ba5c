"""JSON Lines: `{"id": ..., "text": ..., "entities": [{"label": ..., "fragments": [[s, e]]}]}`.

Offsets are code points into `text`, half-open. `entities` may be missing, and so may `passages`,
`[{"type": ..., "start": ..., "end": ...}]`; other keys are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any, TextIO

from constrained_ner.corpora.conversion_losses import ConversionLosses
from constrained_ner.corpora.files import File
from constrained_ner.documents import Document, Entity, Passage
from constrained_ner.errors import InputError


def entity_to_json(entity: Entity) -> dict[str, Any]:
    return {"label": entity.label, "fragments": [list(fragment) for fragment in entity.fragments]}


def document_to_json(document: Document) -> dict[str, Any]:
    record = {
        "id": document.id,
        "text": document.text,
        "entities": [entity_to_json(entity) for entity in document.entities],
    }
    if document.passages:
        record["passages"] = [asdict(passage) for passage in document.passages]
    return record


def _string(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{what} is {value!r:.80}: expected a string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} has the lone surrogate {value[error.start]!r} at offset {error.start}: "
            "expected a string that can be encoded as UTF-8"
        ) from None
    return value


def _list(value: object, what: str) -> list[object]:
    if not isinstance(value, list):
        raise InputError(f"{what} is {value!r:.80}: expected a list")
    return value


def _fragment(value: object) -> tuple[int, int]:
    # bool is a subclass of int, but `true` is no offset
    if isinstance(value, list) and len(value) == 2 and all(type(n) is int for n in value):
        return value[0], value[1]
    raise InputError(f"a fragment is {value!r:.80}: expected [start, end], two integers")


def entity_from_json(value: object) -> Entity:
    """The entity that `entity_to_json` describes.

    Raises
    ------
    InputError: a key is missing or of a wrong type.
    """
    if not isinstance(value, dict):
        raise InputError(f"an entity is {value!r:.80}: expected an object")
    label = _string(value.get("label"), "an entity's label")
    fragments = _list(value.get("fragments"), f"the key 'fragments' of an entity {label!r:.80}")
    return Entity(label, tuple(_fragment(fragment) for fragment in fragments))


def _passage(value: object) -> Passage:
    if not isinstance(value, dict):
        raise InputError(f"a passage is {value!r:.80}: expected an object")
    start, end = value.get("start"), value.get("end")
    if type(start) is not int or type(end) is not int:
        raise InputError(f"a passage is {value!r:.80}: expected integers 'start' and 'end'")
    return Passage(_string(value.get("type"), "a passage's type"), start, end)


def document_from_json(obj: object, default_id: str | None = None) -> Document:
    """The document that a parsed record describes.

    Parameters
    ----------
    default_id: the id of a record that has none.

    Raises
    ------
    InputError: a key is missing or of a wrong type, or an offset lies outside the text.
    """
    if not isinstance(obj, dict):
        raise InputError(f"the record is {obj!r:.80}: expected an object")
    return Document(
        _string(obj.get("id", default_id), "the key 'id'"),
        _string(obj.get("text"), "the key 'text'"),
        tuple(
            entity_from_json(entity)
            for entity in _list(obj.get("entities", []), "the key 'entities'")
        ),
        tuple(_passage(value) for value in _list(obj.get("passages", []), "the key 'passages'")),
    )


def read(file: File) -> Iterator[Document | InputError]:
    """One document for each line that is not blank; a missing id becomes `NAME:LINE`.

    Raises
    ------
    InputError: the file is missing.
    """
    for number, line in file.lines():
        if isinstance(line, InputError):
            yield line
        elif line.strip():
            try:
                yield document_from_json(json.loads(line), f"{file.id}:{number}")
            except InputError as error:
                yield InputError(error.reason, file.place, number)
            except (ValueError, RecursionError) as error:
                yield InputError(f"not JSON: {error}", file.place, number)


def write(documents: Iterable[Document], file: TextIO, losses: ConversionLosses) -> None:
    """One record a line: everything is kept."""
    for document in documents:
        file.write(json.dumps(document_to_json(document), ensure_ascii=False) + "\n")
