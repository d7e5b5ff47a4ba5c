"""Defaults of options from a file and from variables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from constrained_ner.cli import main
from constrained_ner.cli.settings import load_settings
from constrained_ner.errors import InputError
from tests.support.commands import cner
from tests.support.training import TEN, write_documents


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def defaults(folder: Path) -> dict[str, Any]:
    assert isinstance(main, click.Group)
    return load_settings(main, folder)


def test_no_file_no_defaults(tmp_path: Path) -> None:
    assert defaults(tmp_path) == {}


@pytest.mark.parametrize(("name", "prefix"), [("cner.toml", ""), ("pyproject.toml", "tool.cner.")])
def test_values_of_all_commands_and_of_one(tmp_path: Path, name: str, prefix: str) -> None:
    head = "[tool.cner]\n" if prefix else ""
    (tmp_path / name).write_text(
        f'{head}device = "cpu"\n[{prefix}predict]\nlabels = ["A", "B"]\nmin-confidence = 0.5\n'
    )
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    for folder in (tmp_path, below):
        found = defaults(folder)
        assert found["predict"] == {"device": "cpu", "labels": "A,B", "min_confidence": 0.5}
        assert found["serve"] == {"device": "cpu"}
        assert found["convert"] == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = \n", "not TOML: .*line 1"),
        ('modle = "x"\n', "no option modle: is model meant"),
        ("[predict]\nlabel = 'A'\n", r"no option predict.label: is predict.labels meant"),
        ("[predict]\nmin-confidence = 2\n", "predict.min-confidence: .*0<=x<=1"),
        ("[predict]\nresume = 'yes'\n", "predict.resume is 'yes': expected true or false"),
        ("predict = 3\n", "predict is 3: expected a table"),
        ("[corpora]\nform = 'x'\n", r"no option corpora.form: is corpora.from meant"),
        ("[corpora.prepare]\nsead = 3\n", r"no option corpora.prepare.sead: is .*\.seed meant"),
        ("limit = inf\n", "limit is inf: expected another kind of value"),
        ("limit = {a = 1}\n", "limit is .*: expected another kind of value"),
        ("limit = 1.9\n", "limit is 1.9: expected an integer"),
        ('[predict]\nlabels = ["a, b"]\n', "predict.labels is .*: expected names without commas"),
        ("[predict]\nformat = 'multi_xml'\n", "predict.format: .*multi_xml"),
    ],
)
def test_what_no_option_takes_is_named_with_the_file(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "cner.toml").write_text(text)
    with pytest.raises(InputError, match=rf"cner.toml: {said}"):
        defaults(tmp_path)


def test_a_project_with_odd_tools(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('tool = "cner"\n')
    assert defaults(tmp_path) == {}
    (tmp_path / "pyproject.toml").write_text("[tool]\ncner = 3\n")
    with pytest.raises(InputError, match=r"pyproject.toml: tool.cner is 3: expected a table"):
        defaults(tmp_path)


def test_a_line_comes_before_a_variable_and_that_before_the_file(
    tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "cner.toml").write_text(
        f'model = {json.dumps(str(tiny_folder))}\n[predict]\nformat = "multi_tag"\nlabels = ["A"]\n'
    )

    def asked(*arguments: str, **variables: str) -> tuple[str, list[str]]:
        fixed = ["predict", "-t", "Knee pain.", "-o", "-", "--max-new-tokens", "200"]
        done = CliRunner().invoke(main, [*fixed, *arguments], env=variables)
        assert done.exit_code == 0, done.output
        record = json.loads(done.stdout)
        return record["format"], record["answers"][0]["labels"]

    assert asked() == ("multi_tag", ["A"])
    assert asked(CNER_PREDICT_FORMAT="multi_term") == ("multi_term", ["A"])
    assert asked("--format", "multi_code", CNER_PREDICT_FORMAT="multi_term")[0] == "multi_code"
    (tmp_path / "cner.toml").unlink()
    assert asked("--labels", "B", CNER_MODEL=str(tiny_folder)) == ("multi_term", ["B"])


# An engine that tells no probabilities.
OUTLINES = ["--engine", "outlines_core", "--level", "syntax", "--format", "multi_term"]


def test_a_recipe_comes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "cner.toml").write_text(
        'model = "elsewhere"\nlabels = ["A"]\n[train]\nbatch-size = 32\nlevel = "syntax"\n'
    )
    data = write_documents(tmp_path / "ten.jsonl")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'model = "nowhere"\nseed = 7\n[[data]]\ntrain = {json.dumps(str(data))}\n')
    done = cner("train", recipe, "-o", tmp_path / "run")
    assert "nowhere" in done.output  # and not elsewhere
    assert "go with --train" not in done.output
    done = cner("train", recipe, "--model", "beyond", "-o", tmp_path / "run")
    assert "beyond" in done.output


def test_commands_take_what_they_know_of_a_shared_key(tmp_path: Path) -> None:
    (tmp_path / "cner.toml").write_text('format = "best2"\n')  # which evaluate does not know
    found = defaults(tmp_path)
    assert found["predict"] == {"name": "best2"}
    assert found["evaluate"] == {}
    (tmp_path / "cner.toml").write_text('level = "strict"\n')
    with pytest.raises(InputError, match=r"cner.toml: level: .*strict"):
        defaults(tmp_path)
    (tmp_path / "cner.toml").write_text("seed = 1\n[corpora]\nseed = 2\noverwrite = true\n")
    assert defaults(tmp_path)["corpora"]["prepare"] == {"seed": 2, "overwrite": True}


@pytest.mark.parametrize(
    ("kept", "line"),
    [
        ("min-confidence = 0.5", ["--free"]),
        ('level = "syntax"', ["--free"]),
        ("consistent = true", ["--free"]),
        ("min-confidence = 0.5", ["--no-confidence"]),
        ("precision = 0.5", ["--no-confidence"]),
        ("min-confidence = 0.5", OUTLINES),
        ("consistent = true", OUTLINES),
        ("precision = 0.5", ["--format", "multi_term,multi_tag", "--combine", "vote"]),
        ("precision = 0.5", ["--min-confidence", "0.2"]),
        ("shard-size = 3", []),
        ('text-column = "note"', []),
    ],
)
def test_what_a_line_excludes_is_not_taken_from_the_file(
    kept: str, line: list[str], tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "cner.toml").write_text(f"[predict]\n{kept}\n")
    fixed = ("-t", "Knee pain.", "--model", tiny_folder, "--labels", "A", "--max-new-tokens", "30")
    done = cner("predict", *fixed, *line)
    assert done.exit_code == 0, done.output
    name, _, value = kept.partition(" = ")
    said = [f"--{name}", *([value.strip('"')] if value != "true" else [])]
    done = cner("predict", *fixed, *line, *said)
    assert done.exit_code != 0, done.output


def test_what_an_output_or_an_input_excludes_is_not_taken_from_the_file(
    tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "cner.toml").write_text(
        '[predict]\nresume = true\nlabels = "A"\n[convert]\nwords = "fine"\nlabel = "B"\n'
    )
    document = write_documents(tmp_path / "data.jsonl", TEN[:1])
    asked = ("predict", document, "--model", tiny_folder, "--free", "--max-new-tokens", "3")
    for line in ((), (), ("--overwrite",)):
        done = cner(*asked, "-o", tmp_path / "found.jsonl", *line)
        assert done.exit_code == 0, done.output
    assert "exclude each other" in cner(*asked, "--resume", "--overwrite").output
    assert cner("convert", document, tmp_path / "data.csv").exit_code == 0
    done = cner("convert", document, tmp_path / "other.csv", "--words", "fine")
    assert "--words is for columns" in done.output


@pytest.mark.parametrize(
    ("kept", "line", "said"),
    [
        ('served-model = "x"', "export DATA --labels A -o OUT", "go together"),
        ('[calibrate]\ncorpora = "."', "calibrate --dev A=DATA -o OUT", "expected either"),
        ('[evaluate]\nagainst = "DATA"', "evaluate DATA DATA --also DATA DATA", "exclude each"),
        (
            '[benchmark]\nenergy = "FRA"',
            "benchmark --data DATA --model no --processes 2 --formats multi_term --levels free "
            "-o OUT",
            "--energy",
        ),
        (
            "[corpora.prepare]\ndownload = true",
            "corpora prepare cadec --from DATA",
            "either --from",
        ),
        ("[predict]\nconstrained = false", "predict DATA --level syntax -o OUT", "exclude each"),
        ("min-confidence = 0.5", "export DATA --labels A -o OUT", "--min-confidence"),
    ],
)
def test_what_another_option_rules_out_is_not_taken_from_the_file(
    kept: str, line: str, said: str, tmp_path: Path
) -> None:
    document = write_documents(tmp_path / "data.jsonl", TEN[:1])
    variables = {"CNER_MODEL": str(tmp_path / "none")}

    def output() -> str:
        words = [word.replace("DATA", str(document)) for word in line.split()]
        words = [word.replace("OUT", str(tmp_path / "out")) for word in words]
        return CliRunner().invoke(main, words, env=variables).output

    expected = output()
    (tmp_path / "cner.toml").write_text(kept.replace("DATA", str(document)))
    assert output() == expected
    assert said not in expected


def test_an_option_that_may_come_again_takes_one_value(tmp_path: Path) -> None:
    (tmp_path / "cner.toml").write_text('model = "a"\n[benchmark]\ndata = ["b", "c"]\n')
    found = defaults(tmp_path)
    assert found["predict"] == {"model": "a"}
    assert found["benchmark"] == {"models": ["a"], "data": ["b", "c"]}


def test_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.toml"
    monkeypatch.setenv("CNER_CONFIG", str(other))
    with pytest.raises(InputError, match=r"other.toml: cannot be read"):
        defaults(tmp_path)
    other.write_text('dtype = "bfloat16"\n')
    assert defaults(tmp_path)["predict"] == {"dtype": "bfloat16"}


def test_a_variable_that_no_option_takes_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("CNER_PREDICT_LABELZ", "x")
    defaults(tmp_path)
    assert caplog.messages == [
        "no option takes the variable CNER_PREDICT_LABELZ: is CNER_PREDICT_LABELS meant?"
    ]


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "cner.toml").write_text('[predict]\nlabels = ["D"]\n', encoding="utf-8-sig")
    assert defaults(tmp_path)["predict"]["labels"] == "D"


def test_help_comes_whatever_the_file_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cner.toml").write_bytes(b"\xff\x00")
    monkeypatch.setattr("sys.argv", ["cner", "predict", "--help"])
    assert CliRunner().invoke(main, ["predict", "--help"]).exit_code == 0
    monkeypatch.setattr("sys.argv", ["cner", "predict"])
    assert "not TOML" in CliRunner().invoke(main, ["predict"]).output


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "gold.jsonl").write_text("")
    (tmp_path / "scores.txt").write_text("there already")
    (tmp_path / "cner.toml").write_text(
        '[evaluate]\noutput = "scores.txt"\n[predict]\nexamples = "gold.jsonl"\n'
    )
    below = tmp_path / "a"
    below.mkdir()
    found = defaults(below)
    assert found["predict"] == {"examples": str(tmp_path / "gold.jsonl")}
    assert found["evaluate"] == {"output": str(tmp_path / "scores.txt")}
