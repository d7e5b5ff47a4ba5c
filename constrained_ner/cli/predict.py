"""`cner predict`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constrained_ner.adapters import digest_of
from constrained_ner.atomic import check_writable
from constrained_ner.cli import reading
from constrained_ner.cli.messages import (
    detail,
    interruptible,
    is_quiet,
    report_left_out,
    report_losses,
    say,
    warn,
)
from constrained_ner.cli.options import (
    MASKED_LEVELS,
    check_apart,
    check_effect,
    check_replaceable,
    format_options,
    given,
    input_options,
    labels_option,
    model_options,
    overwrite_option,
    read_all,
    renamed_option,
    table_input,
    table_options,
)
from constrained_ner.cli.progress import Progress
from constrained_ner.corpora import (
    OUTPUT_FORMATS,
    check_output,
    detect_output_format,
    read,
    write,
)
from constrained_ner.corpora.files import BOM
from constrained_ner.corpora.jsonl import document_from_json, document_to_json
from constrained_ner.documents import Document
from constrained_ner.engines import DEFAULT_ENGINE, ENGINES, SCHEMA_ENGINES
from constrained_ner.errors import InputError
from constrained_ner.evaluation.records import record_of
from constrained_ner.formats import FORMATS
from constrained_ner.formats.grammar import Level
from constrained_ner.pages import write_page
from constrained_ner.pipeline.manifest import load_manifest
from constrained_ner.pipeline.prediction import Prediction, Summary
from constrained_ner.pipeline.prompts import DEFAULT_DATASET
from constrained_ner.pipeline.runs import Run, check_unfinished, line_of
from constrained_ner.pipeline.segments import SEGMENTS, sentences
from constrained_ner.pipeline.task import DEFAULT_FORMAT, task_for

if TYPE_CHECKING:
    from rich.console import Console

    from constrained_ner.pipeline.manifest import Manifest
    from constrained_ner.pipeline.predictor import Predictor

_RECORDS, _PAGE = "records", "html"
_PAGE_SUFFIXES = (".html", ".htm")


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
    type=click.Choice(list(FORMATS)),
    default=None,
    help="How the model writes its answer.  [default: the format that it is best at on dev; where "
    f"that is not known, {DEFAULT_FORMAT}, or the first that it was trained for]",
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
    "answers are the same. The others are outlines' own, for JSON formats at the syntax level.",
)
@renamed_option("--decoder", "--engine speculative or --engine reference")
@renamed_option("--backend", "--engine outlines_core or --engine xgrammar")
@click.option(
    "--segment",
    type=click.Choice(SEGMENTS),
    default="sentence",
    show_default=True,
    help="What of a text is asked about at a time: all of it, each sentence, or as much as the "
    "model has room for. Sentences that do not fit are cut at white space.",
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
    default=0.0,
    help="Leave out entities that the model is less sure of, from 0 to 1; answers stay whole.",
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
    type=click.Choice([_RECORDS, _PAGE, *(name for name in OUTPUT_FORMATS if name != "jsonl")]),
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
    constrained: bool,
    level: str | None,
    model: str,
    adapter: str | None,
    device: str,
    dtype: str,
    batch_size: int,
    max_new_tokens: int | None,
    dataset: str | None,
    index: bool | None,
    examples: Path | None,
    engine: str,
    segment: str,
    confidence: bool,
    conflicts: str,
    min_confidence: float,
    output: Path | None,
    output_format: str | None,
    resume: bool,
    overwrite: bool,
    input_format: str | None,
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
        input, input_format, text_column=text_column, id_column=id_column
    )
    to_file = None if output is None or str(output) == "-" else output
    if resume and to_file is None:
        raise click.UsageError("--resume goes with an --output that is a file")
    kind = _kind(output, output_format)
    if to_file is not None:
        _check_output(to_file, kind, input, resume=resume, overwrite=overwrite)
    chosen = Level.parse(level or Level.FAITHFUL) if constrained else Level.FREE
    manifest = _manifest(adapter or model, labels)
    task = task_for(manifest, labels, name, dataset, options)
    check_effect(task.format)
    for note in task.notes:
        warn(note)
    shown = _examples(examples)
    whole = [Document("text", _piped() if text is None else text)] if piped else None

    def documents() -> Iterable[Document | InputError]:
        return whole or islice(read(input or "", input_format, **columns), limit)

    indexed = task.index if index is None else index
    recorded = confidence and chosen is not Level.FREE and engine not in SCHEMA_ENGINES
    if not recorded and (min_confidence or (confidence and given("confidence"))):
        raise click.UsageError(
            "--confidence and --min-confidence are of masked answers of our own engines: not with "
            "--free, --no-confidence, or outlines' own masks"
        )
    detail(f"format: {task.format.name}, {chosen}; engine: {engine}; segments: {segment}")
    for target in task.targets:
        detail(f"labels: {', '.join(target.labels)}, by the guidelines of {target.name}")

    # Everything that answers depend on besides the documents. A run is resumed only if all of it
    # is the same.
    base = manifest and manifest.base
    settings = {
        "model": model,
        "adapter": adapter,
        "weights": [digest_of(one) for one in (model, adapter, base) if one],
        "manifest": manifest and asdict(replace(manifest, dev={})),
        "device": device,
        "dtype": dtype,
        "batch size": batch_size,
        "token budget": max_new_tokens,
        "format": task.format.name,
        "format's options": asdict(task.format.options),
        "level": str(chosen),
        "labels": [asdict(target) for target in task.targets],
        "index": indexed,
        "examples": [document_to_json(replace(one, confidences={}, meta={})) for one in shown],
        "engine": engine,
        "segment": segment,
        "confidence": recorded,
        "conflicts": conflicts,
        "least confidence": min_confidence,
    }
    summary = Summary()
    run = None
    records = to_file and _records(to_file, kind)
    if records is not None:
        run = Run(
            documents(), records, settings, resume=resume, overwrite=overwrite, summary=summary
        )
    terminal = _terminal() if output is None else None
    # Records on a terminal show the progress themselves.
    shown_beside = to_file is not None or terminal is not None or not sys.stdout.isatty()
    bar = _progress(documents(), summary, terminal, shown=shown_beside)

    def predictor() -> Predictor:
        from constrained_ner.engines.models import device_name, load_model
        from constrained_ner.pipeline.predictor import Predictor

        made = Predictor(
            load_model(model, adapter, device=device, dtype=dtype),
            task.format,
            task.targets,
            chosen,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            index=indexed,
            engine=engine,
            examples=shown,
            record=recorded,
            segment=segment,
            conflicts=task.conflicts if conflicts == "settle" else None,
            min_confidence=min_confidence,
            on_answer=lambda document, answers: bar.add(0, len(document.text) / answers),
        )
        detail(f"model: {made.model.name}, {dtype}, on {device_name(made.model)}")
        if made.unsupported_reason:
            say(f"decoding goes token by token: {made.unsupported_reason}")
        return made

    def predictions() -> Iterator[Prediction]:
        if run is not None:
            return run.answer(predictor)
        made = predictor()
        labels = [label for target in made.targets for label in target.labels]
        return _printed(made.predict(documents()), labels, output is None, terminal)

    with interruptible(lambda: _how_to_go_on(records, summary)), bar:
        for prediction in predictions():
            summary.add(prediction)
            bar.add()
    if records is not None and to_file is not None and kind != _RECORDS:
        _convert(records, documents, to_file, kind)
    for line in summary.lines():
        say(line)
    report_left_out([*summary.failed, *(f"in part: {error}" for error in summary.partly)])


def _manifest(model: str, labels: tuple[str, ...] | None) -> Manifest | None:
    """What the model says of itself.

    Raises
    ------
    ModelError: labels are expected from the model, and there is no such model.
    """
    manifest = load_manifest(model)
    if manifest is None and labels is None:
        from constrained_ner.engines.models import load_vocabulary

        load_vocabulary(model)
    return manifest


def _piped() -> str:
    """The text on standard input, with its line ends unchanged."""
    data = sys.stdin.buffer.read()
    try:
        return data.decode().removeprefix(BOM)
    except UnicodeDecodeError as error:
        raise InputError(f"standard input: byte {error.start}: expected UTF-8") from None


def _kind(output: Path | None, output_format: str | None) -> str:
    """The format to write: its name among `OUTPUT_FORMATS`, or records, or a page."""
    if output_format is not None or output is None or str(output) == "-":
        return output_format or _RECORDS
    if output.suffix.lower() in _PAGE_SUFFIXES:
        return _PAGE
    try:
        found = detect_output_format(output)
    except InputError as error:
        reason = f"{error.reason}; {_PAGE}: {' '.join(_PAGE_SUFFIXES)}"
        raise InputError(reason, output) from None
    return _RECORDS if found == "jsonl" else found


def _records(output: Path, kind: str) -> Path:
    """The file of records, from which the output is made in the end if it is something else."""
    return output if kind == _RECORDS else output.with_name(f".{output.name}.records")


def _check_output(
    output: Path, kind: str, input: Path | None, *, resume: bool, overwrite: bool
) -> None:
    """See what is wrong with the output before a model is loaded.

    Raises
    ------
    InputError: it cannot be written, holds an unfinished run that is not to be resumed (or its
        answers, of which it was not made yet), or is finished where it should be resumed; or it
        would become part of the input.
    MissingExtraError: its format needs a package that is not installed.
    """
    if input is not None and str(input) != "-" and kind != _PAGE:
        check_apart(input, output)
    records = _records(output, kind)
    check_unfinished(records, resume=resume or overwrite)
    if not resume:
        check_replaceable(
            output, overwrite=overwrite, else_="; --resume goes on with a run that is the same"
        )
    if records != output and records.exists() and not (resume or overwrite):
        raise InputError(
            f"holds answers, of which {str(output)!r} was not made: --resume makes it, or "
            "remove them",
            records,
        )
    if kind in (_RECORDS, _PAGE):
        check_writable(output)
    else:
        check_output(output, kind)
    if resume and output.exists() and not records.exists():
        raise InputError(
            "is finished, and its records are gone: expected a run to resume; without --resume it "
            "is made anew",
            output,
        )


def _convert(
    records: Path,
    documents: Callable[[], Iterable[Document | InputError]],
    output: Path,
    kind: str,
) -> None:
    """Make the output of the records, which are removed then.

    Parameters
    ----------
    documents: read once more, for the gold entities of a page.
    """
    if kind == _PAGE:
        gold = (one if isinstance(one, Document) else None for one in documents())
        shown = (record_of(Prediction.from_json(record)) for record in _read(records))
        write_page(zip(shown, gold, strict=False), output, title=output.stem)
    else:
        cut = "sentences" in OUTPUT_FORMATS[kind].options
        options = {"sentences": sentences} if cut else {}
        report_losses(write(_documents(records), output, kind, **options))
    records.unlink()


def _read(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _documents(path: Path) -> Iterator[Document]:
    """The documents that were answered, with the entities that were found."""
    return (document_from_json(record) for record in _read(path) if "error" not in record)


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


def _how_to_go_on(records: Path | None, summary: Summary) -> str:
    if records is None:
        return f"{summary.documents} documents were answered"
    done = summary.before + summary.documents
    return f"{records} holds {done} records, and the same command with --resume goes on"


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
    documents, broken = read_all(path, None, None) if path else ([], [])
    if broken:
        raise broken[0]
    return tuple(documents)
