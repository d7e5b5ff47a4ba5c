"""doccano's JSON lines: `{"id": ..., "text": ..., "label": [[start, end, "LABEL"]]}`.

What it exports of a project of sequence labelling: `label` (in older versions `labels`, or
`annotations` with a `user` each), or `entities` where the project has relations. Relations and
comments are passed over and counted; all other keys, and those of an object `meta`, are the user's
own, and the document's `meta`.

Offsets count characters. (A project may count grapheme clusters instead; its export does not say
so, and has no surfaces that would show it.)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TextIO

from constrained_ner.corpora.annotations import repairs_of
from constrained_ner.corpora.conversion_losses import ConversionLosses
from constrained_ner.corpora.files import File
from constrained_ner.corpora.json_records import (
    JsonRecord,
    beginning,
    documents_of_records,
    expect_object,
    first_keys,
    is_list,
    json_line,
    read_records,
)
from constrained_ner.corpora.jsonl import (
    ENTITY_KEYS,
    document_from_json,
    entity_keys,
    with_inner_meta,
)
from constrained_ner.documents import Document
from constrained_ner.errors import InputError

Record = Mapping[str, Any]

# What its records have, and those of few others: of entities, and of the keys `label` and `labels`.
_ENTITIES = re.compile(r'"start_offset":\s*[0-9]')
_TRIPLES = re.compile(r'"labels?":\s*\[\s*(?:\[\s*[0-9]|\])')
_NOT_READ = ("relations", "Comments", "comments", "cats", "annotation_approver")
# Of an entity: numbers in doccano's database.
_NUMBERS = ("id", "user")
_OWN = ("id", "text", "meta", *ENTITY_KEYS, *_NOT_READ)


def recognises(file: File) -> bool:
    if file.suffix not in (".jsonl", ".ndjson") and not is_list(file):
        return False
    keys, start = first_keys(file), beginning(file)
    triples = not keys.isdisjoint(("label", "labels")) and _TRIPLES.search(start)
    entities = not keys.isdisjoint(ENTITY_KEYS) and _ENTITIES.search(start)
    return "text" in keys and bool("annotation_approver" in keys or triples or entities)


# ---- reading ------------------------------------------------------------------------------------


def read(file: File) -> Iterator[Document | InputError]:
    """One document for each record; one without an id is called `NAME:NUMBER`.

    Where several users annotated a text in one record, the entities of the first one are taken.

    Raises
    ------
    InputError: the file is missing, or is a list that is not JSON.
    """
    with repairs_of(file.place) as repairs:
        yield from documents_of_records(
            read_records(file), lambda record: _document(record, repairs)
        )


def _document(record: JsonRecord, repairs: Counter[str]) -> Document:
    value = expect_object(record.value, "the record")
    known = {"id", "text", *entity_keys(value)}
    # a string, or a list of strings, is a category of the whole text
    known.update(k for k in ENTITY_KEYS if k in value and not isinstance(value[k], str | list))
    plain = {key: value[key] for key in value if key in known}
    for key in ENTITY_KEYS:
        if isinstance(plain.get(key), list):
            plain[key] = _of_first_user(plain[key], repairs)
    id = f"{record.file.id}:{record.number}"
    document = document_from_json(plain, id, repairs, record.place)
    own = {k: v for k, v in value.items() if k not in known and k not in _NOT_READ}
    unread = (f"values of the key {key!r}" for key in _NOT_READ if value.get(key))
    return replace(
        document, unread=(*document.unread, *unread), meta={**document.meta, **with_inner_meta(own)}
    )


def _of_first_user(entities: list[Any], repairs: Counter[str]) -> list[Any]:
    """Those of the user who comes first, without doccano's numbers."""
    users = [entity.get("user") if isinstance(entity, dict) else None for entity in entities]
    of_one = [entity for entity, user in zip(entities, users, strict=True) if user == users[0]]
    repairs["annotations of further users, left out"] += len(entities) - len(of_one)
    return [
        {key: value for key, value in entity.items() if key not in _NUMBERS}
        if isinstance(entity, dict)
        else entity
        for entity in of_one
    ]


# ---- writing ------------------------------------------------------------------------------------


def write(documents: Iterable[Document], file: TextIO, losses: ConversionLosses) -> None:
    """One record a line, for a project of sequence labelling that allows overlapping entities."""
    for document in documents:
        losses.passages(document)
        record: dict[str, Any] = {
            "id": document.id,
            "text": document.text,
            "label": [[e.start, e.end, e.label] for e in losses.contiguous(document)],
        }
        for key, value in document.meta.items():
            if key in _OWN:
                losses.add(f"keys {key!r} of the user's, a name that doccano has", document)
            else:
                record[key] = value
        file.write(json_line(record))
