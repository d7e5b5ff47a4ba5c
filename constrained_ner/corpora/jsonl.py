"""JSON Lines: `{"id": ..., "text": ..., "entities": [{"label": ..., "fragments": [[s, e]]}]}`.

Offsets are code points into `text`, half-open. `entities` may be missing, and so may `passages`,
`[{"type": ..., "start": ..., "end": ...}]`. The surface of an entity, `surface` or `text`, may be
missing; where it is stated, it has to be what stands at the offsets, in another spelling at most.

The entities of tools are read, too: spaCy's `spans`, `[{"start": s, "end": e, "label": ...}]`, and
`labels` or `label`, `[[s, e, label]]`; each of these forms under each of these keys. (What looks
like a file of Prodigy or doccano is read by `prodigy` or `doccano`.) The records may also be the
items of one JSON list.

Keys that are none of these are the user's own (`Document.meta`). They are written under `meta`,
where no key of ours can ever have their names; an object `meta` of a record that is read is the
same. So `{"meta": {"ward": 3}}` comes back as it is, and `{"ward": 3}` as `{"meta": {"ward": 3}}`.
What else a record says is counted (`Document.unread`): keys of entities, and what `cner predict`
adds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TextIO

from constrained_ner.corpora.annotations import STRIPPED, Annotation, highest, stripped
from constrained_ner.corpora.conversion_losses import ConversionLosses
from constrained_ner.corpora.files import LOGGER, File
from constrained_ner.corpora.json_records import (
    JsonRecord,
    documents_of_records,
    expect_list,
    expect_object,
    expect_string,
    is_list,
    json_line,
    read_records,
)
from constrained_ner.corpora.offsets import StandoffText
from constrained_ner.documents import Document, Entity, Passage
from constrained_ner.errors import InputError

Record = Mapping[str, Any]

# Where tools keep entities, and what they call the two offsets of one.
ENTITY_KEYS = ("entities", "labels", "label", "spans", "annotations")
_OFFSET_KEYS = (("start", "end"), ("start_offset", "end_offset"))
# What only repeats the text at the offsets, and is compared with it.
_SURFACE_KEYS = ("surface", "text")
_READ_KEYS = {"id", "text", "passages"}
_READ_ENTITY_KEYS = {"label", "fragments", *_SURFACE_KEYS, *_OFFSET_KEYS[0], *_OFFSET_KEYS[1]}
_CONFIDENCE, _SECTION = "confidence", "section"
_META = "meta"
# What `cner predict` adds to every document that it answers; to some of them.
_PREDICTION_KEYS = {"format", "level", "options", "answers"}
_OTHER_PREDICTION_KEYS = {"calibrated", "fingerprint", "left_out"}
_PREDICTION_ENTITY_KEYS = {"also", "by_format"}
# Prodigy's `answer`, where the annotations are wrong or nobody has decided.
REJECTED = ("reject", "ignore")


def recognises(file: File) -> bool:
    if file.suffix in (".jsonl", ".ndjson"):
        return True
    first = next(iter(file.head_lines), "").strip()
    if is_list(file):
        return '"text"' in file.head
    if file.suffix == ".json":  # one JSON object over many lines is something else
        return first != "{" and not first.startswith('{"%')  # that is a UIMA CAS
    return file.suffix == ".txt" and first.startswith("{") and '"text"' in first


def entity_to_json(
    entity: Entity, confidence: float | None = None, section: str | None = None
) -> dict[str, Any]:
    fragments = [list(fragment) for fragment in entity.fragments]
    known = {_CONFIDENCE: confidence, _SECTION: section}
    return {
        "label": entity.label,
        "fragments": fragments,
        **{key: value for key, value in known.items() if value is not None},
    }


def document_to_json(document: Document) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": document.id,
        "text": document.text,
        "entities": [
            entity_to_json(entity, document.confidences.get(entity), document.sections.get(entity))
            for entity in document.entities
        ],
    }
    if document.passages:
        record["passages"] = [asdict(passage) for passage in document.passages]
    if document.meta:
        record[_META] = dict(document.meta)
    return record


def _string(value: object, what: str) -> str:
    string = expect_string(value, what)
    try:
        string.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} has the lone surrogate {string[error.start]!r} at offset {error.start}: "
            "expected a string that can be encoded as UTF-8"
        ) from None
    return string


def _fragment(value: object) -> tuple[int, int]:
    # bool is a subclass of int, but `true` is no offset
    if isinstance(value, list) and len(value) == 2 and all(type(n) is int for n in value):
        return value[0], value[1]
    raise InputError(f"a fragment is {value!r:.80}: expected [start, end], two integers")


def entity_from_json(value: object) -> Entity:
    """The entity that `entity_to_json`, or one of the tools named above, describes.

    Raises
    ------
    InputError: a key is missing or of a wrong type.
    """
    if isinstance(value, list) and len(value) == 3:
        *fragment, label = value
        return Entity(_string(label, "an entity's label"), (_fragment(fragment),))
    if not isinstance(value, dict):
        raise InputError(f"an entity is {value!r:.80}: expected an object, or [start, end, label]")
    if "label" not in value:
        keys = ", ".join(map(repr, value)) or "no key"
        raise InputError(f"an entity has {keys:.80}: expected 'label', and its offsets")
    label = _string(value["label"], "an entity's label")
    for start, end in _OFFSET_KEYS:
        if "fragments" not in value and start in value and end in value:
            return Entity(label, (_fragment([value[start], value[end]]),))
    fragments = expect_list(
        value.get("fragments"), f"the key 'fragments' of an entity {label!r:.80}"
    )
    return Entity(label, tuple(_fragment(fragment) for fragment in fragments))


def _entity_key(record: Record) -> str:
    """The key under which a record has its entities; `entities` where there are none.

    Raises
    ------
    InputError: there are several.
    """
    found = [key for key in ENTITY_KEYS if _holds_entities(record, key)]
    if len(found) > 1:
        raise InputError(f"there are entities under {' and '.join(map(repr, found))}: expected one")
    if not found:  # an object is no list of them, and is refused where it is read
        found = [key for key in ("spans", "annotations") if isinstance(record.get(key), dict)]
    return found[0] if found else "entities"


def _holds_entities(record: Record, key: str) -> bool:
    """Whether a value may be a list of entities: `label` may also be that of the whole text."""
    value = record.get(key)
    return isinstance(value, list) and any(isinstance(item, list | dict) for item in value)


def entity_keys(record: Record) -> set[str]:
    """The keys that are known to be for entities, those with an empty list included."""
    return {key for key in ENTITY_KEYS if record.get(key) == [] or _holds_entities(record, key)}


def _is_prediction(record: Record) -> bool:
    """Whether it is what `cner predict` writes of a document."""
    return record.keys() >= _PREDICTION_KEYS


def _unknown_keys(record: Record) -> list[str]:
    known = _READ_KEYS | entity_keys(record)
    if _is_prediction(record):
        known |= _PREDICTION_KEYS | _OTHER_PREDICTION_KEYS
    return [key for key in record if key not in known]


def with_inner_meta(own: dict[str, Any]) -> dict[str, Any]:
    """The user's own values, those in an object `meta` among the others.

    Where it has a name that stands beside it, too, it is a value like the others.
    """
    inner, outer = own.get(_META), {key: own[key] for key in own if key != _META}
    if isinstance(inner, dict) and not inner.keys() & outer.keys():
        return {**inner, **outer}
    return own


def _confidence(value: object) -> float | None:
    """How sure an entity is said to be; None where that is no number from 0 to 1."""
    found = value.get(_CONFIDENCE) if isinstance(value, dict) else None
    # bool is a subclass of int, but `true` is no probability
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if 0 <= found <= 1 else None


def _section(value: object) -> str:
    """The section that an entity is said to stand in; empty where that is none."""
    found = value.get(_SECTION) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def _unread(record: Record, entities: Iterable[object]) -> Iterator[str]:
    """What else a record says, in the words in which `ConversionLosses` counts it."""
    if _is_prediction(record):
        yield "records of `cner predict` whose answers and settings are not kept"
    for entity in entities:
        known = _READ_ENTITY_KEYS | (_PREDICTION_ENTITY_KEYS if _is_prediction(record) else set())
        known |= {_CONFIDENCE} if _confidence(entity) is not None else set()
        known |= {_SECTION} if _section(entity) else set()
        for key in entity if isinstance(entity, dict) else ():
            if key not in known:
                yield f"values of the entities' key {key!r}"


def _said_again(entities: Sequence[Entity]) -> Iterator[str]:
    for _ in range(len(entities) - len(set(entities))):
        yield "annotations that say the same as another one"


def _passage(value: object) -> Passage:
    found = expect_object(value, "a passage")
    start, end = found.get("start"), found.get("end")
    if type(start) is not int or type(end) is not int:
        raise InputError(f"a passage is {value!r:.80}: expected integers 'start' and 'end'")
    return Passage(_string(found.get("type"), "a passage's type"), start, end)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """A record with our names for the keys that a user has named.

    What stood under our names is one of the user's own values then, as in a table.
    """
    if not isinstance(value, dict) or not names:
        return value
    found = {ours: _there(value, theirs) for theirs, ours in names.items()}
    others = {key: one for key, one in value.items() if key not in names}
    displaced = {key: one for key, one in others.items() if key in found}
    kept = {key: one for key, one in others.items() if key not in found}
    if displaced:
        inner = kept.get(_META, {})
        kept[_META] = {**displaced, **(inner if isinstance(inner, dict) else {_META: inner})}
    return {**kept, **found}


def _there(record: Record, key: str) -> Any:
    if key not in record:
        raise InputError(
            f"the record has no key {key!r}, but {', '.join(map(repr, record))!s:.200}"
        )
    return record[key]


def _id(value: object, default: str | None) -> str:
    """An id as a string: integers, also those that a table made `1.0`; the default for null."""
    if value is None and default is not None:
        return default
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if type(value) is int else _string(value, "the key 'id'")


def document_from_json(
    obj: object,
    default_id: str | None = None,
    repairs: Counter[str] | None = None,
    place: str = "",
) -> Document:
    """The document that a parsed record describes.

    Parameters
    ----------
    default_id: the id of a record that has none.
    repairs: of a record that people made: its entities are stripped of white space, which is
        counted here, and those that cannot be are skipped, with a warning. By default they are
        taken as they are.
    place: of the record, for these warnings.

    Raises
    ------
    InputError: a key is missing or of a wrong type; without `repairs`, too, where an offset lies
        outside the text, or a surface is not what stands at its offsets.
    """
    obj = expect_object(obj, "the record")
    id = _id(obj.get("id"), default_id)
    key = _entity_key(obj)
    values = expect_list(obj.get(key, []), f"the key {key!r}")
    text = _string(_there(obj, "text"), "the key 'text'")
    if repairs is not None:
        mended = list(_mended(values, text, place or f"document {id!r}", repairs))
        values, entities = [value for value, _ in mended], [entity for _, entity in mended]
    else:
        entities = [entity_from_json(value) for value in values]
    document = Document(
        id,
        text,
        tuple(entities),
        tuple(
            _passage(value) for value in expect_list(obj.get("passages", []), "the key 'passages'")
        ),
        unread=(*_unread(obj, values), *_said_again(entities)),
        confidences=highest(zip(entities, map(_confidence, values), strict=True)),
        meta=with_inner_meta({key: obj[key] for key in _unknown_keys(obj)}),
        sections={
            entity: section
            for entity, value in zip(entities, values, strict=True)
            if (section := _section(value))
        },
    )
    if repairs is None:
        standoff = StandoffText(document.text)
        for value, entity in zip(values, entities, strict=True):
            _check_surfaces(_surfaces(value), entity, standoff)
    return document


def _mended(
    values: Iterable[object], text: str, place: str, repairs: Counter[str]
) -> Iterator[tuple[object, Entity]]:
    """The entities that can be, each with its value; a warning of each of the others."""
    standoff = StandoffText(text)
    for value in values:
        try:
            entity = entity_from_json(value)
            _check_surfaces([*_surfaces(value), None], entity, standoff)
        except InputError as error:
            LOGGER.warning("%s: skipped an annotation: %s", place, error.reason)
            continue
        fragments = stripped(entity.fragments, text)
        repairs[STRIPPED] += fragments != entity.fragments
        yield value, Entity(entity.label, fragments)


def _surfaces(value: object) -> list[str]:
    """The surfaces that an entity states."""
    stated = [value.get(key) for key in _SURFACE_KEYS] if isinstance(value, dict) else []
    return [surface for surface in stated if isinstance(surface, str) and surface.strip()]


def _check_surfaces(surfaces: Iterable[str | None], entity: Entity, text: StandoffText) -> None:
    """See that each surface that is stated stands at the entity's offsets.

    It does not where the offsets count bytes, or the last character in place of the end. None
    stands for no surface: then only the offsets are looked at.
    """
    for surface in surfaces:
        annotation = Annotation("", None, entity.label, entity.fragments, surface)
        if problem := annotation.problem(text):
            raise InputError(f"an entity {entity.label!r:.80}: {problem}")


def read(
    file: File, text_column: str | None = None, id_column: str | None = None
) -> Iterator[Document | InputError]:
    """One document for each record; one without an id is called `NAME:NUMBER`.

    Records that Prodigy's user has rejected or ignored are left out; their number is logged. A
    warning names lists that may be annotations where no record has any that are known.

    Parameters
    ----------
    text_column, id_column: the keys of the text and the id, where these are not `text` and `id`.

    Raises
    ------
    InputError: the file is missing, or is a list that is not JSON; or both keys are the same.
    """
    if text_column is not None and text_column == id_column:
        raise InputError(f"the key {text_column!r} cannot be text and id", file.place)
    named = {text_column: "text", id_column: "id"}
    names = {theirs: ours for theirs, ours in named.items() if theirs is not None}
    rejected = 0
    annotated = False
    lists: Counter[str] = Counter()

    def kept() -> Iterator[JsonRecord | InputError]:
        nonlocal rejected, annotated
        for record in read_records(file):
            value = record.value if isinstance(record, JsonRecord) else None
            if _is_rejected(value):
                rejected += 1
                continue
            if isinstance(value, dict):
                annotated = annotated or bool(entity_keys(value))
                lists.update(_unknown_lists(value))
            yield record

    try:
        yield from documents_of_records(kept(), lambda record: _document(record, names))
    finally:  # also when the caller stops early
        if rejected:
            LOGGER.warning("%s: %d rejected or ignored records, left out", file.place, rejected)
        if lists and not annotated:
            LOGGER.warning(
                "%s: no record has entities, but some have lists that are not read, %s: expected "
                "entities under one of %s",
                file.place,
                ", ".join(f"{key!r} ({count} times)" for key, count in lists.items()),
                ", ".join(ENTITY_KEYS),
            )


def _document(record: JsonRecord, names: Mapping[str, str]) -> Document:
    value = _renamed(record.value, names)
    return document_from_json(value, f"{record.file.id}:{record.number}")


def _is_rejected(value: object) -> bool:
    """Also where a file is not recognised as Prodigy's: nothing rejected is ever gold."""
    return isinstance(value, dict) and "spans" in value and value.get("answer") in REJECTED


def _unknown_lists(record: Record) -> list[str]:
    """The keys of lists that are not read; they may be annotations of an unknown kind."""
    return [key for key in _unknown_keys(record) if record[key] and type(record[key]) is list]


def write(documents: Iterable[Document], file: TextIO, losses: ConversionLosses) -> None:
    """One record a line: everything is kept."""
    for document in documents:
        file.write(json_line(document_to_json(document)))
