"""What the commands share: options, reading, progress."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constrained_ner.adapters import DEFAULT_MODEL
from constrained_ner.corpora import INPUT_FORMATS, read
from constrained_ner.corpora.files import LOGGER
from constrained_ner.documents import Document
from constrained_ner.errors import InputError
from constrained_ner.formats import Options
from constrained_ner.formats.grammar import Level
from constrained_ner.labels import check_labels

if TYPE_CHECKING:
    from rich.console import Console

MASKED_LEVELS = [level.value for level in Level if level is not Level.FREE]


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


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options on the model, and on where and how it runs."""
    for option in (
        click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True),
        click.option(
            "--dtype",
            default="auto",
            show_default=True,
            help="float32, bfloat16 or float16.",
        ),
        click.option(
            "--device", default="auto", show_default=True, help="Where to run, as torch says it."
        ),
        click.option("--adapter", default=None, help="A LoRA adapter to put on the model."),
        click.option(
            "--model",
            default=DEFAULT_MODEL,
            show_default=True,
            help="A folder, a packaged model, or a hub id.",
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


def labels_option(
    default: str | None = None, text: str = "; by default the data's own"
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "--labels",
        default=default,
        show_default=True,
        callback=_labels,
        help=f"Labels, separated by commas{'' if default else text}.",
    )


def _labels(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    if value is None:
        return None
    return check_labels(names_of(value))


def names_of(value: str) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(name.strip() for name in value.split(","))


def to_options(options: dict[str, Any]) -> Options:
    return Options(**{key: value for key, value in options.items() if value is not None})


def progress(items: Iterable[Any], unit: str, console: Console | None = None) -> Iterator[Any]:
    """A progress bar on a terminal, none elsewhere.

    Parameters
    ----------
    console: where else is printed meanwhile, if that is a terminal; the bar stays below it.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.completed} {task.description}, {task.fields[speed]}"),
        TimeElapsedColumn(),
        console=console or Console(stderr=True),
        transient=True,
        redirect_stdout=False,  # it would end up on the terminal, wherever it goes
    ) as bar:
        task = bar.add_task(unit, total=None, speed="")
        for item in items:
            speed = bar.tasks[0].speed
            bar.update(task, advance=1, speed=f"{speed:.2f}/s" if speed else "")
            yield item


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        kind = "warning" if record.levelno >= logging.WARNING else "note"
        click.echo(f"{kind}: {record.getMessage()}", err=True)


@contextmanager
def notes() -> Iterator[None]:
    """Show what the readers log, the counts of what they repaired or passed over included."""
    handler, level = _Notes(), LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)


def read_all(
    path: Path, input_format: str | None, limit: int | None
) -> tuple[list[Document], list[InputError]]:
    documents: list[Document] = []
    broken: list[InputError] = []
    for record in islice(read(path, input_format), limit):
        if isinstance(record, InputError):
            broken.append(record)
        elif record.text.strip():
            documents.append(record)
    return documents, broken


def renamed_option(old: str, new: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The old spelling of an option: it is an error that names the new one."""

    def refuse(context: click.Context, option: click.Parameter, value: str | None) -> None:
        if value is not None:
            raise click.UsageError(f"{old} is gone: expected {new}")

    text = f"Gone: {new}."
    return click.option(old, hidden=True, expose_value=False, callback=refuse, help=text)
