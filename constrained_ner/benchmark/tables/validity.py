"""Whether answers follow their format, and how sure the model was of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from constrained_ner.benchmark.blocks import EMPTY, Column, Entry, Table, entry, percent
from constrained_ner.benchmark.results import AllowedMass
from constrained_ner.benchmark.tables.fields import WAY, count, parse_rate, way_entries
from constrained_ner.benchmark.view import (
    UNTRUE,
    Cells,
    Group,
    View,
    answers,
    health_sum,
    problems,
    tenths,
)
from constrained_ner.formats import ProblemKind
from constrained_ner.formats.grammar import Level

PROBLEMS = (
    ProblemKind.UNPARSABLE,
    ProblemKind.UNKNOWN_LABEL,
    *UNTRUE,
    ProblemKind.DUPLICATE,
    ProblemKind.TRUNCATED,
    ProblemKind.DROPPED,
)
_BY_BUDGET: dict[str, Callable[[Cells], int]] = {
    "cut off": lambda cells: health_sum(cells, lambda health: health.cut_off),
    "closed": lambda cells: health_sum(cells, lambda health: health.forced),
    "over 128 tokens": lambda cells: sum(cell.beyond for cell in cells),
}


def health(view: View, group: Group, names: Sequence[str] | None = None) -> Table:
    """How many answers follow their format, and which problems the others have."""
    rows = []
    for way in view.ways(group):
        draws = view.draws(group, way, names)
        row = [*way_entries(way), count(draws, answers), parse_rate(draws)]
        row += [count(draws, _problem(kind)) for kind in PROBLEMS]
        row += [count(draws, of) for of in _BY_BUDGET.values()]
        row.append(count(draws, lambda cells: sum(cell.failed for cell in cells)))
        row.append(entry([kept_mass(cells, lambda mass: mass.mean) for cells in draws]))
        row.append(entry([kept_mass(cells, lambda mass: mass.least) for cells in draws]))
        rows.append(tuple(row))
    of = "All data sets" if names is None else ", ".join(names)
    return Table(
        f"{of}: answers, and how often reading them met each problem.",
        (
            *WAY,
            Column("answers"),
            Column("parse"),
            *(Column(kind, "problems") for kind in PROBLEMS),
            *(Column(name, "budget") for name in _BY_BUDGET),
            Column("documents failed"),
            Column("mean", "allowed mass"),
            Column("mean of the least", "allowed mass"),
        ),
        tuple(rows),
        2,
    )


def _problem(kind: ProblemKind) -> Callable[[Cells], int]:
    return lambda cells: problems(cells, kind)


def kept_mass(cells: Cells, of: Callable[[AllowedMass], float]) -> float | None:
    """The mean allowed mass of data sets, weighted by their numbers of answers."""
    known = [(of(cell.allowed_mass), answers([cell])) for cell in cells if cell.allowed_mass]
    weight = sum(number for _, number in known)
    return sum(value * number for value, number in known) / weight if weight else None


SURE = ((0, 5, "below 0.5"), (5, 9, "0.5 to 0.9"), (9, 10, "0.9 and more"))


def confidence(view: View, group: Group) -> Table:
    """How often entities are right, by how sure the model was of them; all draws together."""
    rows: list[tuple[Entry, ...]] = []
    for way in view.ways(group):
        if way.level == Level.FREE:
            continue
        found = tenths([cell for draw in view.draws(group, way) for cell in draw])
        if not found:
            rows.append((*way_entries(way), *[EMPTY] * (3 + 2 * len(SURE))))
            continue
        number = sum(tenth.entities for tenth in found)
        right = sum(tenth.right for tenth in found)
        mean = sum(tenth.total for tenth in found) / number
        row = [Entry(str(number)), Entry(percent(right, number)), entry([mean])]
        for low, high, _ in SURE:
            of = sum(tenth.entities for tenth in found[low:high])
            good = sum(tenth.right for tenth in found[low:high])
            row += [Entry(str(of)), Entry(percent(good, of))]
        rows.append((*way_entries(way), *row))
    return Table(
        "Entities of masked answers by confidence, over all data sets: how many there are, and how "
        "many of them are right.",
        (
            *WAY,
            Column("entities", "all"),
            Column("right", "all"),
            Column("mean confidence", "all"),
            *(Column(name, part) for *_, part in SURE for name in ("entities", "right")),
        ),
        tuple(rows),
        2,
    )
