"""`cner predict`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constrained_ner.cli import reading
from constrained_ner.cli.asking import (
    Asking,
    asking_options,
    confidence_options,
    without_confidences,
)
from constrained_ner.cli.messages import (
    detail,
    interruptible,
    is_quiet,
    report_left_out,
    report_losses,
    say,
    visible,
)
from constrained_ner.cli.options import (
    check_apart,
    given,
    overruled,
    overwrite_option,
)
from constrained_ner.cli.output import KINDS, Output
from constrained_ner.cli.progress import Progress
from constrained_ner.cli.running import ENGINE_OPTIONS, RAY, Running, engine_options
from constrained_ner.cli.shards import Shards
from constrained_ner.documents import Document
from constrained_ner.errors import InputError
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.prediction import Prediction, Summary
from constrained_ner.pipeline.runs import RECORDS, Run, line_of

if TYPE_CHECKING:
    from rich.console import Console

    from constrained_ner.pipeline.predictor import Predictor
    from constrained_ner.pipeline.workers import Workers


@click.command()
@asking_options
@confidence_options
@engine_options
@click.option(
    "--confidence/--no-confidence",
    default=True,
    show_default=True,
    help="Record how sure the model is, of masked answers.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    default=None,
    help="Write here, `-` for records on standard output; by default, print for reading.",
)
@click.option(
    "--output-format",
    type=click.Choice(KINDS),
    default=None,
    help="Records are JSON lines with answers and problems; html is a page to look at, with the "
    "gold entities where the input has some.  [default: by the suffix of the output]",
)
@click.option(
    "--shard-size",
    type=click.IntRange(1),
    default=None,
    help="Make the output a folder, of files with so many documents each.",
)
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped.")
@overwrite_option
def predict(
    confidence: bool,
    output: Path | None,
    output_format: str | None,
    shard_size: int | None,
    resume: bool,
    overwrite: bool,
    **given_options: Any,
) -> None:
    """Extract the entities of the documents in INPUT, or of a text; `-` reads one from a pipe.

    A document that cannot be read or answered is reported at the end; the exit status is 1 then.
    """
    resume = resume and not overruled("resume", "overwrite")
    overwrite = overwrite and not overruled("overwrite", "resume")
    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    how = {name: given_options.pop(name) for name in ENGINE_OPTIONS}
    filed = output is not None and str(output) != "-"
    if filed:
        check_apart(output, given_options["examples"])
    if not confidence and given("confidence"):
        # Here already, since what comes from a file may exclude each other.
        given_options = without_confidences(given_options)
    asking = Asking.of(**given_options)
    if not filed:
        other = given("output_format") and output_format != RECORDS
        if other or any(map(given, ("shard_size", "resume", "overwrite"))):
            raise click.UsageError(
                "--shard-size, --resume, --overwrite and --output-format go with an --output that "
                "is a file"
            )
        shard_size = None
        output_format = output_format if output_format == RECORDS else None
    if not filed and how["engine"] == RAY:
        raise click.UsageError(f"--engine {RAY} needs an --output that is a file")
    to_file = None
    if output is not None and filed and shard_size is None:
        to_file = Output.of(output, output_format, asking.from_columns)
        to_file.check(asking.input, resume=resume, overwrite=overwrite)
    running = Running.of(**how)
    recorded = confidence and asking.level != Level.FREE and running.log_probabilities
    if not recorded and confidence and given("confidence"):
        raise click.UsageError(
            "--confidence is of masked answers of engines that tell probabilities under the mask"
        )
    if not recorded:
        asking = asking.without_confidences()
    asking.check(recorded=recorded)
    running.check(asking)
    detail(
        f"format: {asking.task.format}, {asking.level}; engine: {running.engine}; "
        f"segments: {asking.segment}"
    )
    settings = {**asking.settings(recorded=recorded), **running.settings()}
    summary = Summary()
    shards = None
    if output is not None and shard_size is not None:
        check_apart(output, asking.input)
        kind = output_format or RECORDS
        shards = Shards.of(
            output,
            kind,
            shard_size,
            settings,
            resume=resume,
            overwrite=overwrite,
            from_columns=asking.from_columns,
        )
    run = None
    if to_file is not None:
        run = Run(
            asking.documents(),
            to_file.records,
            settings,
            resume=resume,
            overwrite=overwrite,
            summary=summary,
        )
    as_text = output is None and output_format is None
    terminal = _terminal() if as_text else None
    # Records on a terminal show the progress themselves.
    shown_beside = filed or terminal is not None or not sys.stdout.isatty()
    done = shards.finished_documents if shards is not None else summary.before
    bar = _progress(asking.documents(), done, terminal, shown=shown_beside)

    def answered(document: Document, answers: int) -> None:
        bar.add(0, len(document.text) / answers)

    @cache  # shards share it
    def answers() -> Predictor | Workers:
        return running.answers(asking, recorded=recorded, on_answer=answered)

    def predictions() -> Iterator[Prediction]:
        if shards is not None:
            return shards.answer(asking.documents(), answers, summary)
        if run is not None:
            return run.answer(answers)
        made = running.predictor(asking, recorded=recorded, on_answer=answered)
        labels = [label for target in made.targets for label in target.labels]
        return _printed(made.predict(asking.documents()), labels, as_text, terminal)

    again = "--resume in place of --overwrite" if overwrite else "--resume"
    with interruptible(lambda: _how_to_go_on(output if filed else None, summary, again)), bar:
        for prediction in predictions():
            summary.add(prediction)
            bar.add(1, len(prediction.text) if running.workers else 0)
    if to_file is not None:
        report_losses(to_file.finish(asking.documents()))
    for line in summary.lines():
        say(line)
    report_left_out([*summary.failed, *(f"in part: {error}" for error in summary.partly)])


def _terminal() -> Console | None:
    """Standard output, if it is a terminal that is read by a person."""
    if not sys.stdout.isatty():
        return None
    from rich.console import Console

    return Console(highlight=False)


def _progress(
    documents: Iterable[Document | InputError],
    before: int,
    console: Console | None,
    *,
    shown: bool,
) -> Progress:
    """What shows how far a run over these documents is, by the characters that are answered.

    Parameters
    ----------
    before: how many had their records before.
    """
    if is_quiet() or not shown:
        return Progress("documents", silent=True)
    sizes = [len(one.text) if isinstance(one, Document) else 0 for one in documents][before:]
    return Progress("documents", len(sizes), sum(sizes), console)


def _how_to_go_on(output: Path | None, summary: Summary, again: str) -> str:
    if output is None:
        return f"{summary.documents} documents were answered"
    done = summary.before + summary.documents
    return f"there are {done} records for {output}, and the same command with {again} goes on"


def _printed(
    predictions: Iterable[Prediction],
    labels: Sequence[str],
    readable: bool,
    terminal: Console | None,
) -> Iterator[Prediction]:
    """Print predictions as they come, and pass them on."""
    written = reading.plain if readable else line_of
    for prediction in predictions:
        if terminal is not None:
            terminal.print(reading.coloured(prediction, labels))
        else:
            text = written(prediction)
            sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
            sys.stdout.flush()
        yield prediction
