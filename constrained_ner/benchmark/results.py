"""The results of a benchmark: what there is to tell of each cell, and the file that keeps it.

Reports are made from `Results` and nothing else. `to_json` and `from_json` are the one way into
`results.json` and back.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from constrained_ner.atomic import write_json
from constrained_ner.benchmark.grid import AnsweredCell, Cell, Variant, Way
from constrained_ner.documents import Entity
from constrained_ner.errors import CnerError, InputError, reason_of
from constrained_ner.evaluation.ceiling import Ceiling
from constrained_ner.evaluation.report import (
    Rows,
    Score,
    differences_from_json,
    differences_to_json,
)
from constrained_ner.evaluation.resampling import Differences
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.calibration import Threshold
from constrained_ner.pipeline.prediction import Health
from constrained_ner.structuring import structure

FILE = "results.json"


# ---- of a cell ----------------------------------------------------------------------------------


class ConfidenceTenth(NamedTuple):
    """The entities whose confidence lies in one of ten equal parts of 0 to 1.

    Attributes
    ----------
    entities: how many. `right`: how many of them are gold. `total`: the sum of their confidences.
    """

    entities: int
    right: int
    total: float


class GivenLabel(NamedTuple):
    """How often spans of gold entities of one label were given another, or the same."""

    gold: str
    label: str
    times: int


@dataclass(frozen=True)
class AllowedMass:
    """The share of the model's probability that masks let through.

    Attributes
    ----------
    mean: over all answers. `least`: the mean of each answer's least.
    """

    mean: float
    least: float


@dataclass(frozen=True)
class Shifts:
    """By how many characters predicted spans miss gold ones, as in the paper's section 5.5.

    Attributes
    ----------
    exact: how many are right. `unrelated`: how many are near no gold entity of their label.
    start, end: of the others, by how much their beginnings and ends miss, and how often.
    """

    exact: int
    unrelated: int
    start: dict[int, int]
    end: dict[int, int]

    def to_json(self) -> dict[str, Any]:
        return {
            "exact": self.exact,
            "unrelated": self.unrelated,
            "start": list(self.start.items()),
            "end": list(self.end.items()),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Shifts:
        start, end = (dict(map(tuple, value[side])) for side in ("start", "end"))
        return cls(value["exact"], value["unrelated"], start, end)


@dataclass(frozen=True)
class CellResult:
    """What there is to tell of the answers of one cell.

    Attributes
    ----------
    answered: on what they were made, and what they took.
    failed: how many documents could not be answered.
    scores, breakdowns, health, ceiling: as in `evaluation.report.Report`.
    beyond: how many answers the paper's budget would have cut off.
    confidence: ten of them, or none where no confidence was recorded.
    labels_given, shifts: None of formats that have no other label to give, or no offsets.
    read_strictly: the strict score of the free answers that follow their format to the letter.
    against_free: strict scores minus those of free answers to the same.
    """

    answered: AnsweredCell
    failed: int
    scores: dict[str, Score]
    breakdowns: dict[str, Rows]
    ceiling: Ceiling | None = None
    health: Health | None = None
    beyond: int = 0
    allowed_mass: AllowedMass | None = None
    confidence: tuple[ConfidenceTenth, ...] = ()
    labels_given: tuple[GivenLabel, ...] | None = None
    shifts: Shifts | None = None
    read_strictly: Score | None = None
    against_free: Differences | None = None

    @property
    def cell(self) -> Cell:
        return self.answered.cell

    def to_json(self) -> dict[str, Any]:
        """What a cell need not have is left out where it has not."""
        found = {
            **self.answered.to_json(),
            "failed": self.failed,
            "scores": {name: score.to_json() for name, score in self.scores.items()},
            "breakdowns": {
                by: [{"name": name, **score.to_json()} for name, score in rows]
                for by, rows in self.breakdowns.items()
            },
            "ceiling": self.ceiling and self.ceiling.to_json(),
            "health": self.health and {**self.health.to_json(), "beyond": self.beyond},
            "allowed_mass": self.allowed_mass and asdict(self.allowed_mass),
            "confidence": self.confidence or None,
        }
        if self.labels_given is not None:
            found["labels_given"] = self.labels_given
        if self.shifts is not None:
            found["shifts"] = self.shifts.to_json()
        if self.read_strictly is not None:
            found["read_strictly"] = self.read_strictly.to_json()
        if self.against_free is not None:
            found["against_free"] = differences_to_json(self.against_free)
        return found

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CellResult:
        """See `Results.from_json`."""
        health, mass, shifts = (value.get(key) for key in ("health", "allowed_mass", "shifts"))
        ceiling, given = value.get("ceiling"), value.get("labels_given")
        strictly, differences = value.get("read_strictly"), value.get("against_free")
        return cls(
            AnsweredCell.from_json(value),
            value["failed"],
            {name: Score.from_json(score) for name, score in value["scores"].items()},
            {
                by: tuple((row["name"], Score.from_json(row)) for row in rows)
                for by, rows in value["breakdowns"].items()
            },
            None if ceiling is None else structure(Ceiling, ceiling, "the ceiling"),
            None if health is None else _health(health),
            0 if health is None else health["beyond"],
            None if mass is None else AllowedMass(**mass),
            tuple(ConfidenceTenth(*tenth) for tenth in value.get("confidence") or ()),
            None if given is None else tuple(GivenLabel(*each) for each in given),
            None if shifts is None else Shifts.from_json(shifts),
            None if strictly is None else Score.from_json(strictly),
            None if differences is None else differences_from_json(differences),
        )


def _health(value: Mapping[str, Any]) -> Health:
    return Health(
        value["answers"],
        value["parsed"],
        value["cut_off"],
        value["forced"],
        value["tokens"],
        Counter(value["problems"]),
    )


# ---- of several cells, and of a document --------------------------------------------------------


@dataclass(frozen=True)
class PooledResult:
    """One model, asked in one way: strict scores over the entities of all corpora.

    Attributes
    ----------
    against_free: the difference to free answers. `against_terms`: of formats with offsets, to the
        format with terms. None where the other was not answered, or there is nothing to measure.
    """

    model: str
    way: Way
    strict: Score
    against_free: Differences | None = None
    against_terms: Differences | None = None

    def to_json(self) -> dict[str, Any]:
        found = {"model": self.model, **self.way.to_json(), "strict": self.strict.to_json()}
        if self.against_free is not None:
            found["against_free"] = differences_to_json(self.against_free)
        if self.against_terms is not None:
            found["against_terms"] = differences_to_json(self.against_terms)
        return found

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PooledResult:
        """See `Results.from_json`."""
        free, terms = value.get("against_free"), value.get("against_terms")
        return cls(
            value["model"],
            Way.from_json(value),
            Score.from_json(value["strict"]),
            None if free is None else differences_from_json(free),
            None if terms is None else differences_from_json(terms),
        )


@dataclass(frozen=True)
class TogetherResult:
    """One model, asked in several formats whose answers are put together; or in one format, without
    the entities that are less probable than is best on dev.

    Attributes
    ----------
    formats: their names, and how they were asked for. `level`: of their answers.
    how: `agreement`, with probabilities from dev, or `vote`.
    least: the threshold of probabilities; 0 of a vote.
    strict: over the entities of all corpora. `by_data`: F1 of each corpus.
    against: that of the formats that is best on dev. `differences`: to its answers as they are.
    calls, seconds: of the model for all answers. `calls_of_one`: of those of `against`.
    error: the expected calibration error of the probabilities, and `raw_error` of what they are
        made of; None of a vote.
    thresholds: what other thresholds leave.
    """

    model: str
    formats: tuple[str, ...]
    level: Level
    how: str
    least: float
    strict: Score
    by_data: dict[str, float | None]
    against: str
    differences: Differences | None
    calls: int
    seconds: float
    calls_of_one: int
    error: float | None = None
    raw_error: float | None = None
    thresholds: tuple[Threshold, ...] = ()

    def to_json(self) -> dict[str, Any]:
        differences = self.differences and differences_to_json(self.differences)
        written = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**written, "strict": self.strict.to_json(), "differences": differences}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TogetherResult:
        """See `Results.from_json`."""
        differences = value["differences"]
        return cls(
            **{
                **value,
                "formats": tuple(value["formats"]),
                "level": Level.parse(value["level"]),
                "strict": Score.from_json(value["strict"]),
                "differences": None if differences is None else differences_from_json(differences),
                "thresholds": tuple(Threshold(*each) for each in value["thresholds"]),
            }
        )


@dataclass(frozen=True)
class ShownAnswer:
    """How a document was answered in one way, for a reader of the report.

    Attributes
    ----------
    answers: as the model wrote them, one for each question.
    """

    error: str | None
    answers: tuple[str, ...]
    entities: tuple[Entity, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "error": self.error,
            "answers": list(self.answers),
            "entities": [entity_to_json(entity) for entity in self.entities],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ShownAnswer:
        entities = tuple(entity_from_json(entity) for entity in value["entities"])
        return cls(value["error"], tuple(value["answers"]), entities)


@dataclass(frozen=True)
class ShownDocument:
    """A document with its gold entities, and what a model answered in each way."""

    model: str
    data: str
    id: str
    text: str
    gold: tuple[Entity, ...]
    found: dict[Way, ShownAnswer]

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "data": self.data,
            "id": self.id,
            "text": self.text,
            "gold": [entity_to_json(entity) for entity in self.gold],
            "found": {str(way): answer.to_json() for way, answer in self.found.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ShownDocument:
        """See `Results.from_json`."""
        return cls(
            value["model"],
            value["data"],
            value["id"],
            value["text"],
            tuple(entity_from_json(entity) for entity in value["gold"]),
            {
                Way.parse(way): ShownAnswer.from_json(answer)
                for way, answer in value["found"].items()
            },
        )


def entity_to_json(entity: Entity) -> list[Any]:
    """As short as can be: a report holds many."""
    return [entity.label, [list(fragment) for fragment in entity.fragments]]


def entity_from_json(value: Sequence[Any]) -> Entity:
    label, fragments = value
    return Entity(label, tuple((start, end) for start, end in fragments))


# ---- of all of it -------------------------------------------------------------------------------


@dataclass(frozen=True)
class CorpusSummary:
    """A corpus that models were asked about: how many documents of it, with how many entities."""

    name: str
    documents: int
    entities: int
    labels: tuple[str, ...]


@dataclass(frozen=True)
class TrainingCosts:
    """What a training took; None where it was not measured."""

    seconds: float | None = None
    kwh: float | None = None
    co2_kg: float | None = None


@dataclass(frozen=True)
class TrainedRun:
    """A model that an experiment has trained: from which one, how, and on which draw."""

    model: str
    configuration: str
    draw: int
    training: TrainingCosts = TrainingCosts()


@dataclass(frozen=True)
class Results:
    """The results of a benchmark, or of all runs of an experiment.

    Attributes
    ----------
    models, data, variants, levels: what was asked for, in its order.
    seed: of the draws of documents; None where each run has its own.
    resamples: of intervals and tests.
    cells: those that were answered. `missing`: those that were not.
    pooled: of the ways in which a model was asked about all corpora.
    together: of the formats that were put together.
    documents: those that are shown with their answers.
    seen: for each model that has fingerprints of its training documents, how many documents of each
        corpus are among them.
    runs: what is known of models that an experiment has trained.
    weights: a fingerprint of the weights, where the benchmark keeps one: a model may change under
        its name.
    """

    models: tuple[str, ...]
    data: tuple[CorpusSummary, ...]
    variants: tuple[Variant, ...]
    levels: tuple[Level, ...]
    seed: int | None
    resamples: int
    cells: tuple[CellResult, ...]
    missing: tuple[Cell, ...] = ()
    pooled: tuple[PooledResult, ...] = ()
    together: tuple[TogetherResult, ...] = ()
    documents: tuple[ShownDocument, ...] = ()
    seen: dict[str, dict[str, int]] = field(default_factory=dict)
    runs: dict[str, TrainedRun] = field(default_factory=dict)
    weights: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "models": list(self.models),
            **({"weights": self.weights} if self.weights else {}),
            "seen": self.seen,
            "data": [asdict(data) for data in self.data],
            "variants": [str(variant) for variant in self.variants],
            "levels": [str(level) for level in self.levels],
            "seed": self.seed,
            "resamples": self.resamples,
            "cells": [cell.to_json() for cell in self.cells],
            "missing": [cell.to_json() for cell in self.missing],
            "pooled": [pooled.to_json() for pooled in self.pooled],
            "together": [together.to_json() for together in self.together],
            "documents": [document.to_json() for document in self.documents],
            **({"runs": {name: asdict(r) for name, r in self.runs.items()}} if self.runs else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Results:
        """
        Raises
        ------
        InputError: it is not as `to_json` makes it; a format or a level is not known.
        """
        try:
            return cls(
                tuple(value["models"]),
                tuple(structure(CorpusSummary, one, "the data") for one in value["data"]),
                tuple(map(Variant.parse, value["variants"])),
                tuple(map(Level.parse, value["levels"])),
                value["seed"],
                value["resamples"],
                tuple(map(CellResult.from_json, value["cells"])),
                tuple(map(Cell.from_json, value["missing"])),
                tuple(map(PooledResult.from_json, value["pooled"])),
                tuple(map(TogetherResult.from_json, value.get("together", ()))),
                tuple(map(ShownDocument.from_json, value["documents"])),
                dict(value.get("seen", {})),
                {
                    name: structure(TrainedRun, one, f"the run {name}")
                    for name, one in value.get("runs", {}).items()
                },
                value.get("weights", ""),
            )
        except CnerError as error:
            raise InputError(f"not the results of a benchmark: {error}") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                "not the results of a benchmark: expected what `cner benchmark` writes "
                f"({reason_of(error, kind=True)})"
            ) from None


def save_results(results: Results, folder: Path) -> Path:
    """Write `results.json`.

    Returns
    -------
    The file.
    """
    path = folder / FILE
    write_json(results.to_json(), path)
    return path


def load_results(folder: Path) -> Results:
    """What `save_results` has written.

    Raises
    ------
    InputError: the file is not JSON, or not results.
    """
    path = folder / FILE
    try:
        return Results.from_json(json.loads(path.read_bytes()))
    except InputError as error:
        raise InputError(error.reason, path) from None
    except ValueError as error:
        raise InputError(f"not JSON: {error}", path) from None
