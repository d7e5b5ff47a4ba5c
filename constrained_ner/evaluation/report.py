"""The evaluation of predictions: scores, breakdowns, health of the answers, comparison."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from constrained_ner.errors import InputError, LabelError
from constrained_ner.evaluation import (
    METRICS,
    PARITY,
    Counts,
    Metric,
    Scores,
    average,
    discontinuous,
    intervals,
    nested,
    of_label,
    paired_test,
    plain,
    strict,
)
from constrained_ner.evaluation.ceiling import Ceiling, ceiling
from constrained_ner.evaluation.pairing import DataSet
from constrained_ner.evaluation.records import Record, Setting
from constrained_ner.evaluation.resampling import Difference, Differences, Intervals
from constrained_ner.labels import names_of
from constrained_ner.pipeline.prediction import Health
from constrained_ner.words import Span

LOGGER = logging.getLogger(__name__)

BREAKDOWNS = ("label", "nested", "discontinuous", "document")


@dataclass(frozen=True)
class Score:
    """One line of a report.

    Attributes
    ----------
    counts: None for averages and differences.
    intervals: of precision, recall and F1, 95 %; None where they are not computed.
    """

    scores: Scores
    counts: Counts | None = None
    intervals: Intervals | None = None

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = self.scores._asdict()
        if self.counts is not None:
            found |= asdict(self.counts)
        if self.intervals is not None:
            found["intervals"] = self.intervals._asdict()
        return found

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Score:
        """Read what `to_json` gives; other keys are ignored."""
        counts = [value[field.name] for field in fields(Counts) if field.name in value]
        ends = value.get("intervals")
        return cls(
            Scores(*(value[name] for name in Scores._fields)),
            Counts(*counts) if counts else None,
            None if ends is None else Intervals(*(_ends(ends[name]) for name in Scores._fields)),
        )


def _ends(interval: Sequence[float]) -> tuple[float, float]:
    low, high = interval
    return low, high


def differences_to_json(differences: Differences) -> dict[str, Any]:
    return {name: asdict(each) for name, each in differences._asdict().items()}


def differences_from_json(value: Mapping[str, Any]) -> Differences:
    """Read what `differences_to_json` gives."""
    read = (value[name] for name in Differences._fields)
    return Differences(
        *(Difference(each["difference"], _ends(each["interval"]), each["p"]) for each in read)
    )


Rows = tuple[tuple[str, Score], ...]


@dataclass(frozen=True)
class Report:
    """The evaluation of one data set.

    Attributes
    ----------
    scores: a line for each metric, and the macro average over labels.
    breakdowns: lines for each breakdown asked for.
    health: None where the predictions do not come from `cner predict`.
    ceiling: None where the format is not known.
    """

    data: DataSet
    labels: tuple[str, ...]
    scores: dict[str, Score]
    breakdowns: dict[str, Rows]
    health: Health | None
    ceiling: Ceiling | None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.data.name,
            "documents": len(self.data.gold),
            "missing": self.data.missing,
            "failed": self.data.failed,
            "extra": self.data.extra,
            "broken": [str(error) for error in self.data.broken],
            "labels": self.labels,
            "scores": {name: score.to_json() for name, score in self.scores.items()},
            "breakdowns": {
                by: [{"name": name, **score.to_json()} for name, score in rows]
                for by, rows in self.breakdowns.items()
            },
            "health": self.health and self.health.to_json(),
            "ceiling": self.ceiling and self.ceiling.to_json(),
        }


def evaluate(
    data: DataSet,
    labels: Sequence[str] | None = None,
    *,
    parity: Sequence[str] = (),
    by: Sequence[str] = (),
    format: str | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Report:
    """Score a data set.

    Parameters
    ----------
    labels: those to evaluate, on both sides; by default all.
    parity: other projects' metrics to compute, too: keys of `PARITY`.
    by: breakdowns of the strict metric, of `BREAKDOWNS`.
    format: the format whose ceiling to compute; by default that of the predictions.
    resamples, seed: of the intervals.
    """
    labels = tuple(dict.fromkeys(labels)) if labels else data.labels
    pairs = data.pairs(labels)

    def score(metric: Metric) -> Score:
        counts = [metric(*each) for each in pairs]
        total = sum(counts, Counts())
        return Score(total.scores, total, intervals(counts, resamples=resamples, seed=seed))

    def per_label() -> Rows:
        return tuple((label, score(of_label(label))) for label in labels)

    def against_plain(name: str, metric: Metric) -> Rows:
        simple, complex = score(plain), score(metric)
        return ("plain", simple), (name, complex), ("delta", Score(delta(simple, complex)))

    def per_document() -> Rows:
        counts = [strict(*each) for each in pairs]
        return tuple((d.id, Score(c.scores, c)) for d, c in zip(data.gold, counts, strict=True))

    breakdowns: dict[str, Callable[[], Rows]] = {
        "label": per_label,
        "nested": lambda: against_plain("nested", nested),
        "discontinuous": lambda: against_plain("discontinuous", discontinuous),
        "document": per_document,
    }
    totals = [sum((of_label(label)(*each) for each in pairs), Counts()).scores for label in labels]
    scores = {name: score(metric) for name, metric in METRICS.items()}
    scores["macro"] = Score(average(totals))
    scores |= {name: score(PARITY[name]) for name in parity}
    return Report(
        data,
        labels,
        scores,
        {name: breakdowns[name]() for name in by},
        _health(data),
        _ceiling(data, labels, format),
    )


def delta(simple: Score, complex: Score) -> Scores:
    """By how much plain entities score above nested, or discontinuous, ones.

    None if the gold has no entities of one kind: then there is no score of that kind to compare.
    """
    if not (simple.counts and simple.counts.gold and complex.counts and complex.counts.gold):
        return Scores(None, None, None)
    return Scores(
        *(
            None if a is None or b is None else a - b
            for a, b in zip(simple.scores, complex.scores, strict=True)
        )
    )


def _health(data: DataSet) -> Health | None:
    known = [record.health for record in data.predictions if record and record.health]
    return sum(known, Health()) if known else None


def _ceiling(data: DataSet, labels: Sequence[str], format: str | None) -> Ceiling | None:
    settings = {record.setting for record in data.predictions if record and record.setting}
    if format is not None:
        settings = {replace(setting, format=format) for setting in settings} or {Setting(format)}
    if len(settings) != 1 or not labels:
        return None
    (setting,) = settings
    try:
        parts = [_parts(record, format) for record in data.predictions]
        return ceiling(data.gold, labels, setting, parts)
    except LabelError as error:
        LOGGER.warning("no recall ceiling: %s", error)
        return None


def _parts(record: Record | None, format: str | None) -> dict[str, set[Span]]:
    """The parts of a text that a model was asked about, by format.

    Parameters
    ----------
    format: another one, or several, which would have been asked about the same parts.
    """
    parts: dict[str, set[Span]] = defaultdict(set)
    for reply in record.prediction.replies if record and record.prediction else ():
        for name in [reply.format] if format is None else names_of(format):
            parts[name].add(reply.segment)
    return parts


def average_over(reports: Sequence[Report]) -> dict[str, Score]:
    """The mean of the data sets' scores, metric by metric."""
    return {
        name: Score(average(report.scores[name].scores for report in reports))
        for name in reports[0].scores
    }


# ---- comparison


@dataclass(frozen=True)
class Comparison:
    """Two prediction files on the same gold documents, by the strict metric.

    Attributes
    ----------
    differences: of precision, recall and F1, second minus first; None without any entity.
    """

    first: Scores
    second: Scores
    differences: Differences | None

    def to_json(self) -> dict[str, Any]:
        return {
            "first": self.first._asdict(),
            "second": self.second._asdict(),
            "differences": self.differences and differences_to_json(self.differences),
        }


def compare(
    first: DataSet,
    second: DataSet,
    labels: Sequence[str] | None = None,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Whether the second predictions are better than the first; see `paired_test`.

    Raises
    ------
    InputError: the gold documents are not the same.
    """
    if first.gold != second.gold:
        raise InputError("the gold documents differ: expected one gold file for both predictions")
    a, b = ([strict(*each) for each in data.pairs(labels)] for data in (first, second))
    return Comparison(
        sum(a, Counts()).scores,
        sum(b, Counts()).scores,
        paired_test(a, b, resamples=resamples, seed=seed),
    )
