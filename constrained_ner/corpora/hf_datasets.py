"""Data sets of Hugging Face's library `datasets`, as `save_to_disk` leaves them (extra `datasets`).

A folder of one data set, or of one with splits, whose documents come one split after the other.
By its columns a row is

- a `text`, with `entities` (or `spans`, `labels` ...) as JSON lines have them;
- BigBIO's schema: `passages`, `entities`;
- `tokens` with `ner_tags` (or `tags`, `labels`, `ner`): a text of its tokens, joined by one space,
  or the `text` in which they stand. Beside `entities` they are a view of these.

Numbers of a `ClassLabel` are its names. The other columns are the document's `meta`.

Written are `id`, `text`, `entities`, `passages`, `meta` (as JSON text, since columns have one type)
and a view of the same for token classification, `tokens` and `ner_tags`: it has the entities that
do not overlap, of others the longest; the tokens are cut where they begin and end.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from constrained_ner.corpora import bigbio
from constrained_ner.corpora.annotations import repairs_of
from constrained_ner.corpora.conll import TAG, mentions_of
from constrained_ner.corpora.conversion_losses import ConversionLosses
from constrained_ner.corpora.files import FileSet, encodable
from constrained_ner.corpora.json_records import json_value
from constrained_ner.corpora.jsonl import ENTITY_KEYS, document_from_json, entity_keys
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError, reason_of, require
from constrained_ner.words import (
    Span,
    covering,
    is_word_character,
    joined,
    mention_tags,
    tokens_cut_at,
)

Row = dict[str, Any]

_TOKENS, _TAGS = "tokens", ("ner_tags", "tags", "labels", "ner")
_SPLITS, _ONE = "dataset_dict.json", "dataset_info.json"


def check_installed() -> None:
    """Raises `MissingExtraError` without the library."""
    require("datasets", "data sets of Hugging Face", "datasets")


# ---- reading ------------------------------------------------------------------------------------


def recognises(file_set: FileSet) -> bool:
    names = file_set.files.keys()
    return _SPLITS in names or {_ONE, "state.json"} <= names


def read(file_set: FileSet) -> Iterator[Document | InputError]:
    """A document for each row; one without an id is called `SPLIT:NUMBER`, or by its number.

    Raises
    ------
    InputError: it is no folder, cannot be read, or has no columns that say texts.
    MissingExtraError: the library is not installed.
    """
    check_installed()
    from datasets import Dataset, load_from_disk

    if not recognises(file_set):
        raise InputError("holds no data set that `save_to_disk` made", file_set.path)
    if not file_set.path.is_dir():
        raise InputError("expected the folder that `save_to_disk` makes, not packed", file_set.path)
    try:
        found = load_from_disk(str(file_set.path))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"not a data set: {reason_of(error)}", file_set.path) from None
    splits = {"": found} if isinstance(found, Dataset) else dict(found)
    with repairs_of(file_set.path) as repairs:
        for split, rows in splits.items():
            yield from _documents(rows, file_set.path / split, split, repairs)


def _documents(
    rows: Any, place: Path, split: str, repairs: Counter[str]
) -> Iterator[Document | InputError]:
    _check_columns(rows.column_names, place)
    for number in range(1, len(rows) + 1):
        try:
            row = rows[number - 1]
        except (ValueError, OverflowError) as error:  # text that is no UTF-8, a date that is none
            yield InputError(f"row {number}: {reason_of(error)}", place)
            continue
        named = {key: json_value(_named(value, rows.features[key])) for key, value in row.items()}
        try:
            id = f"{split}:{number}" if split else str(number)
            yield _document(named, id, f"{place}: row {number}", repairs)
        except InputError as error:
            yield InputError(f"row {number}: {error.reason}", place)


def _check_columns(columns: Sequence[str], place: Path) -> None:
    known = set(columns)
    if not known & {"text", "passages"} and not (_TOKENS in known and known & set(_TAGS)):
        raise InputError(
            f"the columns are {', '.join(columns)}: expected text, or tokens and ner_tags, or "
            "BigBIO's passages and entities",
            place,
        )


def _named(value: Any, feature: Any) -> Any:
    """A value with the names of its class labels, and without keys that have no value."""
    from datasets import ClassLabel

    if value is None:
        return None
    if isinstance(feature, ClassLabel):
        return feature.int2str(value) if 0 <= value < feature.num_classes else value
    inner = getattr(feature, "feature", feature)
    if isinstance(value, list):
        inner = inner[0] if isinstance(inner, list) else inner
        return [_named(item, inner) for item in value]
    if isinstance(value, dict) and isinstance(inner, dict):
        named = {key: _named(item, inner[key]) for key, item in value.items()}
        return {key: item for key, item in named.items() if item is not None}
    return value


def _document(row: Row, id: str, place: str, repairs: Counter[str]) -> Document:
    present = {key: _items(value, key) for key, value in row.items() if value is not None}
    text = row.get("text") if isinstance(row.get("text"), str) else None
    tags = [key for key in _TAGS if _are_tags(present.get(key), present.get(_TOKENS))]
    if text is not None:
        plain = {key: value for key, value in present.items() if key not in (_TOKENS, *tags)}
        # Tags are a view of the entities, if there are any. Of this name they are tags, or wrong.
        tagged = bool(tags) or {_TOKENS, _TAGS[0]} <= present.keys()
        if not tagged or entity_keys(plain):
            return document_from_json((plain if tags else present) | _meta(present), id)
    elif "passages" in row:
        return bigbio.document_of_record(present, place, repairs)
    key = next((key for key in (*tags, *_TAGS) if key in present), "ner_tags")
    text, entities = _tagged(present.get(_TOKENS), present.get(key), text, repairs)
    other = {name: value for name, value in present.items() if name not in (_TOKENS, *tags, key)}
    made = document_from_json({**other, "text": text, "entities": []} | _meta(present), id)
    return Document(made.id, text, tuple(entities), unread=made.unread, meta=made.meta)


def _items(value: Any, key: str) -> Any:
    """Lists of entities and passages, which `Sequence` makes dictionaries of lists."""
    many = key in (*ENTITY_KEYS, "passages") and isinstance(value, dict)
    if not many or not all(isinstance(column, list) for column in value.values()):
        return value
    return [dict(zip(value, item, strict=True)) for item in zip(*value.values(), strict=False)]


def _are_tags(value: object, tokens: object) -> bool:
    """Whether a column has a tag for each of the tokens, and not other words of the user's."""
    if not isinstance(value, list) or not isinstance(tokens, list) or len(value) != len(tokens):
        return False
    return all(isinstance(tag, str) and TAG.fullmatch(tag) for tag in value)


def _meta(row: Row) -> Row:
    """What stands as JSON text in the column `meta`."""
    try:
        found = json.loads(row.get("meta", ""))
    except (TypeError, ValueError, RecursionError):
        return {}
    return {"meta": found} if isinstance(found, dict) else {}


def _tagged(
    tokens: object, tags: object, text: str | None, repairs: Counter[str]
) -> tuple[str, list[Entity]]:
    """The text of tokens, and the entities that their tags say.

    Parameters
    ----------
    text: that of the row, where the tokens may stand; else they are joined.
    """
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise InputError(f"the tokens are {tokens!r:.80}: expected a list of strings")
    if not isinstance(tags, list) or len(tags) != len(tokens):
        raise InputError(f"{len(tokens)} tokens have the tags {tags!r:.80}: expected one each")
    for tag in tags:
        if not isinstance(tag, str) or not TAG.fullmatch(tag) or (tag != "O" and len(tag) < 3):
            raise InputError(
                f"unknown tag {tag!r:.80}: expected O, or B-, I-, E-, S-, L- or U- and a label, or "
                "numbers of a ClassLabel with such names"
            )
    some = [(token, tag) for token, tag in zip(tokens, tags, strict=True) if token]
    repairs["empty tokens, passed over"] += len(tokens) - len(some)
    words, tags = [token for token, _ in some], [tag for _, tag in some]
    spans = None if text is None else _places(words, text)
    repairs["texts in which their tokens do not stand: the tokens are read"] += (
        text is not None and spans is None
    )
    if text is None or spans is None:
        text, spans = joined(words)
    mentions, orphans = mentions_of((tag[0], tag[2:]) for tag in tags)
    repairs["tags that continue nothing, read as beginnings"] += len(orphans)
    entities = [
        Entity(label, ((spans[first][0], spans[last][1]),)) for label, first, last in mentions
    ]
    return text, entities


def _places(words: Sequence[str], text: str) -> list[Span] | None:
    """Where words stand in a text, one after the other; None where there are others between."""
    found: list[Span] = []
    at = 0
    for word in words:
        start = text.find(word, at)
        if start < 0 or any(map(is_word_character, text[at:start])):
            return None
        at = start + len(word)
        found.append((start, at))
    return found


# ---- writing ------------------------------------------------------------------------------------


def to_dataset(documents: Iterable[Document]) -> Any:
    """A `datasets.Dataset` of documents, a row each; see above for its columns.

    Raises
    ------
    MissingExtraError: the library is not installed.
    """
    check_installed()
    from datasets import ClassLabel, Dataset, Features, List, Value

    rows = [_row(document) for document in documents]
    labels = sorted({tag[2:] for row in rows for tag in row["ner_tags"] if tag != "O"})
    names = ["O", *(f"{kind}-{label}" for label in labels for kind in "BI")]
    entity = {
        "label": Value("string"),
        "fragments": List(List(Value("int64"))),
        "surface": Value("string"),
        "confidence": Value("float64"),
    }
    passage = {"type": Value("string"), "start": Value("int64"), "end": Value("int64")}
    features = Features(
        {
            "id": Value("string"),
            "text": Value("string"),
            "entities": List(entity),
            "passages": List(passage),
            "meta": Value("string"),
            "tokens": List(Value("string")),
            "ner_tags": List(ClassLabel(names=names)),
        }
    )
    columns = {name: [row[name] for row in rows] for name in features}
    return Dataset.from_dict(columns, features=features)


def write(documents: Iterable[Document], folder: Path, losses: ConversionLosses) -> None:
    """A new folder, as `save_to_disk` makes it. The corpus is held in memory."""
    from datasets import disable_progress_bars, enable_progress_bars
    from datasets.utils import are_progress_bars_disabled

    def encoded() -> Iterator[Document]:
        for document in documents:
            if document.id != encodable(document.id):
                losses.add("ids written otherwise", document)
            yield document

    data = to_dataset(encoded())
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        # without rows it would be written in no files, which the library cannot read
        data.save_to_disk(str(folder), num_shards=None if len(data) else 1)
    finally:
        if shown:
            enable_progress_bars()


def _row(document: Document) -> Row:
    flat = _flat(document)
    text = document.text
    tokens = tokens_cut_at(text, ((entity.start, entity.end) for entity in flat))
    tags = ["O"] * len(tokens)
    for entity in flat:
        span = covering(tokens, entity.start, entity.end)
        if span is not None:  # else it begins or ends with white space
            first, last = span
            tags[first:last] = mention_tags(entity.label, last - first)
    return {
        "id": encodable(document.id),
        "text": text,
        "entities": [_entity(document, entity) for entity in document.entities],
        "passages": [asdict(passage) for passage in document.passages],
        "meta": json.dumps(dict(document.meta), ensure_ascii=True),
        "tokens": [text[s:e] for s, e in tokens],
        "ner_tags": tags,
    }


def _flat(document: Document) -> list[Entity]:
    """Contiguous entities that do not overlap: the longest, or else the first."""
    kept: list[Entity] = []
    for entity in sorted(document.entities, key=lambda e: (e.start - e.end, e.key)):
        apart = all(entity.end <= other.start or other.end <= entity.start for other in kept)
        if apart and not entity.discontinuous:
            kept.append(entity)
    return kept


def _entity(document: Document, entity: Entity) -> Mapping[str, Any]:
    return {
        "label": entity.label,
        "fragments": [list(fragment) for fragment in entity.fragments],
        "surface": entity.surface(document.text),
        "confidence": document.confidences.get(entity),
    }
