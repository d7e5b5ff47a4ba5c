"""BigBIO's knowledge-base schema, as JSON (a list or lines) and as parquet (extra `bigbio`).

A record has `passages` and `entities`, each with a list of texts and a list of `[start, end]`
offsets into the document. Relations, events and coreferences are passed over.

Source: Fries et al., BigBIO: a framework for data-centric biomedical NLP, 2022.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from constrained_ner.corpora.annotations import Annotation, entities_of, log_repairs
from constrained_ner.corpora.files import File
from constrained_ner.corpora.passages import lay_out
from constrained_ner.documents import Document, Passage
from constrained_ner.errors import InputError, MissingExtraError

Record = dict[str, Any]
Piece = tuple[int, str]


def recognises(file: File) -> bool:
    if file.suffix == ".parquet":
        return True
    head = file.head
    known = all(f'"{key}"' in head for key in ("passages", "entities", "offsets"))
    return known and file.suffix in (".json", ".jsonl", ".ndjson")


def read(file: File) -> Iterator[Document | InputError]:
    """A document for each record, its id the `document_id`.

    An entity that lies outside the text or does not match its own text is logged and skipped.

    Raises
    ------
    InputError: the file cannot be read.
    MissingExtraError: parquet, without the extra.
    """
    repairs: Counter[str] = Counter()
    try:
        for place, record in _records(file):
            if isinstance(record, InputError):
                yield record
                continue
            try:
                yield _document(record, place, repairs)
            except InputError as error:
                yield InputError(f"{place}: {error.reason}")
    finally:  # also when the caller stops early
        log_repairs(repairs, file.place)


def _records(file: File) -> Iterator[tuple[str, object]]:
    """Each record and its place, or an `InputError` for a line that is no JSON."""
    if file.suffix == ".parquet":
        for number, record in enumerate(_parquet(file), 1):
            yield f"{file.place}: record {number}", record
    elif file.suffix == ".json" and file.head.lstrip().startswith("["):
        try:
            records = json.loads(file.text())
        except (ValueError, RecursionError) as error:
            raise InputError(f"not JSON: {error}", file.place) from None
        for number, record in enumerate(records, 1):
            yield f"{file.place}: record {number}", record
    else:
        for number, line in file.lines():
            if isinstance(line, InputError):
                yield "", line
            elif line.strip():
                try:
                    yield f"{file.place}:{number}", json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield "", InputError(f"not JSON: {error}", file.place, number)


def _parquet(file: File) -> Iterator[object]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise MissingExtraError("parquet files", "bigbio") from None
    with TemporaryDirectory() as folder:  # the library wants a path, and a member has none
        path = Path(folder) / "corpus.parquet"
        path.write_bytes(file.read())
        try:
            yield from load_dataset(
                "parquet", data_files=str(path), split="train", streaming=True, cache_dir=folder
            )
        except (OSError, ValueError) as error:
            raise InputError(f"not a parquet file: {error}", file.place) from None


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
    if not isinstance(found, list):
        raise InputError(f"the key {key!r} is {found!r:.80}: expected a list")
    return found


def _document(record: Any, place: str, repairs: Counter[str]) -> Document:
    pieces: list[Piece] = []
    passages = []
    for passage in _list(record, "passages"):
        found = [piece for piece in _pieces(passage, "a passage") if piece[1]]
        pieces += found
        if found and passage.get("type"):
            end = max(offset + len(text) for offset, text in found)
            passages.append(Passage(str(passage["type"]), min(found)[0], end))
    text = lay_out(pieces)
    annotations = []
    for entity in _list(record, "entities"):
        surface = " ".join(piece for _, piece in _pieces(entity, "an entity"))
        fragments = tuple((start, end) for start, end in entity["offsets"])
        label = str(entity.get("type") or "")
        annotations.append(Annotation(place, None, label, fragments, surface))
    id = record.get("document_id") or record.get("id")
    if not isinstance(id, str):
        raise InputError(f"the key 'document_id' is {id!r:.80}: expected a string")
    passages.sort(key=lambda passage: passage.start)
    return Document(id, text, tuple(entities_of(annotations, text, repairs)), tuple(passages))
