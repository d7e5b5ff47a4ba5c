"""BigBIO's knowledge-base schema, as JSON (a list or lines) and as parquet (extra `tables`).

A record has `passages` and `entities`, each with a list of texts and a list of `[start, end]`
offsets into the document. Relations, events, coreferences and concept identifiers are passed over
and counted.

Source: Fries et al., BigBIO: a framework for data-centric biomedical NLP, 2022.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from constrained_ner.corpora import parquet
from constrained_ner.corpora.annotations import Annotation, repairs_of, well_formed
from constrained_ner.corpora.files import File, encodable
from constrained_ner.corpora.json_records import (
    JsonRecord,
    beginning,
    documents_of_records,
    expect_list,
    expect_string,
    first_keys,
    read_records,
)
from constrained_ner.corpora.passages import Piece, document_of
from constrained_ner.documents import Document
from constrained_ner.errors import InputError

Record = dict[str, Any]


def recognises(file: File) -> bool:
    if file.suffix == parquet.SUFFIX:
        return {"passages", "entities"} <= set(parquet.columns_if_readable(file))
    if file.suffix not in (".json", ".jsonl", ".ndjson"):
        return False
    keys = first_keys(file)  # our own records have passages, too, but beside a text
    known = {"passages", "entities"} <= keys and "text" not in keys
    return known and '"offsets"' in beginning(file)


def read(file: File) -> Iterator[Document | InputError]:
    """A document for each record, its id the `document_id`.

    An entity that lies outside the text or does not match its own text is logged and skipped.

    Raises
    ------
    InputError: the file cannot be read.
    MissingExtraError: parquet, without the extra.
    """
    records = _parquet(file) if file.suffix == parquet.SUFFIX else read_records(file)
    with repairs_of(file.place) as repairs:
        yield from documents_of_records(
            records, lambda r: document_of_record(r.value, r.place, repairs)
        )


def _parquet(file: File) -> Iterator[JsonRecord | InputError]:
    for number, row in enumerate(parquet.rows(file), 1):
        record = JsonRecord(row, file, number, None)
        yield record.error(row.reason) if isinstance(row, InputError) else record


def _pieces(item: object, what: str) -> list[Piece]:
    """(offset, text) pairs of a passage or an entity."""
    offsets = item.get("offsets") if isinstance(item, dict) else None
    texts = item.get("text") if isinstance(item, dict) else None
    if isinstance(offsets, list) and isinstance(texts, list) and len(offsets) == len(texts):
        pieces = [
            (pair[0], text)
            for pair, text in zip(offsets, texts, strict=True)
            if isinstance(pair, list) and [type(n) for n in pair] == [int, int]
            if isinstance(text, str)
        ]
        if len(pieces) == len(texts):
            return pieces
    raise InputError(f"{what} is {item!r:.80}: expected lists 'text' and 'offsets' alike")


def _list(record: object, key: str) -> list[Any]:
    found = record.get(key, []) if isinstance(record, dict) else None
    return expect_list(found, f"the key {key!r}")


def _size(record: Record, key: str) -> int:
    found = record.get(key)
    return len(found) if isinstance(found, list) else 0


def document_of_record(record: Any, place: str, repairs: Counter[str]) -> Document:
    """The document that a record describes.

    Raises
    ------
    InputError: a key is missing or of a wrong type, or passages overlap.
    """
    passages = []
    for passage in _list(record, "passages"):
        pieces = _pieces(passage, "a passage")
        passages.append((str(passage.get("type") or ""), pieces))
    for key in ("relations", "events", "coreferences"):
        repairs[f"{key}, passed over"] += _size(record, key)

    def annotations_of(entity: Any) -> Iterator[Annotation]:
        surface = " ".join(piece for _, piece in _pieces(entity, "an entity"))
        fragments = tuple((start, end) for start, end in entity["offsets"])
        label = str(entity.get("type") or "")
        repairs["concept identifiers, passed over"] += _size(entity, "normalized")
        yield Annotation(place, None, label, fragments, surface)

    annotations = well_formed(_list(record, "entities"), annotations_of, lambda _: place)
    id = expect_string(record.get("document_id") or record.get("id"), "the key 'document_id'")
    return document_of(encodable(id), passages, annotations, place, repairs)
