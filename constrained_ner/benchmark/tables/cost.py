"""The costs of answers: tokens, calls of the model, seconds, memory, energy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter

from constrained_ner.benchmark.blocks import Column, Table, entry
from constrained_ner.benchmark.grid import CellCosts, Way
from constrained_ner.benchmark.tables.fields import WAY, way_entries
from constrained_ner.benchmark.view import Cells, Group, View, cost, seconds, tokens
from constrained_ner.formats.grammar import Level

_JOULES = 3.6e6  # of a kWh
_calls = attrgetter("calls")
_for_grammars, _for_masks = attrgetter("grammar_seconds"), attrgetter("mask_seconds")


def costs(view: View, group: Group, names: Sequence[str] | None = None) -> Table:
    """Costs for each document; of all data sets, or of some."""
    with_energy = any(_energy(cell.answered.costs) is not None for cell in view.cells(group))
    rows = []
    for way in view.ways(group):
        draws = view.draws(group, way, names)
        row = [*way_entries(way)]
        for of, digits in ((tokens, 1), (_calls, 2), (seconds, 3)):
            row.append(entry([per_document(cells, of) for cells in draws], None, digits))
        row.append(entry([_quotient(cells, tokens) for cells in draws], None, 1))
        shares = (
            [_quotient(cells, of, 100) for cells in draws] for of in (_for_grammars, _for_masks)
        )
        row += [entry(share, None, 1) for share in shares]
        row.append(entry(slowdowns(view, group, way, names), None, 2))
        row.append(entry([_memory(cells) for cells in draws], None, 2))
        if with_energy:
            row.append(entry([per_document(cells, _energy) for cells in draws], None, 1))
        rows.append(tuple(row))
    of_which = "All data sets" if names is None else ", ".join(names)
    return Table(
        f"{of_which}: what a document took; a batch is one call of the model.",
        (
            *WAY,
            Column("tokens", "a document"),
            Column("calls", "a document"),
            Column("seconds", "a document"),
            Column("tokens", "a second"),
            Column("for grammars", "% of seconds"),
            Column("for masks", "% of seconds"),
            Column("times free"),
            Column("memory, GB"),
            *([Column("energy, J", "a document")] if with_energy else []),
        ),
        tuple(rows),
        2,
    )


def _energy(costs: CellCosts) -> float | None:
    """In joules."""
    return None if costs.kwh is None else costs.kwh * _JOULES


def per_document(cells: Cells, of: Callable[[CellCosts], float | None]) -> float | None:
    documents = sum(cell.answered.documents for cell in cells)
    total = cost(cells, of)
    return None if total is None or not documents else total / documents


def _quotient(
    cells: Cells, part: Callable[[CellCosts], float | None], times: float = 1
) -> float | None:
    """A cost for each second; None if one of them was not measured."""
    a, b = cost(cells, part), cost(cells, seconds)
    return times * a / b if a is not None and b else None


def slowdowns(
    view: View, group: Group, way: Way, names: Sequence[str] | None = None
) -> list[float | None]:
    """Seconds, as multiples of those of free decoding, for each draw."""
    found: list[float | None] = []
    for cells, others in view.paired_draws(group, way, way._replace(level=Level.FREE), names):
        a, b = cost(cells, seconds), cost(others, seconds)
        found.append(a / b if a is not None and b else None)
    return found


def _memory(cells: Cells) -> float | None:
    """The highest of the cells, in GB."""
    peaks = (cell.answered.peak_memory for cell in cells)
    known = [peak for peak in peaks if peak is not None]
    return max(known) / 1e9 if known else None
