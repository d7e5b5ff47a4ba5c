"""The command line, called from tests."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from constrained_ner.cli import main


def cner(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])
