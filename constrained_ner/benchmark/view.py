"""Results arranged for the tables: the ways to answer, and the cells of each draw."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TypeVar

from constrained_ner.benchmark.grid import Cell, CellCosts, Variant, Way
from constrained_ner.benchmark.results import (
    CellResult,
    ConfidenceTenth,
    PooledResult,
    Results,
    TogetherResult,
    TrainingCosts,
)
from constrained_ner.evaluation import Counts
from constrained_ner.evaluation.report import Score
from constrained_ner.evaluation.resampling import corrected
from constrained_ner.formats import ProblemKind
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.prediction import Health

Cells = Sequence[CellResult]
# From a cell to one of its scores; None where it has no such score.
Pick = Callable[[CellResult], Score | None]
Tested = TypeVar("Tested", CellResult, PooledResult, TogetherResult)


@dataclass(frozen=True)
class Group:
    """All draws of a model that was trained in one configuration; or a model as it is.

    Attributes
    ----------
    names: in the results, one for each draw. `configuration`: empty for a model as it is.
    training: the costs of each training, as far as they are known.
    """

    model: str
    configuration: str
    names: tuple[str, ...]
    training: tuple[TrainingCosts, ...] = ()

    @property
    def title(self) -> str:
        parts = (self.model, self.configuration)
        draws = f"{len(self.names)} draws" if len(self.names) > 1 else ""
        return ", ".join(part for part in (*parts, draws) if part)


class View:
    """Results, arranged by model, way and draw.

    The p-values of what it gives are corrected for the number of tests: of a model on a data set,
    and of a model over all data sets.

    Attributes
    ----------
    data, variants: those of the results, in their order. `names`: of the data.
    levels: those of the results, from free to faithful.
    groups: the models, draws of one training together. `together`: of the results.
    """

    def __init__(self, results: Results):
        self.results = results
        self.data, self.variants = results.data, results.variants
        self.levels = tuple(level for level in Level if level in results.levels)
        self.missing = results.missing
        self.names = [data.name for data in self.data]
        cells = _corrected(results.cells, lambda r: (r.cell.model, r.cell.data))
        self._results = {result.cell: result for result in cells}
        found = _corrected(results.pooled, lambda pooled: pooled.model)
        found = _corrected(found, lambda pooled: pooled.model, "against_terms")
        self._pooled = {(pooled.model, pooled.way): pooled for pooled in found}
        self.together = _corrected(results.together, lambda one: one.model, "differences")
        planned = [*self._results, *self.missing]
        self._planned = {(cell.model, cell.way) for cell in planned}
        self.groups = _groups(results)

    @property
    def masked(self) -> list[Level]:
        return [level for level in self.levels if level != Level.FREE]

    def ways(self, group: Group) -> list[Way]:
        """The variants and levels that a group was to be asked in."""
        return [
            way
            for way in (Way(variant, level) for variant in self.variants for level in self.levels)
            if any((name, way) in self._planned for name in group.names)
        ]

    def variants_of(self, group: Group) -> list[Variant]:
        return list(dict.fromkeys(way.variant for way in self.ways(group)))

    def draws(self, group: Group, way: Way, data: Iterable[str] | None = None) -> list[Cells]:
        """The cells of each draw, of these data sets; by default of all.

        A draw with a missing cell is left out: its sums could not be compared with the others.
        """
        names = self.names if data is None else list(data)
        return [whole for model in group.names if (whole := self._whole(model, way, names))]

    def paired_draws(
        self, group: Group, way: Way, other: Way, data: Iterable[str] | None = None
    ) -> list[tuple[Cells, Cells]]:
        """As `draws`, the cells of two ways; without the draws that are whole for one of them."""
        names = self.names if data is None else list(data)
        pairs = (
            (self._whole(model, way, names), self._whole(model, other, names))
            for model in group.names
        )
        return [(cells, others) for cells, others in pairs if cells and others]

    def _whole(self, model: str, way: Way, names: Sequence[str]) -> Cells:
        """The cells of a model, one for each name; none where one is missing."""
        cells = [self._results.get(Cell(model, name, *way)) for name in names]
        found = [cell for cell in cells if cell is not None]
        return found if len(found) == len(names) else []

    def pooled(self, group: Group, way: Way) -> list[PooledResult]:
        """Strict scores over all data sets, draw by draw."""
        found = (self._pooled.get((model, way)) for model in group.names)
        return [pooled for pooled in found if pooled is not None]

    def cells(self, group: Group | None = None) -> Cells:
        chosen = self.results.cells
        return [result for result in chosen if group is None or result.cell.model in group.names]

    def data_with(self, kind: str) -> list[str]:
        """The data sets with nested, or with discontinuous, gold entities."""
        row = row_of(kind, kind)
        counted = {r.cell.data for r in self.results.cells if (s := row(r)) and gold_of(s)}
        return [name for name in self.names if name in counted]


def _corrected(
    results: Sequence[Tested], family: Callable[[Tested], Hashable], name: str = "against_free"
) -> list[Tested]:
    """Results whose differences of F1 have p-values that are corrected family by family.

    Parameters
    ----------
    name: of the field that holds the differences.
    """
    families: dict[Hashable, list[int]] = {}
    for i, result in enumerate(results):
        if getattr(result, name) is not None:
            families.setdefault(family(result), []).append(i)
    found = list(results)
    for members in families.values():
        tested = [getattr(results[i], name) for i in members]
        for i, all_, f1 in zip(members, tested, corrected([d.f1 for d in tested]), strict=True):
            found[i] = replace(found[i], **{name: all_._replace(f1=f1)})
    return found


def _groups(results: Results) -> list[Group]:
    runs = results.runs
    found: dict[tuple[str, str], list[str]] = {}
    for name in results.models:
        run = runs.get(name)
        key = (run.model, run.configuration) if run else (name, "")
        found.setdefault(key, []).append(name)
    return [
        Group(*key, tuple(names), tuple(runs[n].training for n in names if n in runs))
        for key, names in found.items()
    ]


# ---- scores -------------------------------------------------------------------------------------


def gold_of(score: Score) -> int:
    """How many gold entities a score was computed from; 0 for averages and differences."""
    return score.counts.gold if score.counts else 0


def sum_of(cells: Cells, pick: Pick) -> Score:
    """Precision, recall and F1 from the sums of counts over cells."""
    picked = (pick(cell) for cell in cells)
    total = sum((score.counts for score in picked if score and score.counts), Counts())
    return Score(total.scores, total)


def f1_of(cells: Cells, pick: Pick) -> float | None:
    return sum_of(cells, pick).scores.f1


def metric(name: str) -> Callable[[CellResult], Score]:
    """A function that picks one of a cell's scores."""
    return lambda cell: cell.scores[name]


strict = metric("strict")


def read_strictly(cell: CellResult) -> Score | None:
    """The score of the answers that follow their format to the letter."""
    return cell.read_strictly


def row_of(kind: str, name: str) -> Pick:
    """A function that picks one row of a cell's breakdown."""
    return lambda cell: dict(cell.breakdowns.get(kind, ())).get(name)


# ---- answers ------------------------------------------------------------------------------------


def health_sum(cells: Cells, of: Callable[[Health], int]) -> int:
    return sum(of(cell.health) for cell in cells if cell.health)


def answers(cells: Cells) -> int:
    return health_sum(cells, lambda health: health.answers)


def parsed(cells: Cells) -> int:
    """The answers that follow their format to the letter."""
    return health_sum(cells, lambda health: health.parsed)


def problems(cells: Cells, *kinds: ProblemKind) -> int:
    return health_sum(cells, lambda health: sum(health.problems[kind] for kind in kinds))


# What is not true to the text: surfaces, offsets, copies.
UNTRUE = (ProblemKind.NOT_IN_TEXT, ProblemKind.OFFSET, ProblemKind.COPY)


def untrue(cells: Cells) -> int:
    return problems(cells, *UNTRUE)


def tenths(cells: Cells) -> list[ConfidenceTenth]:
    """Confidence by tenths, summed over cells; empty if none was recorded."""
    known = [cell.confidence for cell in cells if cell.confidence]
    return [
        ConfidenceTenth(
            sum(t.entities for t in of), sum(t.right for t in of), sum(t.total for t in of)
        )
        for of in zip(*known, strict=True)
    ]


# Of `CellCosts`, for `cost`.
seconds, tokens = attrgetter("seconds"), attrgetter("tokens")


def cost(cells: Cells, of: Callable[[CellCosts], float | None]) -> float | None:
    """The sum of one of the costs; None if it was not measured everywhere."""
    values = [of(cell.answered.costs) for cell in cells]
    return None if None in values else float(sum(value for value in values if value is not None))
