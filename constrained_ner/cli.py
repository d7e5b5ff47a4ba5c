"""The command `cner`: parse, call one function, print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constrained_ner import __version__
from constrained_ner.corpora import INPUT_FORMATS, read_documents
from constrained_ner.documents import Document
from constrained_ner.errors import CnerError, InputError
from constrained_ner.formats import FORMATS, Feature, Format, Options, get_format
from constrained_ner.grammar import Level
from constrained_ner.labels import check_labels
from constrained_ner.prompts import DEFAULT_DATASET, messages

if TYPE_CHECKING:
    from constrained_ner.predict import Prediction

# torch and what needs it are imported inside the commands: `cner --help` answers at once.

EXAMPLE = Document(
    "example",
    "Aspirin eased her left and right knee pain, but not the colon cancer.",
)


MASKED_LEVELS = [level.value for level in Level if level is not Level.FREE]


class Failure(click.ClickException):
    """One of our errors, as a message and exit status 1."""

    def __init__(self, error: CnerError):
        super().__init__(str(error))


class Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CnerError as error:
            raise Failure(error) from error


def format_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that change how a format writes, masks or reads."""
    for option in (
        click.option(
            "--max-fragments",
            type=click.IntRange(1, 8),
            default=None,
            help="Most fragments of a discontinuous entity at the faithful level.",
        ),
        click.option(
            "--boundaries",
            type=click.Choice(Options.CHOICES["boundaries"]),
            default="word",
            show_default=True,
            help="Where surfaces and offsets may begin and end at the faithful level.",
        ),
        click.option(
            "--anchor",
            type=click.Choice(Options.CHOICES["anchor"]),
            default="surface",
            show_default=True,
            help="What decides where a multi_brat entity lies.",
        ),
        click.option(
            "--words",
            type=click.Choice(Options.CHOICES["words"]),
            default="space",
            show_default=True,
            help="What multi_bio tags: runs of non-space, or finer.",
        ),
    ):
        command = option(command)
    return command


def input_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options on how the input is read."""
    for option in (
        click.option(
            "--input-format",
            type=click.Choice(sorted(INPUT_FORMATS)),
            default=None,
            help="Format of the input; by default it is recognised.",
        ),
        click.option("--limit", type=click.IntRange(1), help="Read this many documents at most."),
    ):
        command = option(command)
    return command


def labels_option(required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    text = "Labels, separated by commas" + ("." if required else "; by default the data's own.")
    return click.option("--labels", required=required, callback=_labels, help=text)


def _labels(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    if value is None:
        return None
    return check_labels([label.strip() for label in value.split(",")])


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cner")
def main() -> None:
    """Biomedical named entity recognition with small language models, under a grammar."""


# ---- predict ------------------------------------------------------------------------------------


@main.command()
@click.argument("input", type=click.Path(exists=True, path_type=Path))
@labels_option(required=True)
@click.option(
    "--format",
    "name",
    type=click.Choice(list(FORMATS)),
    default="multi_term",
    show_default=True,
    help="How the model writes its answer.",
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
@click.option(
    "--model",
    default="smollm2-135m",
    show_default=True,
    help="A folder, the packaged default, or a hub id.",
)
@click.option("--adapter", default=None, help="A LoRA adapter to put on the model.")
@click.option("--device", default="auto", show_default=True, help="Where to run, as torch says it.")
@click.option("--dtype", default="auto", show_default=True, help="float32, bfloat16 or float16.")
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    default=None,
    help="Token budget of each answer; by default derived from its text.",
)
@click.option(
    "--dataset",
    default=DEFAULT_DATASET,
    show_default=True,
    help="The data set whose guidelines the prompt names.",
)
@click.option("--index", is_flag=True, help="Show the offset of every word in the prompt.")
@click.option(
    "--examples",
    type=click.Path(exists=True, path_type=Path),
    default=None,
    help="Annotated documents to show to a model that was not trained for the task.",
)
@click.option(
    "--backend",
    type=click.Choice(["llguidance", "outlines_core", "xgrammar"]),
    default="llguidance",
    show_default=True,
    help="Mask engine. The others are outlines' own, for JSON formats at the syntax level.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path, allow_dash=True),
    default=None,
    help="Write JSON lines here, `-` for standard output; by default, print for reading.",
)
@format_options
@input_options
def predict(
    input: Path,
    labels: tuple[str, ...],
    name: str,
    constrained: bool,
    level: str | None,
    model: str,
    adapter: str | None,
    device: str,
    dtype: str,
    batch_size: int,
    max_new_tokens: int | None,
    dataset: str,
    index: bool,
    examples: Path | None,
    backend: str,
    output: Path | None,
    input_format: str | None,
    limit: int | None,
    **options: Any,
) -> None:
    """Extract the entities of the documents in INPUT.

    A document that cannot be read or answered is reported at the end; the exit status is 1 then.
    """
    if not constrained and level is not None:
        raise click.UsageError("--free and --level exclude each other")
    chosen = Level.parse(level or Level.FAITHFUL) if constrained else Level.FREE
    format = get_format(name, _options(options))
    documents = islice(read_documents(input, input_format), limit)

    from constrained_ner.models import load_model
    from constrained_ner.predict import Predictor, Summary

    predictor = Predictor(
        load_model(model, adapter, device=device, dtype=dtype),
        format,
        labels,
        chosen,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        dataset=dataset,
        index=index,
        backend=backend,
        examples=_examples(examples),
    )
    summary = Summary()
    readable = output is None
    stream = click.open_file(str(output or "-"), "w", encoding="utf-8")
    try:
        for prediction in _progress(predictor.predict(documents), "documents"):
            summary.add(prediction)
            if readable:
                stream.write(_for_reading(prediction))
            else:
                stream.write(json.dumps(prediction.to_json(), ensure_ascii=False) + "\n")
            stream.flush()
    finally:
        stream.close()
    for line in summary.lines():
        click.echo(line, err=True)
    for error in summary.failed:
        click.echo(f"left out: {error}", err=True)
    if summary.failed:
        sys.exit(1)


def _examples(path: Path | None) -> tuple[Document, ...]:
    documents, broken = _read_all(path, None, None) if path else ([], [])
    if broken:
        raise broken[0]
    return tuple(documents)


def _options(options: dict[str, Any]) -> Options:
    return Options(**{key: value for key, value in options.items() if value is not None})


def _for_reading(prediction: Prediction) -> str:
    """A document's text and its entities, one a line."""
    if prediction.error is not None:
        return f"! {prediction.error}\n\n"
    lines = [f"{prediction.id}: {prediction.text}"]
    width = max((len(entity.label) for entity in prediction.entities), default=0)
    for entity in prediction.entities:
        offsets = ";".join(f"{start}-{end}" for start, end in entity.fragments)
        lines.append(f"  {entity.label:<{width}}  {entity.surface(prediction.text)}  [{offsets}]")
    return "\n".join(lines) + "\n\n"


def _progress(items: Iterable[Any], unit: str) -> Iterator[Any]:
    """A progress bar on a terminal, none elsewhere."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.completed} {task.description}, {task.fields[speed]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(unit, total=None, speed="")
        for item in items:
            speed = bar.tasks[0].speed
            bar.update(task, advance=1, speed=f"{speed:.2f}/s" if speed else "")
            yield item


# ---- formats ------------------------------------------------------------------------------------


@main.command()
@click.argument("name", required=False, type=click.Choice(list(FORMATS)), metavar="[NAME]")
@click.option("--text", default=EXAMPLE.text, help="The text to make them for.")
@click.option("--labels", default="Chemical,Disease,Anatomy", show_default=True, callback=_labels)
@click.option(
    "--level",
    type=click.Choice(MASKED_LEVELS),
    default="syntax",
    show_default=True,
    help="The level of the grammar to print.",
)
@click.option("--index", is_flag=True, help="Show the offset of every word in the prompt.")
@format_options
def formats(
    name: str | None, text: str, labels: tuple[str, ...], level: str, index: bool, **options: Any
) -> None:
    """List the formats; or show the prompt, answers, schema and grammar of one."""
    if name is None:
        click.echo(_table(FORMATS.values()))
        return
    format = get_format(name, _options(options))
    question = format.questions(labels)[0]
    asked = labels if name == "conv_term" else question
    chat = messages(format, text, asked, index=index)
    sections = {
        "prompt": "\n".join(message["content"] for message in chat),
        "answer that finds nothing": format.write(text, (), question),
    }
    if text == EXAMPLE.text:
        sections["example answer"] = _example(format, labels)
    schema = format.schema(question)
    if schema is not None:
        sections["schema of the list"] = json.dumps(schema, ensure_ascii=False, indent=2)
    grammar = format.grammar(text, question, Level.parse(level))
    sections[f"grammar, {level} level"] = grammar.source.strip()
    click.echo("\n\n".join(f"# {title}\n{body}" for title, body in sections.items()))


def _example(format: Format, labels: tuple[str, ...]) -> str:
    """The answer for what the example text holds of the labels and the format can write."""
    from constrained_ner.documents import Entity

    def find(label: str, *surfaces: str) -> Entity:
        starts = [EXAMPLE.text.index(surface) for surface in surfaces]
        return Entity(label, tuple((s, s + len(x)) for s, x in zip(starts, surfaces, strict=True)))

    gold = Document(
        EXAMPLE.id,
        EXAMPLE.text,
        (
            find("Chemical", "Aspirin"),
            find("Disease", "left", "knee pain"),
            find("Disease", "right knee pain"),
            find("Disease", "colon cancer"),
            find("Anatomy", "colon"),
        ),
    )
    present = [entity.label for entity in gold.entities if entity.label in labels]
    question = (present[1:2] or present[:1] or labels[:1]) if format.one_label else labels
    kept, dropped = format.expressible(gold, tuple(question))
    answer = format.write(gold.text, kept, tuple(question))
    missing = "".join(f"\n(not written: {e.describe(gold.text)}: {why})" for e, why in dropped)
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


# ---- check --------------------------------------------------------------------------------------


@main.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--format",
    "name",
    type=click.Choice([*FORMATS, "all"]),
    default="all",
    show_default=True,
)
@click.option(
    "--level",
    type=click.Choice([*MASKED_LEVELS, "both"]),
    default="both",
    show_default=True,
)
@labels_option(required=False)
@click.option(
    "--model",
    default="smollm2-135m",
    show_default=True,
    help="The model whose tokenizer writes the answers.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the full report here, as JSON.",
)
@format_options
@input_options
def check(
    data: Path,
    name: str,
    level: str,
    labels: tuple[str, ...] | None,
    model: str,
    output: Path | None,
    input_format: str | None,
    limit: int | None,
    **options: Any,
) -> None:
    """Replay the gold answers of DATA through the masks.

    The exit status is 1 where an answer that the format can write is refused.
    """
    documents, broken = _read_all(data, input_format, limit)
    labels = labels or check_labels(sorted({e.label for d in documents for e in d.entities}))
    if options["max_fragments"] is None:
        most = max((len(e.fragments) for d in documents for e in d.entities), default=1)
        options["max_fragments"] = min(8, most)

    from constrained_ner.check import Checker, Report
    from constrained_ner.models import load_vocabulary

    vocabulary = load_vocabulary(model)
    reports: list[Report] = []
    for chosen in FORMATS if name == "all" else [name]:
        for each in MASKED_LEVELS if level == "both" else [level]:
            format = get_format(chosen, _options(options))
            checker = Checker(format, labels, Level.parse(each), vocabulary)
            report = checker.check(_progress(documents, f"documents, {chosen}, {each}"))
            reports.append(report)
            click.echo(_report_line(report))
    if output is not None:
        output.write_text(
            json.dumps(
                {
                    "data": data.name,
                    "documents": len(documents),
                    "labels": labels,
                    "options": options,
                    "reports": [report.to_json() for report in reports],
                },
                ensure_ascii=False,
                indent=1,
            )
            + "\n",
            encoding="utf-8",
        )
    for error in broken:
        click.echo(f"left out: {error}", err=True)
    if broken or not all(report.passed for report in reports):
        sys.exit(1)


def _read_all(
    path: Path, input_format: str | None, limit: int | None
) -> tuple[list[Document], list[InputError]]:
    documents: list[Document] = []
    broken: list[InputError] = []
    for record in islice(read_documents(path, input_format), limit):
        if isinstance(record, InputError):
            broken.append(record)
        elif record.text.strip():
            documents.append(record)
    return documents, broken


def _report_line(report: Any) -> str:
    counted = [f"{n} {cause}" for cause, n in sorted(report.dropped.items())]
    lost = [f"{n} {cause}" for cause, n in sorted(report.lost.items())]
    lines = [
        f"{report.format} {report.level}: {report.accepted} of {report.answers} answers accepted; "
        f"{report.expressible} of {report.entities} mentions expressible; longest answer "
        f"{report.longest} tokens, at most {report.share:.0%} of its budget"
    ]
    if counted:
        lines.append(f"  not expressible: {', '.join(counted)}")
    if lost:
        lines.append(f"  lost in reading back: {', '.join(lost)}")
    lines += [f"  refused: {rejection}" for rejection in report.rejections[:5]]
    if len(report.rejections) > 5:
        lines.append(f"  and {len(report.rejections) - 5} more")
    lines += [f"  failed: {failure}" for failure in report.failed[:5]]
    return "\n".join(lines)
