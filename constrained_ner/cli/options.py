"""What the commands share: options, and reading documents."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import islice
from math import isnan
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem
from click.types import StringParamType

from constrained_ner.adapters import DEFAULT_MODEL
from constrained_ner.atomic import check_writable
from constrained_ner.corpora import INPUT_FORMATS, detect_format, read, readable, text_table
from constrained_ner.corpora.files import File
from constrained_ner.documents import Document
from constrained_ner.errors import InputError
from constrained_ner.formats import FORMATS, Feature, Format, Options
from constrained_ner.formats.grammar import Level
from constrained_ner.formats.options import MAX_FRAGMENTS
from constrained_ner.labels import check_labels, names_of
from constrained_ner.pipeline.task import is_best

# The options that not all formats know: whether one does, and which do.
_KNOWN_BY: dict[str, tuple[Callable[[Format], bool], str]] = {
    "words": (lambda one: one.name == "multi_bio", "multi_bio"),
    "anchor": (lambda one: one.anchored, "multi_brat"),
    "boundaries": (lambda one: one.name != "multi_bio", "all formats but multi_bio"),
    "max_fragments": (
        lambda one: Feature.DISCONTINUOUS in one.expresses,
        "formats with discontinuous entities",
    ),
}
MASKED_LEVELS = [level.value for level in Level if level != Level.FREE]


def options(*given: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """One decorator for several options, which are listed in the order of the help."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(given):
            command = option(command)
        return command

    return decorate


# See `formats.Options`.
format_options = options(
    click.option(
        "--words",
        type=click.Choice(Options.CHOICES["words"]),
        default="space",
        show_default=True,
        help="What multi_bio tags: runs of non-space, or finer.",
    ),
    click.option(
        "--anchor",
        type=click.Choice(Options.CHOICES["anchor"]),
        default="surface",
        show_default=True,
        help="What decides where a multi_brat entity lies.",
    ),
    click.option(
        "--boundaries",
        type=click.Choice(Options.CHOICES["boundaries"]),
        default="word",
        show_default=True,
        help="Where surfaces and offsets may begin and end at the faithful level.",
    ),
    click.option(
        "--max-fragments",
        type=click.IntRange(1, MAX_FRAGMENTS),
        default=None,
        help="Most fragments of a discontinuous entity at the faithful level.",
    ),
)


# Where a model runs, in what precision, and how much at a time.
device_options = options(
    click.option(
        "--device",
        envvar="CNER_DEVICE",
        default="auto",
        show_default=True,
        help="Where to run, as torch says it.",
    ),
    click.option(
        "--dtype",
        envvar="CNER_DTYPE",
        default="auto",
        show_default=True,
        help="float32, bfloat16 or float16; `auto`: bfloat16 where the device computes in it.",
    ),
    click.option(
        "--batch-size",
        envvar="CNER_BATCH_SIZE",
        type=click.IntRange(1),
        default=8,
        show_default=True,
    ),
)


# Where and how a model runs.
running_options = options(
    device_options,
    click.option(
        "--quantize",
        type=click.Choice(["int8", "int4"]),  # `engines.models.QUANTIZATIONS`, without torch
        default=None,
        help="Keep the model's weights in so many bits (extra `quantize`).",
    ),
)


# Which model.
model_name_options = options(
    click.option(
        "--model",
        envvar="CNER_MODEL",
        default=DEFAULT_MODEL,
        show_default=True,
        help="A folder, a packaged model, or a hub id.",
    ),
    click.option(
        "--adapter",
        envvar="CNER_ADAPTER",
        default=None,
        help="A LoRA adapter to put on the model.",
    ),
)


# Which model, and where and how it runs.
model_options = options(model_name_options, running_options)


unmasked_option = click.option(
    "--unmasked",
    type=click.Choice(["refuse", "lenient"]),
    default="refuse",
    show_default=True,
    help="What becomes of an answer that leaves its grammar, where others decode: an error, or "
    "what can be read of it, marked.",
)


# How the input is read.
input_options = options(
    click.option("--limit", type=click.IntRange(1), help="Read this many documents at most."),
    click.option(
        "--encoding",
        default=None,
        help="Of the input's text, such as cp1252 or utf-16.  [default: utf-8]",
    ),
    click.option(
        "--input-format",
        type=click.Choice(sorted(INPUT_FORMATS)),
        default=None,
        help="Format of the input; by default it is recognised.",
    ),
)


# Of input that is a table; see `table_input`.
table_options = options(
    click.option(
        "--text-column",
        default=None,
        help="The column of a table (CSV, TSV, parquet), or key of JSON lines, with the texts."
        "  [default: the one that is called text or, in tables, note or so]",
    ),
    click.option(
        "--id-column",
        default=None,
        help="The column of a table (CSV, TSV, parquet), or key of JSON lines, with ids.",
    ),
)


def recognised(input: Path, encoding: str | None) -> str:
    """The format of the input.

    Raises
    ------
    click.UsageError: it is a pipe, which could not be read a second time.
    """
    if is_pipe(input):
        raise click.UsageError(f"{input} is a pipe, which is read once: expected --input-format")
    return detect_format(input, encoding)


def is_pipe(path: Path) -> bool:
    return path.exists() and not (path.is_file() or path.is_dir())


def named_path(item: str) -> tuple[str, Path]:
    """The name, if there is one, and the path of NAME=PATH or PATH."""
    name, equals, path = item.partition("=")
    named = equals and not Path(item).exists()
    return (name, Path(path)) if named else ("", Path(item))


def table_input(
    input: Path | None, input_format: str | None, encoding: str | None, **columns: str | None
) -> tuple[str | None, dict[str, str]]:
    """The format of the input, if it is known now, and the options of its reader.

    Parameters
    ----------
    columns: as `table_options` parsed them.

    Raises
    ------
    click.UsageError: the command line names columns of what has none.
    """
    named = {name: column for name, column in columns.items() if column is not None}
    if not named:
        return input_format, {}
    names = " and ".join("--" + name.replace("_", "-") for name in named if given(name))
    if input is None or str(input) == "-":
        if names:
            raise click.UsageError(f"{names}: for a table, expected as a file")
        return input_format, {}
    if input_format is None:
        table = text_table.is_table(File.on_disk(input))
        input_format = "table" if table else recognised(input, encoding)
    if input_format in ("table", "jsonl"):
        return input_format, named
    if names:
        raise click.UsageError(f"{names}: for tables and JSON lines, and {input_format} is neither")
    return input_format, {}


class Number(click.FloatRange):
    """A number in a range; NaN lies in every one that click knows."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        number = super().convert(value, param, ctx)
        if isnan(number):
            self.fail(f"{value!r} is no number", param, ctx)
        return number


class FormatNames(StringParamType):
    """Names of formats with commas between them, or `best` with a number: see `task_for`."""

    name = "formats"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        for name in names_of(value):
            if name not in FORMATS and not is_best(name):
                expected = f"{', '.join(FORMATS)}; or best2, best3 and so on"
                self.fail(f"unknown format {name!r}: expected {expected}", param, ctx)
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """How the last of several names may go on."""
        before, comma, begun = incomplete.rpartition(",")
        names = [name for name in (*FORMATS, "best2", "best3") if name.startswith(begun)]
        return [CompletionItem(before + comma + name) for name in names]


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


overwrite_option = click.option(
    "--overwrite",
    is_flag=True,
    is_eager=True,  # `OutputFile` has to know it
    help="Replace an output that is there already.",
)


class OutputFile(click.Path):
    """A file to write. Whether it can be written is checked before any work is done.

    One that holds something is not replaced without `--overwrite`.
    """

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path: Any = super().convert(value, param, ctx)
        if ctx is not None:  # without one a file of settings is checked
            check_writable(path)
            check_replaceable(path, overwrite=bool(ctx.params.get("overwrite")))
        return path


class OutputFolder(click.Path):
    """A folder to write."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value):  # which a path takes for the working folder
            self.fail("empty: expected a folder", param, ctx)
        return super().convert(value, param, ctx)


def check_replaceable(output: Path, *, overwrite: bool, else_: str = "") -> None:
    """See that nothing of the user's is lost by writing a file.

    Parameters
    ----------
    else_: what else than replacing it can be done, for the message.

    Raises
    ------
    InputError: it holds something, and `overwrite` is not set.
    """
    if not overwrite and output.is_file() and output.stat().st_size:
        raise InputError(f"is there already: --overwrite replaces it{else_}", output)


def given(name: str) -> bool:
    """Whether an option of the present command was given on its command line."""
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def overruled(name: str, *others: str) -> bool:
    """Whether a variable or a file sets an option, and the command line one that rules it out."""
    return not given(name) and any(map(given, others))


def check_apart(output: Path | None, *inputs: Path | None) -> None:
    """See that what is written neither replaces an input nor becomes part of it.

    Parameters
    ----------
    output, inputs: None stands for one that there is not.

    Raises
    ------
    InputError: the output is an input, or one of them lies in the other.
    """
    if output is None:
        return
    target = Path(os.path.realpath(output))  # which a loop of links does not end
    for input in filter(None, inputs):
        source = Path(os.path.realpath(input))
        if target in source.parents:
            raise InputError(
                f"holds the input {str(input)!r}: expected another path for the output", output
            )
        if source == target or (output.exists() and input.exists() and output.samefile(input)):
            raise InputError("is the input, too: expected another path for the output", output)
        if source in target.parents:
            raise InputError(
                f"lies in the input folder {str(input)!r}, and would be read as input the next "
                "time: expected a path outside of it",
                output,
            )


def check_effect(formats: Sequence[Format]) -> None:
    """Refuse an option that is given and that none of the formats knows.

    Raises
    ------
    click.UsageError: it is for other formats.
    """
    names = ", ".join(format.name for format in formats)
    for name, (known, which) in _KNOWN_BY.items():
        if given(name) and not any(map(known, formats)):
            option = name.replace("_", "-")
            raise click.UsageError(f"--{option} is for {which}, and changes nothing in {names}")


def to_options(options: dict[str, Any]) -> Options:
    """The options of a format, as `format_options` parsed them."""
    return Options(**{key: value for key, value in options.items() if value is not None})


def read_all(
    path: Path,
    input_format: str | None = None,
    limit: int | None = None,
    encoding: str | None = None,
) -> tuple[list[Document], list[InputError]]:
    """The documents of a path that have a text, and the records that cannot be read."""
    broken: list[InputError] = []
    records = islice(read(path, input_format, encoding=encoding), limit)
    return [one for one in readable(records, broken) if one.text.strip()], broken
