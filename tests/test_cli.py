"""The command line: thin, but every command and option runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from constrained_ner.cli import main
from constrained_ner.formats import FORMATS
from tests.support.commands import cner

SENTENCE = "The patient reported left and right knee pain."


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "notes.jsonl"
    records: list[dict[str, Any]] = [
        {
            "id": "n1",
            "text": SENTENCE,
            "entities": [
                {"label": "finding", "fragments": [[21, 25], [36, 45]]},
                {"label": "finding", "fragments": [[30, 45]]},
            ],
        },
        {"id": "n2", "text": "No knee pain.", "entities": []},
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize("module", ["constrained_ner", "constrained_ner.cli"])
def test_torch_stays_unloaded(module: str) -> None:
    code = (
        f"import sys, {module}; "
        "print([m for m in ('torch', 'transformers', 'outlines', 'peft') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_and_option_has_a_help() -> None:
    assert isinstance(main, click.Group)
    for name, command in main.commands.items():
        assert command.help, name
        for parameter in command.params:
            # An option whose name says it all may go without.
            if isinstance(parameter, click.Option) and parameter.name not in (
                *("batch_size", "format", "name", "labels", "level", "port"),
            ):
                assert parameter.help, (name, parameter.name)
        assert cner(name, "--help").exit_code == 0


def test_formats_lists_all_twelve() -> None:
    result = cner("formats")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) == 2 + len(FORMATS) == 14
    assert all(f"| {name} " in result.output for name in FORMATS)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("level", ["syntax", "faithful"])
def test_formats_shows_one(name: str, level: str) -> None:
    result = cner("formats", name, "--level", level)
    assert result.exit_code == 0
    assert "# prompt\nThe task you need to complete" in result.output
    assert "# example answer\n" in result.output
    assert f"# grammar, {level} level\nstart: " in result.output
    assert ("# schema of the list" in result.output) == (
        name in ("conv_term", "single_term", "multi_term", "single_span", "multi_span")
    )
    other = cner("formats", name, "--text", "p53 in colon", "--labels", "a", "--level", level)
    assert other.exit_code == 0
    assert "p53 in colon" in other.output


def test_predict_writes_json_lines(data: Path, tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    result = cner(
        *("predict", data, "--labels", "finding,drug", "--format", "multi_tag"),
        *("--model", tiny_folder, "--max-new-tokens", "120", "-o", out),
    )
    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["id"] for record in records] == ["n1", "n2"]
    assert all(answer["parses"] for record in records for answer in record["answers"])
    assert "2 documents" in result.stderr
    assert "documents left out: 0" in result.stderr


def test_predict_for_reading(data: Path, tiny_folder: Path) -> None:
    result = cner(
        *("predict", data, "--labels", "finding", "--format", "single_term", "--limit", "1"),
        *("--model", tiny_folder, "--max-new-tokens", "40", "--examples", data),
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"n1: {SENTENCE}\n")


def test_predict_freely_and_at_the_syntax_level(data: Path, tiny_folder: Path) -> None:
    for extra in (["--free"], ["--constrained", "--level", "syntax"], ["--index"]):
        result = cner(
            *("predict", data, "--labels", "a", "--model", tiny_folder),
            *("--max-new-tokens", "30", "-o", "-", *extra),
        )
        assert result.exit_code == 0, result.output
        assert len([line for line in result.stdout.splitlines() if line.startswith("{")]) == 2
    result = cner("predict", data, "--labels", "a", "--free", "--level", "syntax")
    assert result.exit_code == 2


def test_predict_goes_on_after_a_broken_line(tiny_folder: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "notes.jsonl", tmp_path / "out.jsonl"
    data.write_text('{"id": "a", "text": "knee pain"}\n{"id": "b", \n{"id": "c", "text": "pain"}\n')
    result = cner(
        *("predict", data, "--labels", "finding", "--model", tiny_folder),
        *("--max-new-tokens", "40", "-o", out),
    )
    assert result.exit_code == 1
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [("error" in record) for record in records] == [False, True, False]
    assert f"{data}:2" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", ""], "label 1 is ''"),
        (["--labels", "a,a"], "asked for twice"),
        (["--labels", "a", "--format", "multi_xml"], "multi_xml"),
        (["--labels", "a", "--model", "/nowhere"], "no such folder"),
        (["--labels", "a", "--level", "free"], "free"),
        (["--labels", "a", "--engine", "xgrammar"], "syntax level only"),
        (["--labels", "a", "--backend", "xgrammar"], "gone: expected --engine"),
        (["--labels", "a", "--decoder", "fast"], "gone: expected --engine speculative"),
    ],
)
def test_bad_arguments_are_named(
    arguments: list[str], message: str, data: Path, tiny_folder: Path
) -> None:
    model = [] if "--model" in arguments else ["--model", str(tiny_folder)]
    result = cner("predict", data, *arguments, *model)
    assert result.exit_code in (1, 2)
    assert message in result.output
    assert "Traceback" not in result.output


def test_check_accepts_the_gold(data: Path, tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    result = cner("check", data, "--model", tiny_folder, "-o", out)
    assert result.exit_code == 0, result.output
    assert len([line for line in result.output.splitlines() if "answers accepted" in line]) == 24
    report = json.loads(out.read_text())
    assert report["options"]["max_fragments"] == 2
    assert all(r["accepted"] == r["answers"] == 2 for r in report["reports"])
    by_name = {(r["format"], r["level"]): r for r in report["reports"]}
    assert by_name["multi_tag", "faithful"]["dropped"] == {"discontinuous": 1}


def test_check_fails_on_a_broken_line(data: Path, tiny_folder: Path) -> None:
    data.write_text(data.read_text() + "{\n")
    result = cner("check", data, "--format", "multi_term", "--model", tiny_folder)
    assert result.exit_code == 1
    assert "notes.jsonl:3" in result.output
