"""JSON Lines: `{"id": ..., "text": ..., "entities": [{"label": ..., "fragments": [[s, e]]}]}`.

Offsets are code points into `text`, half-open. `entities` may be missing; other keys are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from constrained_ner.corpora.files import clean_name, numbered_lines
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError


def entity_to_json(entity: Entity) -> dict[str, Any]:
    return {"label": entity.label, "fragments": [list(fragment) for fragment in entity.fragments]}


def document_to_json(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "text": document.text,
        "entities": [entity_to_json(entity) for entity in document.entities],
    }


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


def _entity(value: object) -> Entity:
    if not isinstance(value, dict):
        raise InputError(f"an entity is {value!r:.80}: expected an object")
    label = _string(value.get("label"), "an entity's label")
    fragments = _list(value.get("fragments"), f"the key 'fragments' of an entity {label!r:.80}")
    return Entity(label, tuple(_fragment(fragment) for fragment in fragments))


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
        tuple(_entity(entity) for entity in _list(obj.get("entities", []), "the key 'entities'")),
    )


def read(path: str | Path) -> Iterator[Document | InputError]:
    """One document for each line that is not blank; a missing id becomes `STEM:LINE`.

    Raises
    ------
    InputError: the file is missing.
    """
    stem = clean_name(Path(path).stem)
    for number, line in numbered_lines(path):
        if isinstance(line, InputError):
            yield line
        elif line.strip():
            try:
                yield document_from_json(json.loads(line), f"{stem}:{number}")
            except InputError as error:
                yield InputError(error.reason, path, number)
            except (ValueError, RecursionError) as error:
                yield InputError(f"not JSON: {error}", path, number)


def write(documents: Iterable[Document], path: str | Path) -> None:
    """One record a line, UTF-8, lines ending in a line feed."""
    # a lone surrogate (in an id) is written as backslash, u, four digits, which is JSON's escape
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        for document in documents:
            file.write(json.dumps(document_to_json(document), ensure_ascii=False) + "\n")
