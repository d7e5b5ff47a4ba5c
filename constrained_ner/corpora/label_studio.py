r"""Label Studio's tasks: its exports JSON and JSON-MIN, and pre-annotated tasks to import.

A task has `data` with the text and, in `annotations` (or `predictions`), lists `result` of regions:
`{"type": "labels", "value": {"start": ..., "end": ..., "text": ..., "labels": [...]}}`. A region
with several labels is an entity of each. What else was asked of a text (choices, relations) is
passed over and counted.

Of several annotations of a task one is taken: the ground truth or, where none is marked so, the one
that was updated last. Skipped ones (`was_cancelled`) are no gold. A task that nobody has annotated
is read with its last prediction, whose scores are confidences; a warning says how many there are.

The text is `data.text`, else what the regions' `to_name` names in `data`, else its only string;
regions whose `to_name` is another string of `data` are passed over and counted.
`data.document_id` is the document's id, else the task's number. All other strings, numbers, lists
and objects of `data` are the document's `meta`.

Offsets count characters; old versions counted UTF-16 units, which shows in the surfaces. There `\n`
may stand for a line break. Regions of HTML are read by their `globalOffsets`, where these fit the
text as it is stored.

Source: the task format of Label Studio's documentation, and the tests of its editor.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TextIO

from constrained_ner.corpora.annotations import (
    Annotation,
    annotated,
    log_repairs,
    probability,
    well_formed,
)
from constrained_ner.corpora.conversion_losses import ConversionLosses
from constrained_ner.corpora.files import LOGGER, File, encodable
from constrained_ner.corpora.json_records import (
    JsonRecord,
    documents_of_records,
    expect_object,
    expect_objects,
    is_list,
    read_records,
)
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError

Record = Mapping[str, Any]

# The names of the two tags that every labeling interface for entities has, as in the templates.
LABELS_TAG, TEXT_TAG = "label", "text"
_ID = "document_id"
# Data of other kinds of tasks, of which a file name is no text.
_MEDIA = frozenset(("image", "img", "audio", "video", "pdf", "url"))
_REGIONS = ("labels", "hypertextlabels")
# What is no gold, and is read all the same.
_PREDICTED = "tasks that nobody has annotated, read with their last predictions"
_EMPTY = "tasks that nobody has annotated, read as without entities"
# What JSON-MIN adds to the keys of `data`, and to those of the tags.
_MIN_KEYS = frozenset(
    ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement")
)


def recognises(file: File) -> bool:
    if not is_list(file):
        return False
    keys = {key for key in ("annotations", "completions", "predictions") if f'"{key}"' in file.head}
    tasks = bool(keys) and ('"result"' in file.head or '"data"' in file.head)
    return tasks or ('"annotation_id"' in file.head and '"lead_time"' in file.head)


# ---- reading ------------------------------------------------------------------------------------


def read(file: File) -> Iterator[Document | InputError]:
    """One document for each task.

    A region that lies outside the text or does not match its own text is logged and skipped.

    Raises
    ------
    InputError: the file cannot be read, or is a list that is not JSON.
    """
    repairs: Counter[str] = Counter()
    try:
        tasks = documents_of_records(_tasks(read_records(file)), lambda t: _document(t, repairs))
        yield from (document for document in tasks if document is not None)
    finally:  # also when the caller stops early
        for what in (_PREDICTED, _EMPTY):
            if count := repairs.pop(what, 0):
                LOGGER.warning("%s: %d %s", file.place, count, what)
        log_repairs(repairs, file.place)


def _tasks(
    records: Iterable[JsonRecord | InputError],
) -> Iterator[JsonRecord | InputError]:
    """Each task in the form of the JSON export; of JSON-MIN, the records of one task together."""
    minimal: dict[str, tuple[JsonRecord, Record, list[Record]]] = {}
    for record in records:
        if isinstance(record, InputError):
            yield record
        elif not isinstance(record.value, dict):
            yield record.error(f"the task is {record.value!r:.80}: expected an object")
        elif "annotation_id" in record.value:
            data, annotation = _from_minimal(record.value)
            id = str(record.value.get("id", f"{record.file.id}:{record.number}"))
            _, _, of_task = minimal.setdefault(id, (record, data, []))
            of_task.append(annotation)
        else:
            yield record
    for name, (first, data, of_task) in minimal.items():
        yield replace(first, value={"id": name, "data": data, "annotations": of_task})


def _from_minimal(record: Record) -> tuple[Record, Record]:
    """The data and the annotation of a record of JSON-MIN.

    A key is that of a tag if it has a list of regions.
    """
    data, regions = {}, []
    for key, value in record.items():
        if isinstance(value, list) and any(isinstance(v, dict) and "start" in v for v in value):
            regions += [{"type": "labels", "value": region} for region in value]
        elif key not in _MIN_KEYS:
            data[key] = value
    return data, {"result": regions, "updated_at": record.get("updated_at")}


def _document(record: JsonRecord, repairs: Counter[str]) -> Document | None:
    """None where every annotator has skipped the task."""
    task: Any = record.value
    data = expect_object(task.get("data"), "the key 'data'")
    answer = _answer(task, repairs)
    if answer is None:
        return None
    regions = expect_objects(answer.get("result") or [], "the key 'result'")
    text_key = _text_key(data, regions)
    id = data.get(_ID, task.get("id"))
    plain = Document(
        encodable(str(id)) if isinstance(id, str | int) else f"{record.file.id}:{record.number}",
        data[text_key],
        meta={key: value for key, value in data.items() if key not in (text_key, _ID)},
    )
    named = [region for region in regions if region.get("type") in _REGIONS]
    repairs["results that are no regions with labels, passed over"] += len(regions) - len(named)
    others = set(_texts(data)) - {text_key}
    of_text = [region for region in named if str(region.get("to_name")) not in others]
    repairs["regions of other texts of a task, passed over"] += len(named) - len(of_text)
    annotations = well_formed(
        of_text,
        lambda region: _annotations(region, plain.text, record.place),
        lambda _: record.place,
    )
    return annotated(plain, annotations, repairs)


def _answer(task: Record, repairs: Counter[str]) -> Record | None:
    """The annotation or prediction that is taken; None where the task was skipped."""
    key = "annotations" if "annotations" in task else "completions"
    annotations = expect_objects(task.get(key) or [], f"the key {key!r}")
    kept = [a for a in annotations if not a.get("was_cancelled")]
    if annotations and not kept:
        repairs["tasks that every annotator skipped, left out"] += 1
        return None
    if kept:
        repairs["annotations of a task besides the one that is taken, left out"] += len(kept) - 1
        return max(kept, key=_standing)
    predictions = expect_objects(task.get("predictions") or [], "the key 'predictions'")
    if predictions:
        repairs[_PREDICTED] += 1
        return predictions[-1]
    repairs[_EMPTY] += 1
    return {}


def _standing(annotation: Record) -> tuple[bool, str]:
    """Of several annotations the one with the highest is taken."""
    return bool(annotation.get("ground_truth")), str(annotation.get("updated_at") or "")


def _texts(data: Record) -> list[str]:
    """The keys of the data that may be texts."""
    return [key for key, value in data.items() if isinstance(value, str) and key != _ID]


def _text_key(data: Record, regions: Iterable[Record]) -> str:
    """The key of the text among the data."""
    strings = _texts(data)
    named = [str(region.get("to_name")) for region in regions if region.get("type") in _REGIONS]
    only = [key for key in strings if key not in _MEDIA] if len(strings) == 1 else []
    for key in (TEXT_TAG, *named, *only):
        if key in strings:
            return key
    raise InputError(f"the data have the keys {', '.join(map(repr, data))}: expected 'text'")


def _annotations(region: Record, text: str, place: str) -> Iterator[Annotation]:
    """One for each label of a region; one without a label where there is none."""
    value = expect_object(region.get("value"), "the value of a region")
    surface = value.get("text")
    if not isinstance(surface, str) or not surface.strip():
        surface = None
    elif "\\n" not in text:
        surface = surface.replace("\\n", "\n")
    confidence = probability(str(region.get("score")))
    labels = value.get(str(region["type"])) or value.get("labels") or [""]
    for label in labels if isinstance(labels, list) else [labels]:
        yield Annotation(place, None, str(label), (_offsets(value),), surface, confidence)


def _offsets(value: Record) -> tuple[int, int]:
    """Where a region begins and ends in its text; of HTML, in the text that is shown of it."""
    inside = value.get("globalOffsets") if isinstance(value.get("start"), str) else value
    if isinstance(inside, dict):
        start, end = inside.get("start"), inside.get("end")
        if type(start) is int and type(end) is int:
            return start, end
    raise InputError(f"a region is {dict(value)!r:.80}: expected integers 'start' and 'end'")


# ---- writing ------------------------------------------------------------------------------------


def write(documents: Iterable[Document], file: TextIO, losses: ConversionLosses) -> None:
    """One list of tasks whose entities are predictions, for people to accept or to correct.

    The score of a prediction, by which Label Studio sorts tasks, is the least confidence in it.
    """
    file.write("[")
    for number, document in enumerate(documents):
        losses.passages(document)
        file.write(",\n" if number else "\n")
        file.write(json.dumps(_task(document, losses), ensure_ascii=False))
    file.write("\n]\n")


def _task(document: Document, losses: ConversionLosses) -> dict[str, Any]:
    prediction: dict[str, Any] = {"model_version": "constrained_ner"}
    entities = losses.contiguous(document)
    if sure := [document.confidences[e] for e in entities if e in document.confidences]:
        prediction["score"] = min(sure)
    prediction["result"] = [
        _region(document, entity, number) for number, entity in enumerate(entities)
    ]
    data: dict[str, Any] = {TEXT_TAG: document.text, _ID: document.id}
    for key, value in document.meta.items():
        if key in data:
            losses.add(f"keys {key!r} of the user's, a name that the task has", document)
        else:
            data[key] = value
    # the predictions come first: a file is recognised by its beginning
    return {"predictions": [prediction], "data": data}


def _region(document: Document, entity: Entity, number: int) -> dict[str, Any]:
    region: dict[str, Any] = {
        "id": f"e{number}",
        "from_name": LABELS_TAG,
        "to_name": TEXT_TAG,
        "type": "labels",
        "value": {
            "start": entity.start,
            "end": entity.end,
            "text": entity.surface(document.text),
            "labels": [entity.label],
        },
    }
    if entity in document.confidences:
        region["score"] = document.confidences[entity]
    return region
