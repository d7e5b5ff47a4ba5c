"""From the answers of a grid to results: one JSON value that reports are made from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from constrained_ner.benchmark.grid import Cell, Grid, done, options_of
from constrained_ner.documents import Document, Entity, text_order
from constrained_ner.errors import AnswerError
from constrained_ner.evaluation import Counts, Scores, intervals, paired_test, strict
from constrained_ner.evaluation.pairing import DataSet, pair
from constrained_ner.evaluation.records import Record, record_of
from constrained_ner.evaluation.report import Score, compare, evaluate
from constrained_ner.formats import FORMATS, Feature, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.manifest import load_manifest
from constrained_ner.pipeline.prediction import Prediction, Reply

PAPER_BUDGET = 128  # new tokens, as in table 8
# For each format with offsets the one with terms that asks in the same way.
TERMS = {
    name: format.term_counterpart
    for name, format in reversed(FORMATS.items())  # single before multi
    if format.term_counterpart
}
_FAR = 50  # characters: entities farther apart have nothing to do with one another


def gather(
    grid: Grid,
    folder: Path,
    *,
    shown: int = 40,
    texts: Collection[str] | None = None,
    resamples: int = 10_000,
) -> dict[str, Any]:
    """The results of the cells that are done.

    Parameters
    ----------
    shown: how many documents of each data set to keep with their answers, for a reader of the
        report. `texts`: the data sets of which this is permitted; by default all.
    resamples: of the intervals and tests.

    Returns
    -------
    `trained`: the names of the data sets that each model was trained on, None where it does not
    say; `cells`: a value for each, see `_measured`; `missing`: the cells without answers; `pooled`:
    strict scores over the documents of all data sets, and their paired differences to free
    answers and, of formats with offsets, to the format with terms; `documents`: texts, gold and
    answers.
    """
    answered = {cell: _Answered(cell, grid, folder) for cell in grid.cells() if done(folder, cell)}
    by_way: dict[tuple[str, str, Level], list[_Answered]] = {}
    for cell, answers in answered.items():
        by_way.setdefault((cell.model, str(cell.variant), cell.level), []).append(answers)
    return {
        "models": list(grid.models),
        "trained": {model: _trained_on(grid.source(model)) for model in grid.models},
        "data": [
            {
                "name": data.name,
                "documents": len(data.documents),
                "entities": sum(len(document.entities) for document in data.documents),
                "labels": list(data.labels),
            }
            for data in grid.data
        ],
        "variants": [str(variant) for variant in grid.variants],
        "levels": [str(level) for level in grid.levels],
        "seed": grid.seed,
        "resamples": resamples,
        "cells": [
            _measured(answers, answered.get(_free(cell)), grid, resamples)
            for cell, answers in answered.items()
        ],
        "missing": [cell.to_json() for cell in grid.cells() if cell not in answered],
        "pooled": [
            _pooled(
                group,
                by_way.get((model, variant, Level.FREE)),
                by_way.get((model, TERMS.get(variant.partition("+")[0], ""), level)),
                grid,
                resamples,
            )
            for (model, variant, level), group in by_way.items()
            if len(group) == len(grid.data)  # of all data sets, or it could not be compared
        ],
        "documents": _shown(grid, answered, shown, texts),
    }


def _trained_on(model: str) -> list[str] | None:
    trained = load_manifest(model)
    return None if trained is None else [dataset.name for dataset in trained.datasets]


def _free(cell: Cell) -> Cell:
    return replace(cell, level=Level.FREE)


class _Answered:
    """A cell that is done: its summary, its answers, and the gold documents beside them."""

    def __init__(self, cell: Cell, grid: Grid, folder: Path):
        (self.data,) = (data for data in grid.data if data.name == cell.data)
        self.cell = cell
        self.format = get_format(cell.variant.format, options_of(cell.variant, self.data))
        stem = folder / cell.path
        self.summary = json.loads(stem.with_name(f"{stem.name}.json").read_text(encoding="utf-8"))
        path = stem.with_name(f"{stem.name}.jsonl")
        text = path.read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        self.predictions = [Prediction.from_json(line) for line in lines]
        self.replies = [reply for one in self.predictions for reply in one.replies]
        records = map(record_of, self.predictions)
        self.paired = pair(self.data.name, self.data.documents, records)

    def read_anew(self, labels: Sequence[str] | None = None, *, strict: bool) -> DataSet:
        """The answers read in another way.

        Parameters
        ----------
        labels: to be read beside those that were asked for.
        strict: leave out answers that do not follow the format to the letter.
        """
        records = []
        for prediction in self.predictions:
            if prediction.error is not None:
                records.append(Record(prediction.id, None, prediction.error))
                continue
            entities: list[Entity] = []
            for reply in prediction.replies:
                known = tuple(dict.fromkeys([*reply.labels, *(labels or ())]))
                with suppress(AnswerError):
                    read = self.format.decode(
                        reply.answer, prediction.text, known, strict=strict, level=self.cell.level
                    )
                    entities += read.entities
            found = Document(prediction.id, prediction.text, text_order(entities))
            records.append(Record(found.id, found))
        return pair(self.data.name, self.data.documents, records)


def _measured(
    answered: _Answered, free: _Answered | None, grid: Grid, resamples: int
) -> dict[str, Any]:
    """What is said of one cell: accuracy, health and costs.

    Of a free answer all that can be read counts, so that a low score is not the doing of a strict
    reader; `read_strictly` has the other way.
    """
    cell, data = answered.cell, answered.data
    chance: dict[str, Any] = {"resamples": resamples, "seed": grid.seed}
    by = ("label", "nested", "discontinuous")
    report = evaluate(answered.paired, data.labels, by=by, **chance).to_json()
    found = {
        **answered.summary,
        "failed": len(report["failed"]),
        "scores": report["scores"],
        "breakdowns": report["breakdowns"],
        "ceiling": report["ceiling"],
        "health": report["health"] and {**report["health"], "beyond": _beyond(answered.replies)},
        "allowed_mass": _allowed_mass(answered.replies),
        "confidence": _confidence(answered),
    }
    if Feature.ALL_LABELS in answered.format.expresses:
        found["labels_given"] = _labels_given(answered, grid)
    if Feature.OFFSETS in answered.format.expresses:
        found["shifts"] = _shifts(answered.paired)
    if cell.level is Level.FREE:
        strictly = evaluate(answered.read_anew(strict=True), data.labels, **chance)
        found["read_strictly"] = strictly.to_json()["scores"]["strict"]
    elif free is not None:
        both = compare(free.paired, answered.paired, data.labels, **chance)
        found["against_free"] = both.to_json()["differences"]
    return found


def _pooled(
    group: Sequence[_Answered],
    free: Sequence[_Answered] | None,
    terms: Sequence[_Answered] | None,
    grid: Grid,
    resamples: int,
) -> dict[str, Any]:
    """Strict scores of one way to answer over all data sets, each with labels of its own."""
    chance: dict[str, Any] = {"resamples": resamples, "seed": grid.seed}

    def counts(answered: Sequence[_Answered]) -> list[Counts]:
        return [strict(*each) for a in answered for each in a.paired.pairs(a.data.labels)]

    own = counts(group)
    total = sum(own, Counts())
    score = Score(total.scores, total, intervals(own, **chance))
    cell = group[0].cell
    found = {**cell.to_json(), "strict": score.to_json()}
    del found["data"]
    others = {
        "against_free": free if cell.level is not Level.FREE else None,
        "against_terms": terms,
    }
    for key, other in others.items():
        if other is not None and len(other) == len(group):
            tested = paired_test(counts(other), own, **chance)
            found[key] = tested and {
                name: asdict(d) for name, d in zip(Scores._fields, tested, strict=True)
            }
    return found


def _beyond(replies: Iterable[Reply]) -> int:
    """How many answers the paper's budget would have cut off."""
    return sum(reply.tokens > PAPER_BUDGET for reply in replies)


def _allowed_mass(replies: Iterable[Reply]) -> dict[str, float] | None:
    """The share of probability that masks let through: the mean, and the mean of each least."""
    known = [reply.allowed_mass for reply in replies if reply.allowed_mass is not None]
    if not known:
        return None
    return {"mean": fmean(mean for mean, _ in known), "least": fmean(least for _, least in known)}


def _confidence(answered: _Answered) -> list[list[float]] | None:
    """By tenths of confidence: how many entities, how many of them right, their confidences' sum.

    None where no confidence was recorded.
    """
    tenths = [[0, 0, 0.0] for _ in range(10)]
    for document, prediction in zip(answered.data.documents, answered.predictions, strict=True):
        gold = set(document.entities)
        for entity, confidence in prediction.confidences.items():
            tenth = tenths[min(9, int(10 * confidence))]
            tenth[0] += 1
            tenth[1] += entity in gold
            tenth[2] += confidence
    return tenths if any(number for number, _, _ in tenths) else None


def _shifts(data: DataSet) -> dict[str, Any]:
    """By how many characters spans miss theirs, as in the paper's section 5.5.

    Each predicted entity that is no gold one is compared with the nearest gold entity of its
    label that was not found, by the sum of the distances of beginnings and ends.
    """
    starts: Counter[int] = Counter()
    ends: Counter[int] = Counter()
    exact = unrelated = 0
    for _, gold, predicted in data.pairs():
        left = list(set(gold) - set(predicted))
        exact += len(set(gold) & set(predicted))
        for entity in sorted(set(predicted) - set(gold), key=lambda e: (e.start, e.end, e.label)):
            near = [
                (abs(entity.start - g.start) + abs(entity.end - g.end), g.start, g.end)
                for g in left
                if g.label == entity.label
            ]
            distance, start, end = min(near, default=(_FAR + 1, 0, 0))
            if distance > _FAR:
                unrelated += 1
                continue
            starts[entity.start - start] += 1
            ends[entity.end - end] += 1
    return {
        "exact": exact,
        "unrelated": unrelated,
        "start": sorted(starts.items()),
        "end": sorted(ends.items()),
    }


def _labels_given(answered: _Answered, grid: Grid) -> list[list[Any]]:
    """The labels that spans of gold entities were given: gold label, label, how often.

    Labels of other data sets are read, too, though nobody asked for them: what models drift to.
    """
    data = answered.data
    every = sorted({label for other in grid.data for label in other.labels})
    read = answered.read_anew(every, strict=False)
    given: Counter[tuple[str, str]] = Counter()
    for _, gold, predicted in read.pairs():
        right = set(gold)
        for entity in predicted:
            for other in gold if entity not in right else (entity,):
                if other.fragments == entity.fragments and other.label in data.labels:
                    given[other.label, entity.label] += 1
    return [[*labels, times] for labels, times in sorted(given.items())]


def _shown(
    grid: Grid, answered: dict[Cell, _Answered], most: int, texts: Collection[str] | None
) -> list[dict[str, Any]]:
    """Documents with gold and predicted entities, way by way."""
    found = []
    for model, data in product(grid.models, grid.data):
        if texts is not None and data.name not in texts:
            continue
        cells = [a for cell, a in answered.items() if (cell.model, cell.data) == (model, data.name)]
        for i, document in enumerate(data.documents[:most]):
            answers = {}
            for a in cells:
                record, prediction = a.paired.predictions[i], a.predictions[i]
                read = record.document.entities if record and record.document else ()
                answers[f"{a.cell.variant}.{a.cell.level}"] = {
                    "error": prediction.error,
                    "answers": [reply.answer for reply in prediction.replies],
                    "entities": [_entity(entity) for entity in read],
                }
            found.append(
                {
                    "model": model,
                    "data": data.name,
                    "id": document.id,
                    "text": document.text,
                    "gold": [_entity(entity) for entity in document.entities],
                    "found": answers,
                }
            )
    return found


def _entity(entity: Entity) -> list[Any]:
    return [entity.label, [list(fragment) for fragment in entity.fragments]]
