"""What was run: the data sets, the machine and its settings, and the cells that are missing."""

from __future__ import annotations

from constrained_ner.benchmark.blocks import Column, Entry, Table
from constrained_ner.benchmark.view import View


def data_sets(view: View) -> Table:
    rows = tuple(
        (
            Entry(data.name),
            Entry(str(data.documents)),
            Entry(str(data.entities)),
            Entry(", ".join(data.labels)),
        )
        for data in view.data
    )
    columns = tuple(map(Column, ("data set", "documents", "gold entities", "labels")))
    return Table("The data sets.", columns, rows)


def settings(view: View) -> Table:
    """Machines, settings and versions; each combination once."""
    found: dict[tuple[str, ...], None] = {}
    for result in view.cells():
        made = result.answered
        batch = "" if made.batch_size is None else str(made.batch_size)
        versions = ", ".join(f"{name} {version}" for name, version in made.versions.items())
        found[result.cell.model, made.device, made.dtype, batch, versions] = None
    return Table(
        "On what the answers were made.",
        tuple(map(Column, ("model", "device", "dtype", "batch", "versions"))),
        tuple(tuple(map(Entry, row)) for row in found),
        5,
    )


def not_run(view: View) -> Table:
    return Table(
        "What was not run.",
        tuple(map(Column, ("model", "data set", "format", "level"))),
        tuple(
            (Entry(cell.model), Entry(cell.data), Entry(str(cell.variant)), Entry(cell.level))
            for cell in view.missing
        ),
        4,
    )
