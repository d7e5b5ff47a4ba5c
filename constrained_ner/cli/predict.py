"""`cner predict`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constrained_ner.adapters import digest_of
from constrained_ner.cli import reading
from constrained_ner.cli.messages import (
    detail,
    interruptible,
    is_quiet,
    report_left_out,
    say,
    warn,
)
from constrained_ner.cli.options import (
    MASKED_LEVELS,
    SERVER_OPTIONS,
    FormatNames,
    check_effect,
    format_options,
    given,
    input_options,
    labels_option,
    model_options,
    overwrite_option,
    read_all,
    renamed_option,
    server_options,
    table_input,
    table_options,
)
from constrained_ner.cli.output import KINDS, RECORDS, Output
from constrained_ner.cli.progress import Progress
from constrained_ner.corpora import read
from constrained_ner.corpora.files import File
from constrained_ner.corpora.jsonl import document_to_json
from constrained_ner.documents import Document
from constrained_ner.engines import DEFAULT_ENGINE, ENGINES, SCHEMA_ENGINES, SERVER
from constrained_ner.errors import InputError
from constrained_ner.formats import FORMATS
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.manifest import load_manifest
from constrained_ner.pipeline.prediction import Prediction, Summary
from constrained_ner.pipeline.prompts import DEFAULT_DATASET
from constrained_ner.pipeline.runs import Run, line_of
from constrained_ner.pipeline.segments import SEGMENTS
from constrained_ner.pipeline.task import COMBINATIONS, DEFAULT_FORMAT, task_for

if TYPE_CHECKING:
    from rich.console import Console

    from constrained_ner.engines.server import Connection
    from constrained_ner.pipeline.manifest import Manifest
    from constrained_ner.pipeline.predictor import Predictor


@click.command()
@click.argument(
    "input", required=False, type=click.Path(exists=True, path_type=Path, allow_dash=True)
)
@click.option("-t", "--text", help="A text, in place of INPUT.")
@labels_option(
    text="; `all`: every one that the model was trained for. By default a choice of them"
)
@click.option(
    "--format",
    "name",
    type=FormatNames(),
    default=None,
    help=f"How the model writes its answer: {', '.join(FORMATS)}; several with commas between "
    "them, whose answers are put together; or `best3`, the three that it does best with together.  "
    f"[default: the one that it is best at on dev; where that is not known, {DEFAULT_FORMAT}, or "
    "the first that it was trained for]",
)
@click.option(
    "--combine",
    type=click.Choice(COMBINATIONS),
    default="agreement",
    show_default=True,
    help="How the answers in several formats are put together: by how sure the model was in each, "
    "and how good each is; or what most of them have.",
)
@click.option(
    "--constrained/--free",
    default=True,
    show_default=True,
    help="Decode under the format's grammar, or as the model likes.",
)
@click.option(
    "--level",
    type=click.Choice(MASKED_LEVELS),
    default=None,
    help="How much of the answer is constrained.  [default: faithful]",
)
@model_options
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    default=None,
    help="Token budget of each answer; by default derived from its text.",
)
@click.option(
    "--dataset",
    default=None,
    help="The data set whose guidelines the prompt names, for all labels.  [default: for each "
    f"label one that the model was trained on, or {DEFAULT_DATASET}]",
)
@click.option(
    "--index/--no-index",
    default=None,
    help="Show every word in the prompt with its offset, for multi_bio with its number.  [default: "
    "as the model was mostly trained, in formats that only say places]",
)
@click.option(
    "--examples",
    type=click.Path(exists=True, path_type=Path),
    default=None,
    help="Annotated documents to show to a model that was not trained for the task.",
)
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
    "--segment",
    type=click.Choice(SEGMENTS),
    default="sentence",
    show_default=True,
    help="What of a text is asked about at a time: all of it, each sentence, or sentences together "
    "of up to 60 words. What does not fit is cut at white space.",
)
@click.option(
    "--confidence/--no-confidence",
    default=True,
    show_default=True,
    help="Record how sure the model is, of masked answers.",
)
@click.option(
    "--conflicts",
    type=click.Choice(["settle", "keep"]),
    default="settle",
    show_default=True,
    help="What to do where the answers of several questions contradict each other: take the surer "
    "one, or keep them side by side.",
)
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    default=None,
    help="Leave out entities that are less sure, from 0 to 1; answers stay whole.  [default: what "
    "was best on dev, where `cner calibrate` has measured it]",
)
@click.option(
    "--precision",
    type=click.FloatRange(0, 1),
    default=None,
    help="In place of --min-confidence, what has this precision on dev.",
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
@format_options
@input_options
@table_options
def predict(
    input: Path | None,
    text: str | None,
    labels: tuple[str, ...] | None,
    name: str | None,
    combine: str,
    constrained: bool,
    level: str | None,
    model: str,
    adapter: str | None,
    device: str,
    dtype: str,
    quantize: str | None,
    batch_size: int,
    max_new_tokens: int | None,
    dataset: str | None,
    index: bool | None,
    examples: Path | None,
    engine: str,
    base_url: str | None,
    served_model: str,
    timeout: float,
    retries: int,
    unmasked: str,
    segment: str,
    confidence: bool,
    conflicts: str,
    min_confidence: float | None,
    precision: float | None,
    output: Path | None,
    output_format: str | None,
    resume: bool,
    overwrite: bool,
    input_format: str | None,
    encoding: str | None,
    limit: int | None,
    text_column: str | None,
    id_column: str | None,
    **options: Any,
) -> None:
    """Extract the entities of the documents in INPUT, or of a text; `-` reads one from a pipe.

    A document that cannot be read or answered is reported at the end; the exit status is 1 then.
    """
    if not constrained and level is not None:
        raise click.UsageError("--free and --level exclude each other")
    if (input is None) == (text is None):
        raise click.UsageError("expected either INPUT or --text")
    piped = input is None or str(input) == "-"
    if piped and (given("input_format") or given("limit")):
        raise click.UsageError(
            "--input-format and --limit go with an INPUT that is a file or a folder"
        )
    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    input_format, columns = table_input(
        input, input_format, encoding, text_column=text_column, id_column=id_column
    )
    to_file = None
    if output is not None and str(output) != "-":
        to_file = Output.of(output, output_format)
        to_file.check(None if piped else input, resume=resume, overwrite=overwrite)
    elif resume or overwrite or output_format not in (None, RECORDS):
        raise click.UsageError(
            "--resume, --overwrite and --output-format go with an --output that is a file"
        )
    chosen = Level.parse(level or Level.FAITHFUL) if constrained else Level.FREE
    manifest = _manifest(adapter or model, labels)
    task = task_for(manifest, labels, name, dataset, options, combine)
    check_effect(task.formats)
    if given("combine") and len(task.formats) == 1:
        raise click.UsageError("--combine is for several formats")
    for note in task.notes:
        warn(note)
    shown = _examples(examples)
    whole = [Document("text", _piped(encoding) if text is None else text)] if piped else None

    def documents() -> Iterable[Document | InputError]:
        found = read(input or "", input_format, encoding=encoding, **columns)
        return whole or islice(found, limit)

    indexed = task.index if index is None else index
    connection = None
    if engine == SERVER:
        connection = _connect(base_url, served_model, timeout, retries, unmasked)
    elif foreign := [name for name in SERVER_OPTIONS if given(name)]:
        raise click.UsageError(f"--{foreign[0].replace('_', '-')} goes with --engine {SERVER}")
    able = engine not in SCHEMA_ENGINES and (connection is None or connection.log_probabilities)
    recorded = confidence and chosen is not Level.FREE and able
    if min_confidence is not None and precision is not None:
        raise click.UsageError("--min-confidence and --precision exclude each other")
    asked = min_confidence or precision is not None or (confidence and given("confidence"))
    if not recorded and asked:
        raise click.UsageError(
            "--confidence, --min-confidence and --precision are of masked answers of engines that "
            "tell probabilities under the mask: not with --free, --no-confidence, outlines' own "
            "masks, or a server that does not tell them (vLLM: --logprobs-mode processed_logprobs)"
        )
    if not recorded and len(task.formats) > 1 and combine != "vote":
        raise click.UsageError(
            "several formats agree by their confidences, and there are none here: expected "
            "--combine vote"
        )
    settling = task.conflicts if conflicts == "settle" else None
    calibration = task.calibration(chosen)
    if precision is not None:
        task.check_precision(chosen, precision)
    detail(f"format: {task.format}, {chosen}; engine: {engine}; segments: {segment}")
    for target in task.targets:
        detail(f"labels: {', '.join(target.labels)}, by the guidelines of {target.name}")

    # Everything that answers depend on besides the documents. A run is resumed only if all of it
    # is the same.
    base = manifest and manifest.base
    settings = {
        "model": model,
        "adapter": adapter,
        "weights": [digest_of(one) for one in (model, adapter, base) if one],
        "manifest": manifest and asdict(replace(manifest, dev={}, calibrations=())),
        "device": device,
        "dtype": dtype,
        "quantisation": quantize,
        "batch size": batch_size,
        "token budget": max_new_tokens,
        "format": task.format,
        "format's options": asdict(task.formats[0].options),
        "combination": asdict(task.agreement) if len(task.formats) > 1 else None,
        "calibration": recorded and calibration and asdict(calibration),
        "level": str(chosen),
        "labels": [asdict(target) for target in task.targets],
        "index": indexed,
        "examples": [document_to_json(replace(one, confidences={}, meta={})) for one in shown],
        "engine": engine,
        "server": connection and [base_url, connection.model, connection.way_name],
        "segment": segment,
        "confidence": recorded,
        "conflicts": settling and settling.order,  # the rest is in the manifest
        "least confidence": min_confidence,
        "precision": precision,
    }
    summary = Summary()
    run = None
    if to_file is not None:
        run = Run(
            documents(),
            to_file.records,
            settings,
            resume=resume,
            overwrite=overwrite,
            summary=summary,
        )
    terminal = _terminal() if output is None else None
    # Records on a terminal show the progress themselves.
    shown_beside = to_file is not None or terminal is not None or not sys.stdout.isatty()
    bar = _progress(documents(), summary, terminal, shown=shown_beside)

    def predictor() -> Predictor:
        from constrained_ner.engines.models import device_name, load_model, load_tokens
        from constrained_ner.pipeline.predictor import Predictor

        if connection is None:
            loaded = load_model(model, adapter, device=device, dtype=dtype, quantize=quantize)
            detail(f"model: {loaded.name}, {dtype}, on {device_name(loaded)}")
        else:
            detail(f"model: {connection.model}, at {base_url}, by {connection.way_name}")
        made = Predictor(
            load_tokens(model, adapter) if connection else loaded,
            task.formats,
            task.targets,
            chosen,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            index=indexed,
            engine=connection.engine if connection else engine,
            examples=shown,
            record=recorded,
            segment=segment,
            conflicts=settling,
            agreement=task.agreement,
            calibration=calibration,
            min_confidence=min_confidence,
            precision=precision,
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
        return _printed(made.predict(documents()), labels, output is None, terminal)

    with interruptible(lambda: _how_to_go_on(to_file, summary)), bar:
        for prediction in predictions():
            summary.add(prediction)
            bar.add()
    if to_file is not None:
        to_file.finish(documents())
    for line in summary.lines():
        say(line)
    report_left_out([*summary.failed, *(f"in part: {error}" for error in summary.partly)])


def _connect(
    base_url: str | None, model: str, timeout: float, retries: int, unmasked: str
) -> Connection:
    if base_url is None:
        raise click.UsageError(f"--engine {SERVER} needs --base-url")
    from constrained_ner.engines.server import Server, connect

    return connect(Server(base_url, model, timeout, retries, unmasked == "lenient"))


def _manifest(model: str, labels: tuple[str, ...] | None) -> Manifest | None:
    """What the model says of itself.

    Raises
    ------
    ModelError: labels are expected from the model, and there is no such model.
    """
    manifest = load_manifest(model)
    if manifest is None and labels is None:
        from constrained_ner.engines.models import load_tokens

        load_tokens(model)
    return manifest


def _piped(encoding: str | None) -> str:
    """The text on standard input, with its line ends unchanged."""
    data = sys.stdin.buffer.read()
    return File("-", "standard input", lambda: BytesIO(data), encoding).text()


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


def _examples(path: Path | None) -> tuple[Document, ...]:
    documents, broken = read_all(path) if path else ([], [])
    if broken:
        raise broken[0]
    return tuple(documents)
