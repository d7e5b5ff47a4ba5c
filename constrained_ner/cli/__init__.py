"""The command `cner`: parse, call one function, print."""

from __future__ import annotations

from typing import Any

import click

from constrained_ner import __version__
from constrained_ner.cli.benchmark import benchmark
from constrained_ner.cli.check import check
from constrained_ner.cli.convert import convert
from constrained_ner.cli.corpora import corpora
from constrained_ner.cli.evaluate import evaluate
from constrained_ner.cli.experiment import experiment
from constrained_ner.cli.formats import formats
from constrained_ner.cli.page import page
from constrained_ner.cli.predict import predict
from constrained_ner.cli.serve import serve
from constrained_ner.cli.train import train
from constrained_ner.errors import CnerError

# torch and what needs it are imported inside the commands: `cner --help` answers at once.


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


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cner")
def main() -> None:
    """Biomedical named entity recognition with small language models, under a grammar."""


for command in (
    *(predict, serve, train, evaluate, benchmark, experiment),
    *(formats, check, convert, page, corpora),
):
    main.add_command(command)
