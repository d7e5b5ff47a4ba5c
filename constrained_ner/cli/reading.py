"""Predictions in a form for people to read, on a terminal or in a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from constrained_ner.cli.messages import visible
from constrained_ner.documents import Entity

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from constrained_ner.pipeline.prediction import Prediction

# Okabe and Ito's colours, which colour-blind people can tell apart. Labels are printed, too.
_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#0072b2", "#d55e00")


def plain(prediction: Prediction) -> str:
    """The text of a document, and its entities, one on each line."""
    if prediction.error is not None:
        return f"! {prediction.error}\n\n"
    lines = [f"{prediction.id}: {prediction.text}"]
    width = max((len(entity.label) for entity in prediction.entities), default=0)
    for entity in prediction.entities:
        surface, offsets, *rest = _said(prediction, entity)
        columns = f"{entity.label:<{width}}", surface, f"[{offsets}]", *filter(None, rest)
        lines.append("  " + "  ".join(columns))
    lines += [f"  ! {start}-{end}: {why}" for (start, end), why in prediction.left_out]
    return "\n".join(lines) + "\n\n"


def coloured(prediction: Prediction, labels: Sequence[str]) -> RenderableType:
    """The same for a terminal: the text with its entities in colour, and a table of them.

    Parameters
    ----------
    labels: all labels that may occur, so that each has the same colour in every document.
    """
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table

    if prediction.error is not None:
        return _text(f"! {prediction.error}\n", "red")
    colour = {label: _COLOURS[i % len(_COLOURS)] for i, label in enumerate(labels)}
    text = _text(prediction.text)
    # Of nested entities the innermost comes last, and its colour is seen.
    for entity in prediction.entities:
        for start, end in entity.fragments:
            text.stylize(f"underline {colour.get(entity.label, '')}", start, end)
    table = Table.grid(padding=(0, 2))
    for entity in prediction.entities:
        surface, offsets, sure, section = _said(prediction, entity)
        table.add_row(
            _text(entity.label, f"bold {colour.get(entity.label, '')}"),
            _text(surface),
            _text(offsets, "dim"),
            _text(sure, "dim"),
            _text(section, "dim"),
        )
    left_out = [
        _text(f"! {start}-{end}: {why}", "red") for (start, end), why in prediction.left_out
    ]
    head = _text(prediction.id, "dim")
    return Group(head, text, Padding(table, (0, 0, 0, 2)), *left_out, _text(""))


def _text(words: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(visible(words), style)


def _said(prediction: Prediction, entity: Entity) -> tuple[str, str, str, str]:
    """The surface, offsets, confidence and section of an entity, as text."""
    offsets = ";".join(f"{start}-{end}" for start, end in entity.fragments)
    sure = prediction.confidences.get(entity)
    surface = " ".join(entity.surface(prediction.text).split())
    section = prediction.section_at(entity.start)
    return surface, offsets, "" if sure is None else f"{sure:.2f}", section
