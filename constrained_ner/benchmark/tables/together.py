"""Formats put together: what it adds to the best of them, and what it costs."""

from __future__ import annotations

from constrained_ner.benchmark.blocks import EMPTY, Column, Entry, Table, entry, number
from constrained_ner.benchmark.results import TogetherResult
from constrained_ner.benchmark.tables.fields import against_free
from constrained_ner.benchmark.view import Group, View


def results_of(view: View, group: Group) -> list[TogetherResult]:
    return [one for one in view.together if one.model in group.names]


def gains(view: View, group: Group) -> Table:
    """F1 of formats together, and of single ones without what is improbable."""
    rows = []
    for one in results_of(view, group):
        scores, bounds = one.strict.scores, one.strict.intervals
        rows.append(
            (
                Entry(", ".join(one.formats)),
                Entry(one.how if len(one.formats) > 1 else "threshold"),
                Entry(str(one.level)),
                entry([scores.f1], bounds.f1 if bounds else None),
                entry([scores.precision]),
                entry([scores.recall]),
                entry([one.least]) if one.how == "agreement" else EMPTY,
                Entry(one.against),
                against_free([one.differences and one.differences.f1]),
                Entry(number(one.calls / one.calls_of_one, 1)) if one.calls_of_one else EMPTY,
                entry([one.raw_error]),
                entry([one.error]),
            )
        )
    return Table(
        "What the model knows from dev, held against this text: entities that are less probable "
        "than the threshold are left out. A vote takes what more than half of the formats have. "
        "The difference is to the answers of the format beside it as they are.",
        (
            Column("formats"),
            Column("put together by"),
            Column("level"),
            Column("F1", "strict, all data sets"),
            Column("precision", "strict, all data sets"),
            Column("recall", "strict, all data sets"),
            Column("threshold"),
            Column("format", "against the best of them"),
            Column("F1", "against the best of them"),
            Column("calls, times", "against the best of them"),
            Column("of confidences", "calibration error"),
            Column("of probabilities", "calibration error"),
        ),
        tuple(rows),
        3,
    )


def by_data(view: View, group: Group) -> Table:
    """The same for each data set."""
    rows = [
        (
            Entry(", ".join(one.formats)),
            Entry(one.how if len(one.formats) > 1 else "threshold"),
            Entry(str(one.level)),
            *(entry([one.by_data.get(name)]) for name in view.names),
        )
        for one in results_of(view, group)
    ]
    columns = (Column("formats"), Column("put together by"), Column("level"))
    return Table(
        "Strict F1 of each data set.",
        (*columns, *(Column(name) for name in view.names)),
        tuple(rows),
        3,
    )
