"""From the answers of a grid to its results: what is counted of each cell, and of them together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice, product
from pathlib import Path
from statistics import fmean
from typing import Any

from constrained_ner.adapters import folder_of
from constrained_ner.benchmark.grid import (
    Cell,
    CorpusSample,
    Grid,
    Way,
    answered_cell,
    done,
    options_of,
    predictions_of,
)
from constrained_ner.benchmark.results import (
    AllowedMass,
    CellResult,
    ConfidenceTenth,
    CorpusSummary,
    GivenLabel,
    PooledResult,
    Results,
    Shifts,
    ShownAnswer,
    ShownDocument,
    TogetherResult,
)
from constrained_ner.benchmark.together import Asked, documents_of, variant_of
from constrained_ner.corpora.fingerprints import fingerprint, load_fingerprints
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import AnswerError
from constrained_ner.evaluation import Counts, intervals, paired_test, strict
from constrained_ner.evaluation.pairing import DataSet, pair
from constrained_ner.evaluation.records import Record, record_of
from constrained_ner.evaluation.reliability import calibration_error, thresholds
from constrained_ner.evaluation.report import Score, compare, evaluate
from constrained_ner.evaluation.resampling import Differences
from constrained_ner.formats import Feature, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.agreement import Agreement
from constrained_ner.pipeline.calibration import Calibration
from constrained_ner.pipeline.manifest import Manifest, load_manifest
from constrained_ner.pipeline.prediction import Reply
from constrained_ner.pipeline.view import view_of

PAPER_BUDGET = 128  # new tokens, as in table 8
_FAR = 50  # characters: entities farther apart have nothing to do with one another


def gather(
    grid: Grid,
    folder: Path,
    *,
    shown: int = 40,
    texts: Collection[str] | None = None,
    resamples: int = 10_000,
) -> Results:
    """The results of the cells that are done.

    Parameters
    ----------
    shown: how many documents of each corpus to keep with their answers, for a reader of the
        report. `texts`: the corpora of which this is permitted; by default all.
    resamples: of the intervals and tests.
    """
    resampling = Resampling(resamples, grid.seed)
    answered = {cell: Answered(cell, grid, folder) for cell in grid.cells() if done(folder, cell)}
    return Results(
        grid.models,
        tuple(map(_summary_of, grid.data)),
        grid.variants,
        grid.levels,
        grid.seed,
        resamples,
        tuple(
            _result_of(answers, answered.get(replace(cell, level=Level.FREE)), grid, resampling)
            for cell, answers in answered.items()
        ),
        tuple(cell for cell in grid.cells() if cell not in answered),
        tuple(_pooled(grid, answered, resampling)),
        tuple(_together(grid, answered, resampling)),
        tuple(_shown(grid, answered, shown, texts)),
        dict(_seen(grid)),
    )


@dataclass(frozen=True)
class Resampling:
    """Of intervals and tests: how many resamples are drawn, and by which seed."""

    resamples: int
    seed: int

    def score(self, counts: Sequence[Counts]) -> Score:
        """The scores of documents together, and their intervals."""
        total = sum(counts, Counts())
        found = intervals(counts, resamples=self.resamples, seed=self.seed)
        return Score(total.scores, total, found)

    def differences(self, first: Sequence[Counts], second: Sequence[Counts]) -> Differences | None:
        return paired_test(first, second, resamples=self.resamples, seed=self.seed)


def _summary_of(data: CorpusSample) -> CorpusSummary:
    asked = [e for one in data.documents for e in one.entities if e.label in data.labels]
    return CorpusSummary(data.name, len(data.documents), len(asked), data.labels)


def _seen(grid: Grid) -> Iterator[tuple[str, dict[str, int]]]:
    """How many documents of each corpus a model was trained on, of the models that can tell."""
    for model in grid.models:
        known = load_fingerprints(folder_of(grid.source(model)))
        if known is not None:
            yield (
                model,
                {
                    data.name: sum(fingerprint(document) in known for document in data.documents)
                    for data in grid.data
                },
            )


class Answered:
    """A cell that is done: what it took, its answers, and the gold documents beside them."""

    def __init__(self, cell: Cell, grid: Grid, folder: Path):
        self.data = grid.data_of(cell)
        self.cell = cell
        self.format = get_format(cell.variant.format, options_of(cell.variant, self.data))
        self.summary = answered_cell(folder, cell)
        self.predictions = predictions_of(folder, cell)
        self.replies = [reply for one in self.predictions for reply in one.replies]
        records = map(record_of, self.predictions)
        self.paired = pair(self.data.name, self.data.documents, records)

    @property
    def counts(self) -> list[Counts]:
        """What each document adds to the strict scores."""
        return [strict(*each) for each in self.paired.pairs(self.data.labels)]

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
                view = view_of(prediction.text, reply.segment)  # what the model was shown
                with suppress(AnswerError):
                    read = self.format.decode(
                        reply.answer, view.text, known, strict=strict, level=self.cell.level
                    )
                    entities += map(view.in_document, read.entities)
            found = Document(prediction.id, prediction.text, tuple(entities))
            records.append(Record(found.id, found))
        return pair(self.data.name, self.data.documents, records)


def _result_of(
    answered: Answered, free: Answered | None, grid: Grid, resampling: Resampling
) -> CellResult:
    """What is said of one cell: accuracy, health and costs.

    Of a free answer all that can be read counts, so that a low score is not the doing of a strict
    reader; `read_strictly` has the other way.
    """
    data, expresses = answered.data, answered.format.expresses
    drawn: dict[str, Any] = {"resamples": resampling.resamples, "seed": resampling.seed}
    by = ("label", "nested", "discontinuous")
    report = evaluate(answered.paired, data.labels, by=by, **drawn)
    strictly = against_free = None
    if answered.cell.level == Level.FREE:
        strictly = evaluate(answered.read_anew(strict=True), data.labels, **drawn).scores["strict"]
    elif free is not None:
        against_free = compare(free.paired, answered.paired, data.labels, **drawn).differences
    return CellResult(
        answered.summary,
        len(report.data.failed),
        report.scores,
        report.breakdowns,
        report.ceiling,
        report.health,
        _beyond(answered.replies),
        _allowed_mass(answered.replies),
        _confidence(answered),
        _labels_given(answered, grid) if Feature.ALL_LABELS in expresses else None,
        _shifts(answered.paired) if Feature.OFFSETS in expresses else None,
        strictly,
        against_free,
    )


def _pooled(
    grid: Grid, answered: dict[Cell, Answered], resampling: Resampling
) -> Iterator[PooledResult]:
    """Strict scores of each model and way over all corpora, each with labels of its own.

    Where a corpus is missing there are none, for they could not be compared.
    """

    def group(model: str, way: Way) -> list[Answered]:
        cells = (Cell(model, data.name, *way) for data in grid.data)
        found = [answered[cell] for cell in cells if cell in answered]
        return found if len(found) == len(grid.data) else []

    def counts(group: Sequence[Answered]) -> list[Counts]:
        return [one for answers in group for one in answers.counts]

    for model, way in dict.fromkeys((cell.model, cell.way) for cell in answered):
        cells = group(model, way)
        if not cells:
            continue
        own = counts(cells)
        free = group(model, way._replace(level=Level.FREE)) if way.level != Level.FREE else []
        term = way.variant.terms
        terms = group(model, way._replace(variant=term)) if term else []
        yield PooledResult(
            model,
            way,
            resampling.score(own),
            resampling.differences(counts(free), own) if free else None,
            resampling.differences(counts(terms), own) if terms else None,
        )


def _beyond(replies: Iterable[Reply]) -> int:
    """How many answers the paper's budget would have cut off."""
    return sum(reply.tokens > PAPER_BUDGET for reply in replies)


def _allowed_mass(replies: Iterable[Reply]) -> AllowedMass | None:
    """None where it was not recorded."""
    known = [reply.allowed_mass for reply in replies if reply.allowed_mass is not None]
    if not known:
        return None
    return AllowedMass(fmean(mean for mean, _ in known), fmean(least for _, least in known))


def _confidence(answered: Answered) -> tuple[ConfidenceTenth, ...]:
    """Empty where no confidence was recorded."""
    tenths = [ConfidenceTenth(0, 0, 0.0)] * 10
    for document, prediction in zip(answered.data.documents, answered.predictions, strict=True):
        gold = set(document.entities)
        for entity, confidence in prediction.confidences.items():
            i = min(9, int(10 * confidence))
            entities, right, total = tenths[i]
            tenths[i] = ConfidenceTenth(entities + 1, right + (entity in gold), total + confidence)
    return tuple(tenths) if any(tenth.entities for tenth in tenths) else ()


def _shifts(data: DataSet) -> Shifts:
    """By how much spans miss theirs.

    Each predicted entity that is no gold one is compared with the nearest gold entity of its
    label that was not found, by the sum of the distances of beginnings and ends.
    """
    starts: Counter[int] = Counter()
    ends: Counter[int] = Counter()
    exact = unrelated = 0
    for _, gold, predicted in data.pairs():
        left = list(set(gold) - set(predicted))
        exact += len(set(gold) & set(predicted))
        for entity in set(predicted) - set(gold):
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
    return Shifts(exact, unrelated, dict(sorted(starts.items())), dict(sorted(ends.items())))


def _labels_given(answered: Answered, grid: Grid) -> tuple[GivenLabel, ...]:
    """The labels that spans of gold entities were given, as far as they were found.

    Labels of other corpora are read, too, though nobody asked for them: what models drift to.
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
    return tuple(GivenLabel(*labels, times) for labels, times in sorted(given.items()))


def _together(
    grid: Grid, answered: dict[Cell, Answered], resampling: Resampling
) -> Iterator[TogetherResult]:
    """What a model knows from dev of its formats and of several together, held against new text.

    Of the formats in which all corpora were answered at a level.
    """
    for model, level in product(grid.models, grid.levels):
        trained = load_manifest(grid.source(model))
        if trained is None:
            continue
        known = [one for one in trained.calibrations if one.level == str(level)]
        names = dict.fromkeys(name for one in known for name in one.formats)
        ways = {name: Way(variant_of(trained, name), level) for name in names}
        cells = {
            name: [answered.get(Cell(model, data.name, *way)) for data in grid.data]
            for name, way in ways.items()
        }
        here = {name: [a for a in each if a] for name, each in cells.items() if all(each)}
        documents = [
            one
            for i, data in enumerate(grid.data)
            for one in documents_of(
                data, {name: each[i].predictions for name, each in here.items()}
            )
        ]
        for one in known:
            if set(one.formats) <= here.keys():
                yield from _put_together(model, one, trained, grid, here, documents, resampling)


def _put_together(
    model: str,
    known: Calibration,
    trained: Manifest,
    grid: Grid,
    here: Mapping[str, Sequence[Answered]],
    documents: Sequence[Asked],
    resampling: Resampling,
) -> Iterator[TogetherResult]:
    """The formats of a calibration by agreement; by a vote, too, if there are three or more."""
    names = known.formats
    best = max(names, key=lambda name: trained.dev[name].f1 if name in trained.dev else 0.0)
    plain = [one.counts(one.found.get(best, {})) for one in documents]
    cells = [each for name in names for each in here[name]]
    level = Level.parse(known.level)
    weights = trained.weights(names)
    for how in ("agreement", "vote")[: 1 + (len(names) > 2)]:
        agreement = Agreement(weights, vote=how == "vote")
        formats = (  # a data set may have options of its own
            [here[name][i].format for name in names]
            for i, data in enumerate(grid.data)
            for _ in data.documents
        )
        raw = [one.together(f, agreement) for one, f in zip(documents, formats, strict=True)]
        worth = known.probability if how == "agreement" else float
        found = [{e: worth(c) for e, c in scores.items()} for scores in raw]
        least = known.best.least if how == "agreement" else 0.0
        counts = [
            one.counts({e: p for e, p in each.items() if p >= least})
            for one, each in zip(documents, found, strict=True)
        ]
        each_corpus = iter(counts)
        by_data = {
            data.name: sum(islice(each_corpus, len(data.documents)), Counts()).scores.f1
            for data in grid.data
        }
        judged = [one.judged(each) for one, each in zip(documents, found, strict=True)]
        before = [one.judged(each) for one, each in zip(documents, raw, strict=True)]
        yield TogetherResult(
            model,
            tuple(str(variant_of(trained, name)) for name in names),
            level,
            how,
            least,
            resampling.score(counts),
            by_data,
            str(variant_of(trained, best)),
            resampling.differences(plain, counts),
            sum(each.summary.costs.calls for each in cells),
            sum(each.summary.costs.seconds for each in cells),
            sum(each.summary.costs.calls for each in here[best]),
            calibration_error(judged) if how == "agreement" else None,
            calibration_error(before) if how == "agreement" else None,
            thresholds(judged),
        )


def _shown(
    grid: Grid, answered: dict[Cell, Answered], most: int, texts: Collection[str] | None
) -> Iterator[ShownDocument]:
    for model, data in product(grid.models, grid.data):
        if texts is not None and data.name not in texts:
            continue
        cells = [a for cell, a in answered.items() if (cell.model, cell.data) == (model, data.name)]
        for i, document in enumerate(data.documents[:most]):
            found = {}
            for a in cells:
                record, prediction = a.paired.predictions[i], a.predictions[i]
                found[a.cell.way] = ShownAnswer(
                    prediction.error,
                    tuple(reply.answer for reply in prediction.replies),
                    record.document.entities if record and record.document else (),
                )
            yield ShownDocument(
                model, data.name, document.id, document.text, document.entities, found
            )
