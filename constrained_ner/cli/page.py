"""`cner page`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click

from constrained_ner.cli.messages import report_left_out
from constrained_ner.cli.options import (
    OutputFile,
    check_apart,
    input_options,
    overwrite_option,
)
from constrained_ner.cli.progress import progress
from constrained_ner.corpora import INPUT_FORMATS, read, readable
from constrained_ner.errors import InputError
from constrained_ner.evaluation.pairing import beside_gold
from constrained_ner.evaluation.records import Record, read_predictions
from constrained_ner.pages import write_page


@click.command()
@click.argument("input", type=click.Path(exists=True, path_type=Path))
@click.argument("output", type=OutputFile())
@click.option(
    "--gold",
    type=click.Path(exists=True, path_type=Path),
    default=None,
    help="Annotated documents to compare with, found by their ids.",
)
@click.option(
    "--gold-format",
    type=click.Choice(sorted(INPUT_FORMATS)),
    default=None,
    help="Format of the gold; by default it is recognised.",
)
@click.option("--title", default=None, help="Of the page; by default the input's name.")
@overwrite_option
@input_options
def page(
    input: Path,
    output: Path,
    gold: Path | None,
    gold_format: str | None,
    title: str | None,
    input_format: str | None,
    encoding: str | None,
    limit: int | None,
    overwrite: bool,
) -> None:
    """Show what `cner predict` wrote, or any annotated documents, as one HTML file.

    What cannot be read, of either side, is reported at the end; the exit status is 1 then.
    """
    if gold_format and not gold:
        raise click.UsageError("--gold-format goes with --gold")
    # A page may lie in the folder of what it shows: it is not read.
    check_apart(output, *(path for path in (input, gold) if path and path.is_file()))
    broken: list[InputError] = []

    def records() -> Iterator[Record | InputError]:
        found = islice(read_predictions(input, input_format, encoding), limit)
        for record in progress(found, "documents"):
            if isinstance(record, InputError):
                broken.append(record)
            yield record

    beside = read(gold, gold_format, encoding=encoding) if gold else ()
    documents = readable(beside, broken)
    write_page(beside_gold(records(), documents), output, title=title or input.stem)
    report_left_out(broken)
