"""`cner formats`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import click

from constrained_ner.cli.options import (
    MASKED_LEVELS,
    check_effect,
    format_options,
    given,
    labels_option,
    to_options,
)
from constrained_ner.documents import Document, Entity
from constrained_ner.formats import FORMATS, Feature, Format, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.conversation import Conversation
from constrained_ner.pipeline.prompts import Target

_TEXT = "Aspirin eased her left and right knee pain, but not the colon cancer."


def _entity(label: str, *surfaces: str) -> Entity:
    starts = [_TEXT.index(surface) for surface in surfaces]
    return Entity(label, tuple((s, s + len(x)) for s, x in zip(starts, surfaces, strict=True)))


EXAMPLE = Document(
    "example",
    _TEXT,
    (
        _entity("Chemical", "Aspirin"),
        _entity("Disease", "left", "knee pain"),
        _entity("Disease", "right knee pain"),
        _entity("Disease", "colon cancer"),
        _entity("Anatomy", "colon"),
    ),
)


@click.command()
@click.argument("name", required=False, type=click.Choice(list(FORMATS)), metavar="[NAME]")
@click.option("--text", default=EXAMPLE.text, help="The text to make them for.")
@labels_option(default="Chemical,Disease,Anatomy")
@click.option(
    "--level",
    type=click.Choice(MASKED_LEVELS),
    default="syntax",
    show_default=True,
    help="The level of the grammar to print.",
)
@click.option("--index", is_flag=True, help="Index the words in the prompt.")
@format_options
def formats(
    name: str | None, text: str, labels: tuple[str, ...], level: str, index: bool, **options: Any
) -> None:
    """List the formats; or show the prompt, answers, schema and grammar of one."""
    if name is None:
        ruled = [o for o in ("text", "labels", "level", "index", *options) if given(o)]
        if ruled:
            raise click.UsageError(f"--{ruled[0].replace('_', '-')} goes with the NAME of a format")
        click.echo(_table(FORMATS.values()))
        return
    format = get_format(name, to_options(options))
    check_effect([format])
    about = _asked(format, labels, text)
    question = format.turns(about)[0]
    chat = Conversation(format, text, Target(about), index).messages()
    sections = {
        "prompt": "\n".join(message["content"] for message in chat),
        "answer that finds nothing": format.write(text, (), question),
    }
    if text == EXAMPLE.text:
        sections["example answer"] = _example(format, question)
    schema = format.schema(question)
    if schema is not None:
        sections["schema of the list"] = json.dumps(schema, ensure_ascii=False, indent=2)
    grammar = format.grammar(text, question, Level.parse(level))
    sections[f"grammar, {level} level"] = grammar.source.strip()
    click.echo("\n\n".join(f"# {title}\n{body}" for title, body in sections.items()))


def _asked(format: Format, labels: tuple[str, ...], text: str) -> tuple[str, ...]:
    """The labels that the prompt asks for. For the example, those with the most entities in it."""

    def entities(about: tuple[str, ...]) -> int:
        known = EXAMPLE.entities if text == EXAMPLE.text else ()
        return sum(entity.label in about for entity in known)

    return max(format.conversations(labels), key=entities)  # the first where they are alike


def _example(format: Format, question: tuple[str, ...]) -> str:
    """The answer for what the example text holds of the labels and the format can write."""
    kept, dropped = format.expressible(EXAMPLE, question)
    answer = format.write(EXAMPLE.text, kept, question)
    missing = "".join(f"\n(not written: {e.describe(EXAMPLE.text)}: {why})" for e, why in dropped)
    return answer + missing


def _table(formats: Iterable[Format]) -> str:
    """What each format can express, as a Markdown table."""
    features = list(Feature)
    rows = [
        [format.name, *("yes" if feature in format.expresses else "no" for feature in features)]
        for format in formats
    ]
    header = ["format", *features]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    line = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in [header, line, *rows]
    )
