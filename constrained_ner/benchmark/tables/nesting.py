"""Nested and discontinuous entities beside plain ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from constrained_ner.benchmark.blocks import Column, Table, entry
from constrained_ner.benchmark.tables.fields import WAY, of_sum, way_entries
from constrained_ner.benchmark.view import Cells, Group, View, row_of, sum_of
from constrained_ner.evaluation.report import delta


def complex_entities(view: View, group: Group, names: Mapping[str, Sequence[str]]) -> Table:
    """F1 of plain and of complex entities, and their difference, the paper's Delta.

    Parameters
    ----------
    names: the data sets to take, for each kind, `nested` and `discontinuous`.
    """
    rows = []
    for way in view.ways(group):
        row = [*way_entries(way)]
        for kind, chosen in names.items():
            draws = view.draws(group, way, chosen)
            row += [of_sum(draws, row_of(kind, "plain")), of_sum(draws, row_of(kind, kind))]
            row.append(entry(deltas(draws, kind)))
        rows.append(tuple(row))
    return Table(
        "Strict F1 of plain and of "
        + " and ".join(f"{kind} entities ({', '.join(names[kind])})" for kind in names)
        + "; Delta is the difference, and lower is better.",
        (
            *WAY,
            *(Column(name, kind) for kind in names for name in ("plain", kind, "Delta")),
        ),
        tuple(rows),
        2,
    )


def deltas(draws: Sequence[Cells], kind: str) -> list[float | None]:
    """F1 of plain entities minus F1 of nested or discontinuous ones, draw by draw."""
    return [
        delta(sum_of(cells, row_of(kind, "plain")), sum_of(cells, row_of(kind, kind))).f1
        for cells in draws
    ]
