"""Prodigy's JSON lines: `{"text": ..., "tokens": [...], "spans": [...], "answer": ...}`.

What `prodigy db-out` writes, and what its recipes take. Records whose `answer` is `reject` or
`ignore` are no gold: they are left out, and so are single spans with such an answer. Prodigy's
`meta`, and keys that are not its own, are the document's `meta`; the `score` of a span is its
confidence. Offsets count characters.

Prodigy wants spans to lie on its tokens. What is written brings its own: runs of word characters
and single other characters, cut where an entity begins or ends.

Source: Prodigy's documentation, "Annotation interfaces" and "Loaders and input data".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TextIO

from constrained_ner.corpora.conversion_losses import ConversionLosses
from constrained_ner.corpora.files import LOGGER, File
from constrained_ner.corpora.json_records import (
    JsonRecord,
    documents_of_records,
    expect_list,
    expect_object,
    first_keys,
    is_list,
    json_line,
    read_records,
)
from constrained_ner.corpora.jsonl import REJECTED, document_from_json, with_inner_meta
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError
from constrained_ner.words import cut_units

Record = Mapping[str, Any]

# Keys of Prodigy's own that are not read: those of other interfaces, and settings. Its keys with an
# underscore are hashes, names of sessions and times.
_OTHER_INTERFACES = frozenset(
    ("accept", "config", "html", "image", "label", "options", "relations", "score", "style")
) | {
    "field_id",
    "field_label",
    "field_placeholder",
    "sessions",
    "user_input",
    "versions",
    "view_id",
}
_READ_KEYS = frozenset(("id", "text", "spans", "tokens", "answer", "meta"))
# Of a span: what repeats its offsets in tokens; where it came from; what is read as its confidence;
# its own answer.
_SPAN_KEYS = frozenset(
    ("token_start", "token_end", "type", "source", "input_hash", "rank", "pattern")
) | {"score", "answer"}
# The interface that asks whether one span is right. There may be more entities in such a text.
_YES_OR_NO = "ner"


def recognises(file: File) -> bool:
    if file.suffix not in (".jsonl", ".ndjson") and not is_list(file):
        return False
    keys = first_keys(file)
    hashed = not keys.isdisjoint(("_input_hash", "_task_hash"))
    spans = "spans" in keys and not keys.isdisjoint(("tokens", "answer"))
    return "text" in keys and (hashed or spans)


# ---- reading ------------------------------------------------------------------------------------


def read(file: File) -> Iterator[Document | InputError]:
    """One document for each record that was not rejected; one without an id is `NAME:NUMBER`.

    Logged at the end: how many records were rejected; how many have the same input as an earlier
    one, as where several people annotated it (each is a document); and how many say of single spans
    only whether they are right.

    Raises
    ------
    InputError: the file is missing, or is a list that is not JSON.
    """
    counts: Counter[str] = Counter()
    try:
        records = _not_rejected(read_records(file), counts)
        yield from documents_of_records(records, lambda record: _document(record, counts))
    finally:  # also when the caller stops early
        for what, count in counts.items():
            if count:
                LOGGER.warning("%s: %d %s", file.place, count, what)


def _not_rejected(
    records: Iterable[JsonRecord | InputError], counts: Counter[str]
) -> Iterator[JsonRecord | InputError]:
    """Those that are gold, while what is to be said of them is counted."""
    seen: set[object] = set()
    for record in records:
        value = record.value if isinstance(record, JsonRecord) else None
        if isinstance(value, dict):
            if value.get("answer") in REJECTED:
                counts["rejected or ignored records, left out"] += 1
                continue
            input_hash = value.get("_input_hash")
            if isinstance(input_hash, int):
                counts["records of the same input as an earlier one"] += input_hash in seen
                seen.add(input_hash)
            counts["records of yes or no to one span: they may lack entities"] += (
                value.get("_view_id") == _YES_OR_NO
            )
        yield record


def _document(record: JsonRecord, counts: Counter[str]) -> Document:
    value = expect_object(record.value, "the record")
    spans = expect_list(value.get("spans") or [], "the key 'spans'")
    kept = [s for s in spans if not (isinstance(s, dict) and s.get("answer") in REJECTED)]
    counts["rejected or ignored spans, left out"] += len(spans) - len(kept)
    plain = {"text": value.get("text"), "spans": list(map(_without_own_keys, kept))}
    if "id" in value:
        plain["id"] = value["id"]
    id = f"{record.file.id}:{record.number}"
    document = document_from_json(plain, id, counts, record.place)
    unread = (f"values of the key {key!r}" for key in value if key in _OTHER_INTERFACES)
    return replace(document, unread=(*document.unread, *unread), meta=_meta(value))


def _without_own_keys(span: object) -> object:
    """A span with its score as JSON lines have it."""
    if not isinstance(span, dict):
        return span
    plain = {key: value for key, value in span.items() if key not in _SPAN_KEYS}
    return plain | {"confidence": span["score"]} if "score" in span else plain


def _meta(record: Record) -> dict[str, Any]:
    """What is the user's own."""
    known = _READ_KEYS | _OTHER_INTERFACES
    own = {k: v for k, v in record.items() if k not in known and not k.startswith("_")}
    return with_inner_meta(own | ({"meta": record["meta"]} if record.get("meta") else {}))


# ---- writing ------------------------------------------------------------------------------------


def write(documents: Iterable[Document], file: TextIO, losses: ConversionLosses) -> None:
    """One record a line, for `ner.manual`, or for `spans.manual` where entities overlap.

    Nothing is answered in it: with predictions as spans it is a task, and `prodigy db-in` takes it
    as accepted.
    """
    for document in documents:
        losses.passages(document)
        entities = losses.contiguous(document)
        tokens = _tokens(document.text, entities)
        record: dict[str, Any] = {
            "id": document.id,
            "text": document.text,
            "spans": _spans(document, entities, tokens),
            "tokens": tokens,
        }
        if document.meta:
            record["meta"] = dict(document.meta)
        file.write(json_line(record))


def _spans(
    document: Document, entities: Iterable[Entity], tokens: Iterable[Record]
) -> list[dict[str, Any]]:
    first = {token["start"]: token["id"] for token in tokens}
    last = {token["end"]: token["id"] for token in tokens}
    spans = []
    for entity in entities:
        span = {
            "start": entity.start,
            "end": entity.end,
            "token_start": first[entity.start],
            "token_end": last[entity.end],  # inclusive
            "label": entity.label,
        }
        if entity in document.confidences:
            span["score"] = document.confidences[entity]
        spans.append(span)
    return spans


def _tokens(text: str, entities: Sequence[Entity]) -> list[dict[str, Any]]:
    """Tokens with `ws`, whether a space follows: with these spaces, they make up the text."""
    starts = {entity.start for entity in entities}
    ends = {entity.end for entity in entities}
    tokens: list[dict[str, Any]] = []
    for start, end in cut_units(text, starts | ends):
        space = text[start:end] == " " and start not in starts and end not in ends
        if space and tokens and tokens[-1]["end"] == start:
            tokens[-1]["ws"] = True
        else:
            token = {"text": text[start:end], "start": start, "end": end, "id": len(tokens)}
            tokens.append(token | {"ws": False})
    return tokens
