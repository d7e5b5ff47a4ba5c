"""Predictions against gold: pairing, scores, health of the answers, recall ceiling, comparison."""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from constrained_ner.corpora import read
from constrained_ner.corpora.jsonl import document_from_json, document_to_json
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import CnerError, InputError
from constrained_ner.evaluation import (
    METRICS,
    PARITY,
    Counts,
    Difference,
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
from constrained_ner.evaluation.resampling import Interval
from constrained_ner.formats import Format, Options, ProblemKind, get_format
from constrained_ner.formats.grammar import Level

BREAKDOWNS = ("label", "nested", "discontinuous", "document")

# ---- predictions


@dataclass(frozen=True)
class Health:
    """How well the answers of a model were formed.

    Attributes
    ----------
    answers: how many there are. `parsed`: that follow their format to the letter. `cut_off`: that
        the token budget ended. `forced`: that the budget closed. `tokens`: of all answers.
    problems: how many there are of each `ProblemKind`.
    """

    answers: int = 0
    parsed: int = 0
    cut_off: int = 0
    forced: int = 0
    tokens: int = 0
    problems: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Health) -> Health:
        return Health(
            self.answers + other.answers,
            self.parsed + other.parsed,
            self.cut_off + other.cut_off,
            self.forced + other.forced,
            self.tokens + other.tokens,
            self.problems + other.problems,
        )

    def to_json(self) -> dict[str, Any]:
        problems = {str(kind): self.problems[kind] for kind in ProblemKind}
        return {**asdict(self), "problems": {**problems, **self.problems}}


@dataclass(frozen=True)
class Setting:
    """How answers were written and read."""

    format: str
    level: Level = Level.FREE
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class Record:
    """One line of a prediction file.

    Attributes
    ----------
    document: None where the prediction failed, which `error` then explains.
    health, setting: None where the record does not come from `cner predict`.
    """

    id: str
    document: Document | None
    error: str | None = None
    health: Health | None = None
    setting: Setting | None = None


def read_predictions(
    path: str | Path, input_format: str | None = None
) -> Iterator[Record | InputError]:
    """The records of a file of `cner predict`, or of any corpus.

    Raises
    ------
    InputError: as `corpora.read` does.
    """
    for record, _ in read_records(path, input_format):
        yield record


# A record, and what its file says of it.
Paired = tuple[Record | InputError, Mapping[str, Any]]


def read_records(path: str | Path, input_format: str | None = None) -> Iterator[Paired]:
    """The same, each beside what the file says of it; for a corpus, what `cner predict` would say.

    Raises
    ------
    InputError: as `corpora.read` does.
    """
    path = Path(path)
    if not _is_prediction_file(path, input_format):
        for document in read(path, input_format):
            if isinstance(document, InputError):
                yield document, _error(document)
            else:
                yield Record(document.id, document), document_to_json(document)
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                if line.strip():
                    value = json.loads(line)
                    yield _record(value), value
            except CnerError as error:
                reason = error.reason if isinstance(error, InputError) else str(error)
                wrong = InputError(reason, path, number)
                yield wrong, _error(wrong)
            except (ValueError, RecursionError) as error:
                wrong = InputError(f"not JSON: {error}", path, number)
                yield wrong, _error(wrong)


def _error(error: InputError) -> dict[str, Any]:
    return {"id": "", "error": str(error)}


def _is_prediction_file(path: Path, input_format: str | None) -> bool:
    """Whether one of the first lines is a record as `cner predict` writes it."""
    if input_format not in (None, "jsonl") or not path.is_file():
        return False
    if input_format is None and path.suffix.lower() not in (".jsonl", ".ndjson", ".json"):
        return False
    with path.open("rb") as file:
        for line in islice(file, 20):
            with suppress(ValueError, RecursionError):
                value = json.loads(line)
                if isinstance(value, dict) and ("answers" in value or _failed(value)):
                    return True
    return False


def _failed(value: object) -> bool:
    return isinstance(value, dict) and "error" in value and "text" not in value


def _record(value: object) -> Record:
    if isinstance(value, dict) and _failed(value):
        return Record(str(value.get("id", "")), None, str(value["error"]))
    document = document_from_json(value)
    if not isinstance(value, dict) or "answers" not in value:
        return Record(document.id, document)
    answers = value["answers"]
    try:
        health = Health(
            len(answers),
            sum(bool(answer["parses"]) for answer in answers),
            sum(not answer["ended"] for answer in answers),
            sum(bool(answer["forced"]) for answer in answers),
            sum(answer["tokens"] for answer in answers),
            Counter(str(kind) for answer in answers for kind, _ in answer["problems"]),
        )
        setting = None
        if "format" in value:
            setting = Setting(
                get_format(value["format"]).name,
                Level.parse(value["level"]),
                Options(**value.get("options", {})),
            )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "the record has answers, but not as `cner predict` writes them: expected parses, "
            f"problems, tokens, ended and forced in each ({type(error).__name__}: {error})"
        ) from None
    return Record(document.id, document, None, health, setting)


# ---- pairing

Pair = tuple[str, tuple[Entity, ...], tuple[Entity, ...]]


@dataclass(frozen=True)
class DataSet:
    """Gold documents, and the prediction for each; None where there is none.

    Attributes
    ----------
    failed: why predictions failed. `extra`: ids of predictions without a gold document.
    broken: records of either side that cannot be read.
    """

    name: str
    gold: tuple[Document, ...]
    predictions: tuple[Record | None, ...]
    failed: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    broken: tuple[InputError, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Ids of gold documents without a prediction."""
        both = zip(self.gold, self.predictions, strict=True)
        return tuple(document.id for document, record in both if record is None)

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels of gold and predictions, sorted."""
        return tuple(
            sorted({e.label for _, gold, predicted in self.pairs() for e in gold + predicted})
        )

    def pairs(self, labels: Sequence[str] | None = None) -> list[Pair]:
        """Text, gold and predicted entities of each document, those of the labels only."""

        def chosen(entities: tuple[Entity, ...]) -> tuple[Entity, ...]:
            return tuple(e for e in entities if labels is None or e.label in labels)

        return [
            (
                document.text,
                chosen(document.entities),
                chosen(record.document.entities) if record and record.document else (),
            )
            for document, record in zip(self.gold, self.predictions, strict=True)
        ]


def pair(
    name: str,
    gold: Iterable[Document | InputError],
    predictions: Iterable[Record | InputError],
    *,
    ignore_extra: bool = False,
) -> DataSet:
    """Pair by id; the k-th document with an id goes with the k-th prediction with that id.

    Parameters
    ----------
    name: of the data set, for reports.
    ignore_extra: leave out predictions without a gold document.

    Raises
    ------
    InputError: a prediction has no gold document, or is about another text.
    """
    broken: list[InputError] = []
    failed: list[str] = []
    waiting: dict[str, deque[Record]] = defaultdict(deque)
    for record in predictions:
        if isinstance(record, InputError):
            broken.append(record)
            continue
        waiting[record.id].append(record)
        if record.error is not None:
            failed.append(f"{record.id}: {record.error}" if record.id else record.error)
    documents: list[Document] = []
    found: list[Record | None] = []
    for document in gold:
        if isinstance(document, InputError):
            broken.append(document)
            continue
        queue = waiting.get(document.id)
        paired = queue.popleft() if queue else None
        if paired and paired.document:
            _check_text(document, paired.document)
        documents.append(document)
        found.append(paired)
    extra = [r.id for queue in waiting.values() for r in queue if r.document is not None]
    if extra and not ignore_extra:
        unread = f"; {len(broken)} records cannot be read, first {broken[0]}" if broken else ""
        raise InputError(
            f"{name}: {len(extra)} predictions have no gold document: {shorten(extra)}: expected "
            f"the same documents on both sides, or --ignore-extra{unread}"
        )
    return DataSet(name, tuple(documents), tuple(found), tuple(failed), tuple(extra), tuple(broken))


def beside_gold(
    records: Iterable[Paired], gold: Iterable[Document]
) -> Iterator[tuple[Mapping[str, Any], Document | None]]:
    """Records as files have them, each with its gold document where there is one; see `pair`.

    Raises
    ------
    InputError: a prediction is about another text.
    """
    waiting: dict[str, deque[Document]] = defaultdict(deque)
    for document in gold:
        waiting[document.id].append(document)
    for record, value in records:
        queue = waiting.get(record.id) if isinstance(record, Record) else None
        of_gold = queue.popleft() if queue else None
        if of_gold and isinstance(record, Record) and record.document:
            _check_text(of_gold, record.document)
        yield value, of_gold


def shorten(names: Sequence[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def _check_text(gold: Document, predicted: Document) -> None:
    a, b = gold.text, predicted.text
    if a != b:
        at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
        at = min(len(a), len(b)) if at is None else at
        raise InputError(
            f"document {gold.id!r}: the texts of gold and prediction differ at offset {at}: "
            f"{a[at : at + 20]!r} and {b[at : at + 20]!r}: expected the same text"
        )


def load(
    gold: Path,
    predictions: Path,
    gold_format: str | None = None,
    prediction_format: str | None = None,
    *,
    ignore_extra: bool = False,
) -> DataSet:
    """Read and pair two files; see `pair`."""
    return pair(
        gold.name,
        read(gold, gold_format),
        read_predictions(predictions, prediction_format),
        ignore_extra=ignore_extra,
    )


def pool(data_sets: Sequence[DataSet]) -> DataSet:
    """One data set of all their documents."""
    return DataSet(
        "pooled",
        tuple(document for data in data_sets for document in data.gold),
        tuple(record for data in data_sets for record in data.predictions),
        tuple(reason for data in data_sets for reason in data.failed),
        tuple(id for data in data_sets for id in data.extra),
        tuple(error for data in data_sets for error in data.broken),
    )


# ---- recall ceiling


@dataclass(frozen=True)
class Ceiling:
    """The highest recall that a format allows.

    Attributes
    ----------
    entities: gold entities. `expressible`: those that the format can write at this level.
    returned: those of them that reading the gold answer gives back.
    dropped: the entities that cannot be written, by cause.
    """

    setting: Setting
    entities: int
    expressible: int
    returned: int
    dropped: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def ceiling(documents: Iterable[Document], labels: Sequence[str], setting: Setting) -> Ceiling:
    """What the gold answers of a format can hold of the gold entities.

    Raises
    ------
    LabelError: a label cannot be asked for.
    """
    format: Format = get_format(setting.format, setting.options)
    entities = expressible = returned = 0
    causes: Counter[str] = Counter()
    for document in documents:
        for question in format.questions(labels):
            kept, dropped = format.expressible(document, question, setting.level)
            entities += len(kept) + len(dropped)
            expressible += len(kept)
            causes.update(cause for _, cause in dropped)
            if kept:
                gold = replace(document, entities=kept)
                answer = format.encode(gold, question, setting.level)
                decoded = format.decode(answer, document.text, question, level=setting.level)
                returned += len(set(kept) & set(decoded.entities))
    return Ceiling(setting, entities, expressible, returned, dict(causes))


# ---- scores


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
    intervals: tuple[Interval, Interval, Interval] | None = None

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = self.scores._asdict()
        if self.counts is not None:
            found |= asdict(self.counts)
        if self.intervals is not None:
            found["intervals"] = dict(zip(Scores._fields, self.intervals, strict=True))
        return found


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
    labels = tuple(labels) if labels else data.labels
    pairs = data.pairs(labels)

    def score(metric: Metric) -> Score:
        counts = [metric(*each) for each in pairs]
        total = sum(counts, Counts())
        return Score(total.scores, total, intervals(counts, resamples=resamples, seed=seed))

    def per_label() -> Rows:
        return tuple((label, score(of_label(label))) for label in labels)

    def against_plain(name: str, metric: Metric) -> Rows:
        simple, complex = score(plain), score(metric)
        differences = (
            None if a is None or b is None else a - b
            for a, b in zip(simple.scores, complex.scores, strict=True)
        )
        return ("plain", simple), (name, complex), ("delta", Score(Scores(*differences)))

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


def _health(data: DataSet) -> Health | None:
    known = [record.health for record in data.predictions if record and record.health]
    return sum(known, Health()) if known else None


def _ceiling(data: DataSet, labels: Sequence[str], format: str | None) -> Ceiling | None:
    settings = {record.setting for record in data.predictions if record and record.setting}
    setting = settings.pop() if len(settings) == 1 else None
    if format is not None:
        setting = replace(setting, format=format) if setting else Setting(format)
    return ceiling(data.gold, labels, setting) if setting and labels else None


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
    differences: tuple[Difference, Difference, Difference] | None

    def to_json(self) -> dict[str, Any]:
        found = self.differences
        return {
            "first": self.first._asdict(),
            "second": self.second._asdict(),
            "differences": found
            and {name: asdict(d) for name, d in zip(Scores._fields, found, strict=True)},
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
