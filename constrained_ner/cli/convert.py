"""`cner convert`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click

from constrained_ner.cli.options import input_options, notes, progress
from constrained_ner.corpora import (
    OUTPUT_FORMATS,
    detect_format,
    detect_output_format,
    read,
    write,
)
from constrained_ner.documents import Document
from constrained_ner.errors import InputError


@click.command()
@click.argument("input", type=click.Path(exists=True, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@input_options
@click.option(
    "--output-format",
    type=click.Choice(sorted(OUTPUT_FORMATS)),
    default=None,
    help="Format of the output; by default the one that its suffix asks for. No suffix: brat.",
)
@click.option(
    "--words",
    type=click.Choice(["space", "fine"]),
    default=None,
    help="Tokens of the column formats: runs of non-space, or finer.  [default: space where the "
    "input has columns, else fine]",
)
def convert(
    input: Path,
    output: Path,
    input_format: str | None,
    limit: int | None,
    output_format: str | None,
    words: str | None,
) -> None:
    """Write the documents of INPUT in another format.

    What the format cannot hold is counted and named. A record that cannot be read is reported at
    the end; the exit status is 1 then.
    """
    input_format = input_format or detect_format(input)
    output_format = output_format or detect_output_format(output)
    options = {}
    if "words" in OUTPUT_FORMATS[output_format].options:
        columns = input_format in ("conll", "nested_iob")
        options["words"] = words or ("space" if columns else "fine")
    elif words:
        raise click.UsageError(f"--words is for columns, and {output_format} has none")
    broken: list[InputError] = []

    def documents() -> Iterator[Document]:
        for record in progress(islice(read(input, input_format), limit), "documents"):
            if isinstance(record, InputError):
                broken.append(record)
            else:
                yield record

    with notes():
        losses = write(documents(), output, output_format, **options)
    click.echo(
        f"{losses.documents} documents, {losses.entities} mentions: "
        f"{input_format} to {output_format}",
        err=True,
    )
    for line in losses.lines():
        click.echo(f"not kept: {line}", err=True)
    for error in broken:
        click.echo(f"left out: {error}", err=True)
    if broken:
        sys.exit(1)
