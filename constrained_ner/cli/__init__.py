"""The command `cner`. Each subcommand parses its options, calls one function and prints."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import Any

import click

from constrained_ner import __version__
from constrained_ner.cli.benchmark import benchmark
from constrained_ner.cli.calibrate import calibrate
from constrained_ner.cli.check import check
from constrained_ner.cli.convert import convert
from constrained_ner.cli.corpora import corpora
from constrained_ner.cli.evaluate import evaluate
from constrained_ner.cli.exchange import export_requests, import_answers
from constrained_ner.cli.experiment import experiment
from constrained_ner.cli.formats import formats
from constrained_ner.cli.messages import INTERRUPTED, messages, verbosity_options, visible
from constrained_ner.cli.page import page
from constrained_ner.cli.predict import predict
from constrained_ner.cli.serve import serve
from constrained_ner.cli.settings import load_settings, name_variables
from constrained_ner.cli.train import train
from constrained_ner.errors import CnerError

# torch, and modules that need it, are imported inside the commands, so that `cner --help` is fast.


class Group(click.Group):
    """Prints our errors as a message, with exit status 1, and what readers of files remark."""

    def invoke(self, ctx: click.Context) -> Any:
        _open_streams()
        _write_utf_8()
        try:
            with messages():
                if not set(sys.argv) & set(ctx.help_option_names):  # help comes whatever is wrong
                    ctx.default_map = load_settings(self)
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("\nstopped", err=True)
            sys.exit(INTERRUPTED)
        except CnerError as error:
            raise click.ClickException(visible(str(error))) from error
        except OSError as error:
            if isinstance(error, BrokenPipeError):  # click sees to it
                raise
            named = [str(part) for part in (error.filename, error.strerror) if part is not None]
            raise click.ClickException(visible(": ".join(named) or str(error))) from error


def _open_streams() -> None:
    """Let what is printed go nowhere where a stream is closed, as some daemons have it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _write_utf_8() -> None:
    """Let standard output take every text, whatever the locale: what goes there are data."""
    if not isinstance(sys.stdout, TextIOWrapper):
        return
    if sys.stdout.isatty():
        sys.stdout.reconfigure(errors="replace")  # a terminal shows what it can
    else:
        # The name of a file may be no text: half of a character is escaped, as on a terminal.
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cner")
def main() -> None:
    """Biomedical named entity recognition with small language models, under a grammar."""


for command in (
    *(predict, serve, train, calibrate, evaluate, benchmark, experiment),
    *(export_requests, import_answers, formats, check, convert, page, corpora),
):
    main.add_command(command)
    for each in command.commands.values() if isinstance(command, click.Group) else [command]:
        verbosity_options(each)
name_variables(main)
