"""What commands say on standard error besides their results, and how much of it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from constrained_ner.corpora import ConversionLosses

# Readers, and whatever else of the package logs, are below it.
LOGGER = logging.getLogger("constrained_ner")
_COMMANDS = logging.getLogger("constrained_ner.cli")
LEVELS = ("debug", "info", "warning", "error")
INTERRUPTED = 130  # the exit status after Ctrl-C, as shells have it

# A document must not control the terminal. Each control character becomes one visible symbol, so
# that offsets stay valid; rich itself would drop some of them and pass others on.
_VISIBLE: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"},
    ord("\r"): " ",
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
}


def visible(text: str) -> str:
    """A text with a symbol in place of each control character but tabs and line feeds."""
    return text.translate(_VISIBLE)


def say(line: str) -> None:
    """Print a line, unless `-q` is given."""
    _COMMANDS.info(line)


def detail(line: str) -> None:
    """Print a line if `-v` is given."""
    _COMMANDS.debug(line)


def warn(line: str) -> None:
    _COMMANDS.warning(line)


def is_quiet() -> bool:
    return not LOGGER.isEnabledFor(logging.INFO)


def verbosity_options(command: click.Command) -> click.Command:
    """Give a command `-q`, `-v` and `--log-level`."""

    def set_level(ctx: click.Context, option: click.Parameter, value: str | None) -> None:
        if value is not None:
            LOGGER.setLevel(value.upper())

    def add(*names: str, **settings: Any) -> None:
        option = click.Option(
            names, expose_value=False, callback=set_level, is_eager=True, **settings
        )
        command.params.append(option)

    add("-q", "--quiet", flag_value="warning", default=None, help="Only warnings and errors.")
    add("-v", "--verbose", flag_value="debug", default=None, help="Also what is done, and how.")
    add("--log-level", type=click.Choice(LEVELS), default=None, help="The same by name.")
    return command


class _Handler(logging.Handler):
    """Prints what the commands say as it is, and the rest as notes and warnings.

    A note of a reader is printed once: some commands read their input twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self._printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno >= logging.WARNING:
            message = f"warning: {message}"
        elif record.name != _COMMANDS.name:
            message = f"note: {message}"
        if record.name == _COMMANDS.name or message not in self._printed:
            self._printed.add(message)
            click.echo(visible(message), err=True)


@contextmanager
def messages() -> Iterator[None]:
    """Print messages as long as this lasts: by default those of information and worse."""
    handler, level = _Handler(), LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)


def report_losses(losses: ConversionLosses) -> None:
    """Name what the format that was written cannot hold."""
    for line in losses.lines():
        click.echo(visible(f"not kept: {line}"), err=True)


def warn_of_labels(asked: Iterable[str], known: Sequence[str]) -> None:
    """Name the labels that no annotated entity has: a score or a count of them says nothing."""
    for label in asked:
        if label not in known:
            warn(f"no entity has the label {label!r}: there are {', '.join(known) or 'none'}")


def report_left_out(errors: Iterable[object]) -> None:
    """Name what could not be read or answered; where there is something, the exit status is 1."""
    lines = [f"left out: {error}" for error in errors]
    for line in lines:
        click.echo(visible(line), err=True)
    if lines:
        sys.exit(1)


@contextmanager
def interruptible(how_to_go_on: Callable[[], str]) -> Iterator[None]:
    """On Ctrl-C, say how to go on and leave."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\nstopped: {how_to_go_on()}", err=True)
        sys.exit(INTERRUPTED)
