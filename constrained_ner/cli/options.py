"""What the commands share: options, reading documents, and progress bars."""

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
from constrained_ner.atomic import check_writable
from constrained_ner.corpora import INPUT_FORMATS, read
from constrained_ner.corpora.files import LOGGER
from constrained_ner.documents import Document
from constrained_ner.errors import InputError
from constrained_ner.formats import Options
from constrained_ner.formats.grammar import Level
from constrained_ner.labels import check_labels, names_of

if TYPE_CHECKING:
    from rich.console import Console

MASKED_LEVELS = [level.value for level in Level if level is not Level.FREE]


def format_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of formats; see `formats.Options`."""
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
    """Add options for the model, and for where and how it runs."""
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
    """Add options for how the input is read."""
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


class OutputFile(click.Path):
    """A file to write. Whether it can be written is checked before any work is done."""

    def __init__(self, *, allow_dash: bool = False):
        super().__init__(allow_dash=allow_dash, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path: Any = super().convert(value, param, ctx)
        if str(path) != "-":
            check_writable(path)
        return path


def check_apart(input: Path, output: Path) -> None:
    """See that what is written neither replaces the input nor becomes part of it.

    Raises
    ------
    InputError: the output is the input, or lies in the folder that is read.
    """
    source, target = input.resolve(), output.resolve()
    if source == target:
        raise InputError("is the input, too: expected another path for the output", output)
    if source in target.parents:
        raise InputError(
            f"lies in the input folder {str(input)!r}, and would be read as input the next time: "
            "expected a path outside of it",
            output,
        )


def to_options(options: dict[str, Any]) -> Options:
    """The options of a format, as `format_options` parsed them."""
    return Options(**{key: value for key, value in options.items() if value is not None})


def progress(items: Iterable[Any], unit: str, console: Console | None = None) -> Iterator[Any]:
    """The items, with a progress bar if standard error is a terminal.

    Parameters
    ----------
    console: the terminal that is printed to meanwhile, if any; the bar stays below the output.
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
        redirect_stdout=False,  # else it would go to the terminal, even if it is redirected
    ) as bar:
        task = bar.add_task(unit, total=None, speed="")
        for item in items:
            speed = bar.tasks[0].speed
            bar.update(task, advance=1, speed=f"{speed:.2f}/s" if speed else "")
            yield item


class _Notes(logging.Handler):
    """Prints each message once: `cner predict` reads its input twice where it writes a page."""

    def __init__(self) -> None:
        super().__init__()
        self._printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        kind = "warning" if record.levelno >= logging.WARNING else "note"
        message = f"{kind}: {record.getMessage()}"
        if message not in self._printed:
            self._printed.add(message)
            click.echo(message, err=True)


@contextmanager
def notes() -> Iterator[None]:
    """Print what readers log, including how much they repaired or passed over."""
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
    """The documents of a path that have a text, and the records that cannot be read."""
    documents: list[Document] = []
    broken: list[InputError] = []
    for record in islice(read(path, input_format), limit):
        if isinstance(record, InputError):
            broken.append(record)
        elif record.text.strip():
            documents.append(record)
    return documents, broken


def renamed_option(old: str, new: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Refuse an option that was renamed, and say what it is called now."""

    def refuse(context: click.Context, option: click.Parameter, value: str | None) -> None:
        if value is not None:
            raise click.UsageError(f"{old} is gone: expected {new}")

    text = f"Gone: {new}."
    return click.option(old, hidden=True, expose_value=False, callback=refuse, help=text)
