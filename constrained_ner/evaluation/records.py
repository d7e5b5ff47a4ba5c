"""Prediction files: what `cner predict` writes, or any corpus, read as one record a document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from constrained_ner.corpora import INPUT_FORMATS, read
from constrained_ner.corpora.files import File
from constrained_ner.corpora.json_records import read_records
from constrained_ner.corpora.jsonl import document_from_json
from constrained_ner.documents import Document
from constrained_ner.errors import CnerError, InputError
from constrained_ner.formats import Options
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.prediction import Health, Prediction
from constrained_ner.pipeline.runs import RECORDS, SHARDS, kind_of_shards


@dataclass(frozen=True)
class Setting:
    """How answers were written and read.

    Attributes
    ----------
    format: a name, or several with commas between them.
    """

    format: str
    level: Level = Level.FREE
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class Record:
    """One line of a prediction file.

    Attributes
    ----------
    document: None where the prediction failed, which `error` then explains.
    prediction: as `cner predict` wrote it; None of a document of any other source.
    """

    id: str
    document: Document | None
    error: str | None = None
    prediction: Prediction | None = None

    @property
    def health(self) -> Health | None:
        return self.prediction.health if self.prediction else None

    @property
    def setting(self) -> Setting | None:
        if self.prediction is None:
            return None
        options = self.prediction.formats[0].options
        return Setting(self.prediction.format, self.prediction.level, options)


def read_predictions(
    path: str | Path, input_format: str | None = None, encoding: str | None = None
) -> Iterator[Record | InputError]:
    """The records of a file of `cner predict`, of a folder of its shards, or of any corpus.

    Raises
    ------
    InputError: as `corpora.read` does.
    """
    path = Path(path)
    if (path / SHARDS).is_file():
        input_format = _format_of_shards(path, input_format)
        for shard in sorted(path.glob("part-*")):
            yield from read_predictions(shard, input_format, encoding)
        return
    if not _is_prediction_file(path, input_format):
        for document in read(path, input_format, encoding=encoding):
            if isinstance(document, InputError):
                yield document
            else:
                yield Record(document.id, document)
        return
    for record in read_records(File.on_disk(path)):
        if isinstance(record, InputError):
            yield record
            continue
        try:
            yield _record(record.value)
        except CnerError as error:
            yield record.error(error.reason if isinstance(error, InputError) else str(error))


def _format_of_shards(folder: Path, given: str | None) -> str:
    """The format of the files in a folder of shards, which is the one that was asked for, if any.

    Raises
    ------
    InputError: it is not, or has no reader.
    """
    kind = kind_of_shards(folder)
    name = "jsonl" if kind == RECORDS else kind
    if name not in INPUT_FORMATS:
        raise InputError(f"holds shards of {name}, which are not read: expected records", folder)
    if given not in (None, name):
        raise InputError(f"holds shards of {name}: expected no other format", folder)
    return name


def _is_prediction_file(path: Path, input_format: str | None) -> bool:
    """Whether one of the first lines is a record as `cner predict` writes it."""
    if input_format not in (None, "jsonl") or not path.is_file():
        return False
    given = File.on_disk(path)
    if input_format is None and given.suffix not in (".jsonl", ".ndjson", ".json"):
        return False
    with given.open() as file:
        for line in islice(file, 20):
            with suppress(ValueError, RecursionError):
                value = json.loads(line)
                if _predicted(value) or _failed(value):
                    return True
    return False


def _predicted(value: object) -> bool:
    """Whether it is what `cner predict` writes; a corpus may have answers of its own."""
    return isinstance(value, dict) and value.keys() >= {"answers", "format", "level"}


def _failed(value: object) -> bool:
    return isinstance(value, dict) and "error" in value and "text" not in value


def _record(value: object) -> Record:
    if isinstance(value, dict) and _failed(value):
        return Record(str(value.get("id", "")), None, str(value["error"]))
    if isinstance(value, dict) and "answers" in value:
        return record_of(Prediction.from_json(value))
    document = document_from_json(value)
    return Record(document.id, document)


def record_of(prediction: Prediction) -> Record:
    """What evaluation takes of a prediction."""
    if prediction.error is not None:
        return Record(prediction.id, None, prediction.error)
    return Record(prediction.id, prediction.document, None, prediction)
