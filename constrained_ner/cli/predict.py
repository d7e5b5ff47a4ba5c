"""`cner predict`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constrained_ner.cli import reading
from constrained_ner.cli.asking import Asking, asking_options
from constrained_ner.cli.messages import (
    detail,
    interruptible,
    is_quiet,
    report_left_out,
    say,
)
from constrained_ner.cli.options import (
    SERVER_OPTIONS,
    given,
    overwrite_option,
    renamed_option,
    running_options,
    server_options,
)
from constrained_ner.cli.output import KINDS, RECORDS, Output
from constrained_ner.cli.progress import Progress
from constrained_ner.documents import Document
from constrained_ner.engines import DEFAULT_ENGINE, ENGINES, SCHEMA_ENGINES, SERVER
from constrained_ner.errors import InputError
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.prediction import Prediction, Summary
from constrained_ner.pipeline.runs import Run, line_of

if TYPE_CHECKING:
    from rich.console import Console

    from constrained_ner.engines.language_model import LanguageModel
    from constrained_ner.engines.server import Connection
    from constrained_ner.pipeline.predictor import Predictor


@click.command()
@asking_options
@running_options
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default=DEFAULT_ENGINE,
    show_default=True,
    help="What decodes: several tokens with each call of the model, or one with `reference`; the "
    "answers are the same. `openai` asks a server. The others are outlines' own, for JSON formats "
    "at the syntax level.",
)
@server_options
@renamed_option("--decoder", "--engine speculative or --engine reference")
@renamed_option("--backend", "--engine outlines_core or --engine xgrammar")
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
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped.")
@overwrite_option
def predict(
    device: str,
    dtype: str,
    quantize: str | None,
    batch_size: int,
    engine: str,
    base_url: str | None,
    served_model: str,
    timeout: float,
    retries: int,
    unmasked: str,
    confidence: bool,
    output: Path | None,
    output_format: str | None,
    resume: bool,
    overwrite: bool,
    **asked: Any,
) -> None:
    """Extract the entities of the documents in INPUT, or of a text; `-` reads one from a pipe.

    A document that cannot be read or answered is reported at the end; the exit status is 1 then.
    """
    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    asking = Asking.of(**asked)
    to_file = None
    if output is not None and str(output) != "-":
        to_file = Output.of(output, output_format)
        to_file.check(asking.input, resume=resume, overwrite=overwrite)
    elif resume or overwrite or output_format not in (None, RECORDS):
        raise click.UsageError(
            "--resume, --overwrite and --output-format go with an --output that is a file"
        )
    connection = None
    if engine == SERVER:
        connection = _connect(base_url, served_model, timeout, retries, unmasked)
    elif foreign := [name for name in SERVER_OPTIONS if given(name)]:
        raise click.UsageError(f"--{foreign[0].replace('_', '-')} goes with --engine {SERVER}")
    able = engine not in SCHEMA_ENGINES and (connection is None or connection.log_probabilities)
    recorded = confidence and asking.level is not Level.FREE and able
    if not recorded and confidence and given("confidence"):
        raise click.UsageError(
            "--confidence is of masked answers of engines that tell probabilities under the mask"
        )
    asking.check(recorded=recorded)
    detail(
        f"format: {asking.task.format}, {asking.level}; engine: {engine}; "
        f"segments: {asking.segment}"
    )
    settings = {
        **asking.settings(recorded=recorded),
        "device": device,
        "dtype": dtype,
        "quantisation": quantize,
        "batch size": batch_size,
        "engine": engine,
        "server": connection and [base_url, connection.model, connection.way_name],
    }
    summary = Summary()
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
    terminal = _terminal() if output is None else None
    # Records on a terminal show the progress themselves.
    shown_beside = to_file is not None or terminal is not None or not sys.stdout.isatty()
    bar = _progress(asking.documents(), summary, terminal, shown=shown_beside)

    def predictor() -> Predictor:
        from constrained_ner.engines.models import device_name, load_model, load_tokens

        model: LanguageModel
        if connection is not None:
            model = load_tokens(asking.model, asking.adapter)
            detail(f"model: {connection.model}, at {base_url}, by {connection.way_name}")
        else:
            names = asking.model, asking.adapter
            model = load_model(*names, device=device, dtype=dtype, quantize=quantize)
            detail(f"model: {model.name}, {dtype}, on {device_name(model)}")
        made = asking.predictor(
            model,
            recorded=recorded,
            batch_size=batch_size,
            engine=connection.engine if connection else engine,
            on_answer=lambda document, answers: bar.add(0, len(document.text) / answers),
        )
        if made.unsupported_reason:
            say(f"decoding goes token by token: {made.unsupported_reason}")
        return made

    def predictions() -> Iterator[Prediction]:
        if run is not None:
            return run.answer(predictor)
        made = predictor()
        labels = [label for target in made.targets for label in target.labels]
        return _printed(made.predict(asking.documents()), labels, output is None, terminal)

    with interruptible(lambda: _how_to_go_on(to_file, summary)), bar:
        for prediction in predictions():
            summary.add(prediction)
            bar.add()
    if to_file is not None:
        to_file.finish(asking.documents())
    for line in summary.lines():
        say(line)
    report_left_out([*summary.failed, *(f"in part: {error}" for error in summary.partly)])


def _connect(
    base_url: str | None, model: str, timeout: float, retries: int, unmasked: str
) -> Connection:
    if base_url is None:
        raise click.UsageError(f"--engine {SERVER} needs --base-url")
    if not base_url.startswith(("http://", "https://")):
        raise click.UsageError(f"--base-url {base_url}: expected http:// or https://")
    from constrained_ner.engines.server import Server, connect

    return connect(Server(base_url, model, timeout, retries, unmasked == "lenient"))


def _terminal() -> Console | None:
    """Standard output, if it is a terminal that is read by a person."""
    if not sys.stdout.isatty():
        return None
    from rich.console import Console

    return Console(highlight=False)


def _progress(
    documents: Iterable[Document | InputError],
    before: Summary,
    console: Console | None,
    *,
    shown: bool,
) -> Progress:
    """What shows how far a run over these documents is, by the characters that are answered.

    Parameters
    ----------
    before: what had its records before.
    """
    if is_quiet() or not shown:
        return Progress("documents", silent=True)
    sizes = [len(one.text) if isinstance(one, Document) else 0 for one in documents]
    left = len(sizes) - before.before, sum(sizes) - before.characters
    return Progress("documents", *left, console)


def _how_to_go_on(output: Output | None, summary: Summary) -> str:
    if output is None:
        return f"{summary.documents} documents were answered"
    done = summary.before + summary.documents
    return f"{output.records} holds {done} records, and the same command with --resume goes on"


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
            sys.stdout.write(written(prediction))
            sys.stdout.flush()
        yield prediction
