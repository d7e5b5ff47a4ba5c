"""`cner convert`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import click

from constrained_ner.cli.messages import report_left_out, report_losses, say
from constrained_ner.cli.options import (
    check_apart,
    check_replaceable,
    given,
    input_options,
    overwrite_option,
    recognised,
    table_input,
    table_options,
)
from constrained_ner.cli.output import column_options
from constrained_ner.cli.progress import progress
from constrained_ner.corpora import (
    COLUMN_FORMATS,
    OUTPUT_FORMATS,
    check_output,
    detect_output_format,
    read,
    readable,
    write,
)
from constrained_ner.errors import InputError
from constrained_ner.pipeline.prediction import counted


@click.command()
@click.argument("input", type=click.Path(exists=True, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@overwrite_option
@input_options
@table_options
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
@click.option(
    "--label",
    default=None,
    help="Label of the mentions, where the tags of columns have none: plain B, I and O.",
)
def convert(
    input: Path,
    output: Path,
    input_format: str | None,
    encoding: str | None,
    limit: int | None,
    text_column: str | None,
    id_column: str | None,
    output_format: str | None,
    words: str | None,
    label: str | None,
    overwrite: bool,
) -> None:
    """Write the documents of INPUT in another format.

    What the format cannot hold is counted and named. A record that cannot be read is reported at
    the end; the exit status is 1 then.
    """
    check_apart(output, input)
    check_replaceable(output, overwrite=overwrite)
    output_format = output_format or detect_output_format(output)
    check_output(output, output_format)
    input_format, reading = table_input(
        input, input_format, encoding, text_column=text_column, id_column=id_column
    )
    input_format = input_format or recognised(input, encoding)
    columns = input_format in COLUMN_FORMATS
    options = column_options(output_format, columns, words)
    if given("words") and not options:
        raise click.UsageError(f"--words is for columns, and {output_format} has none")
    if given("label") and not columns:
        raise click.UsageError(f"--label is for columns, and {input_format} has none")
    if label and columns:
        reading["label"] = label
    records = read(input, input_format, encoding=encoding, **reading)
    broken: list[InputError] = []
    documents = readable(progress(islice(records, limit), "documents"), broken)
    losses = write(documents, output, output_format, **options)
    say(
        f"{counted(losses.documents, 'document')}, {counted(losses.entities, 'mention')}: "
        f"{input_format} to {output_format}"
    )
    report_losses(losses)
    report_left_out(broken)
