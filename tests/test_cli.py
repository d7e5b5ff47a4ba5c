"""The command line: thin, but every command and option runs."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import click
import pytest

from constrained_ner.cli import main
from constrained_ner.cli.formats import EXAMPLE
from constrained_ner.cli.options import named_path
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


@pytest.mark.parametrize("name", FORMATS)
def test_formats_answers_what_it_asks(name: str) -> None:
    """The example's answer is for the labels of the prompt, whichever stand first."""
    for labels in ("Chemical,Disease,Anatomy", "Anatomy,Chemical", "Gene,Chemical"):
        sections = dict(
            section.split("\n", 1)
            for section in cner("formats", name, "--labels", labels).output[2:].split("\n\n# ")
        )
        format, asked = FORMATS[name], tuple(labels.split(","))
        if format.one_label:
            named = [label for label in asked if label in sections["prompt"]]
            asked = (named[0],) if format.conversational else tuple(named)
            assert len(asked) == 1
        kept, _ = format.expressible(EXAMPLE, asked)
        answer = sections["example answer"].split("\n(not written", 1)[0]
        assert answer == format.write(EXAMPLE.text, kept, asked)


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


def test_examples_may_lie_anywhere_where_no_file_is_written(
    data: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    result = cner(
        *("predict", "-t", "knee pain", "--labels", "finding", "--model", tiny_folder),
        *("--max-new-tokens", "40", "-o", "-", "--examples", "."),
    )
    assert result.exit_code == 0, result.output


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


def test_an_engine_that_cannot_do_it_is_refused_before_a_model_is_loaded(
    data: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("constrained_ner.engines.models.load_model", load)
    asked = "predict", data, "--labels", "a", "--model", tiny_folder, "--engine", "xgrammar"
    assert "syntax level only" in cner(*asked).output
    both = "--level", "syntax", "--format", "multi_term,multi_tag", "--combine", "vote"
    done = cner(*asked, *both)
    assert "takes JSON schemas, and multi_tag has none" in done.output


def test_a_path_may_hold_an_equals_sign(tmp_path: Path) -> None:
    path = tmp_path / "fold=1" / "test.jsonl"
    assert named_path(f"genia={path}") == ("genia", path)
    assert named_path("genia=test.jsonl") == ("genia", Path("test.jsonl"))
    assert named_path("test.jsonl") == ("", Path("test.jsonl"))
    path.parent.mkdir()
    path.touch()
    assert named_path(str(path)) == ("", path)


def test_a_key_that_stops_a_command_has_its_own_exit_status(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["constrained_ner.cli.convert"], "read", stop)
    done = cner("convert", data, data.with_name("b.jsonl"))
    assert done.exit_code == 130
    assert "Aborted" not in done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["formats", "multi_term", "--words", "fine"], "--words is for multi_bio"),
        (["check", "DATA", "--format", "multi_term", "--anchor", "offsets"], "is for multi_brat"),
        (["formats", "multi_tag", "--max-fragments", "3"], "formats with discontinuous entities"),
        (["formats", "multi_bio", "--boundaries", "character"], "all formats but multi_bio"),
        (["formats", "--level", "faithful"], "--level goes with the NAME of a format"),
        (["page", "DATA", "x.html", "--gold-format", "brat"], "--gold-format goes with --gold"),
        (
            [
                "benchmark",
                "--data",
                "DATA",
                "--levels",
                "syntax",
                "--max-new-tokens",
                "9",
                "-o",
                "x",
            ],
            "--max-new-tokens is for free answers",
        ),
        (["corpora", "prepare", "ncbi", "--from", "DATA", "--seed", "1"], "--seed: no draw"),
        (["benchmark", "--data", "DATA", "--seed", "-1", "-o", "x"], "x>=0"),
        (["train", "--train", "DATA", "--seed", "-1", "-o", "x"], "x>=0"),
    ],
)
def test_options_that_change_nothing_or_cannot_be(
    arguments: list[str], said: str, data: Path
) -> None:
    done = cner(*(data if word == "DATA" else word for word in arguments))
    assert done.exit_code == 2
    assert said in done.output


def test_corpora_are_listed_and_shown() -> None:
    listed = json.loads(cner("corpora", "show", "--output-format", "json").output)
    assert len(listed) == 8
    shown = json.loads(cner("corpora", "show", "ncbi", "--output-format", "json").output)
    assert shown in listed
    assert cner("corpora").output == cner("corpora", "show").output
    assert all(corpus["name"] in cner("corpora").output for corpus in listed)


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
    other = ("--labels", "Finding", "--format", "multi_term", "--model", tiny_folder)
    assert (
        "no entity has the label 'Finding': there are finding" in cner("check", data, *other).stderr
    )


def test_check_fails_on_a_broken_line(data: Path, tiny_folder: Path) -> None:
    data.write_text(data.read_text() + "{\n")
    result = cner("check", data, "--format", "multi_term", "--model", tiny_folder)
    assert result.exit_code == 1
    assert "notes.jsonl:3" in result.output


# ---- what could have been known first is known first


def fail_first(message: str, *arguments: str | Path) -> None:
    """A command that ends with this message, before it looks for a model that is not there."""
    result = cner(*arguments, "--model", "/nowhere/model")
    assert result.exit_code == 1
    assert message in result.stderr
    assert "/nowhere" not in result.stderr
    assert "Traceback" not in result.output


def test_an_output_that_cannot_be_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent, brat = tmp_path / "absent", tmp_path / "brat"
    brat.mkdir()
    (brat / "a.txt").write_text("mine")
    predict = ("predict", data, "--labels", "finding", "-o")
    for name in ("out.jsonl", "out.html", "out.conll", "out.spacy"):
        fail_first(f"there is no folder '{absent}'", *predict, absent / name)
    fail_first("expected a new or an empty folder", *predict, brat)
    fail_first("a folder has this name", *predict, brat, "--output-format", "records")
    fail_first(
        "has this suffix: expected one of jsonl: .jsonl .ndjson; ",
        *predict,
        tmp_path / "out.docx",
    )
    fail_first("; html: .html .htm", *predict, tmp_path / "out.docx")
    fail_first(f"there is no folder '{absent}'", "check", data, "-o", absent / "report.json")
    result = cner("evaluate", data, data, "-o", absent / "scores.json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"there is no folder '{absent}'" in result.stderr
    monkeypatch.setitem(sys.modules, "spacy", None)
    fail_first("constrained_ner[spacy]", *predict, tmp_path / "out.spacy")
    assert "constrained_ner[spacy]" in cner("convert", data, tmp_path / "out.spacy").stderr


def test_folders_of_others_are_left_alone(data: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "README.md").write_text("mine")
    fail_first("expected a new or an empty folder", "train", "--train", data, "-o", own)
    fail_first("expected a new or an empty folder", "benchmark", "--data", data, "-o", own)
    recipe = tmp_path / "experiment.toml"
    recipe.write_text(
        'models = ["/nowhere/model"]\nconfigurations = ["multi_term"]\n'
        f'[[data]]\ntrain = "{data}"\ndev = "{data}"\ntest = "{data}"\n'
    )
    result = cner("experiment", recipe, "-o", own)
    assert "expected a new or an empty folder" in result.stderr
    assert [path.name for path in own.iterdir()] == ["README.md"]


def test_what_else_is_read_is_not_written(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_bytes(data.read_bytes())
    given = ("--labels", "finding", "--examples", other, "-o", other, "--overwrite")
    fail_first("is the input, too", "predict", data, *given)
    fail_first("is the input, too", "export", data, *given)
    done = cner("page", data, other, "--gold", other, "--overwrite")
    assert "is the input, too" in done.stderr
    assert other.read_bytes() == data.read_bytes()


def test_outputs_that_are_no_files(data: Path, tmp_path: Path) -> None:
    pipe, file, link = tmp_path / "pipe", tmp_path / "file.jsonl", tmp_path / "link.jsonl"
    os.mkfifo(pipe)
    done = cner("convert", data, pipe, "--output-format", "jsonl")
    assert "it is a pipe or a device: expected a file" in done.stderr
    assert pipe.is_fifo()
    done = cner("convert", data, "-", "--output-format", "jsonl")
    assert "expected a path, not standard output" in done.stderr
    assert "not standard output" in cner("convert", data, "-").stderr
    file.touch()
    link.symlink_to(file)
    assert cner("convert", data, link).exit_code == 0
    assert link.is_symlink()
    assert file.read_bytes()


def test_a_corpus_in_the_working_folder_and_in_a_link(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("there")
    monkeypatch.chdir(tmp_path / "here")
    assert cner("convert", data, ".").exit_code == 0
    assert cner("convert", data, "../link").exit_code == 0
    assert (
        sorted(os.listdir("."))
        == sorted(os.listdir("../there"))
        == [f"n{n}.{suffix}" for n in (1, 2) for suffix in ("ann", "txt")]
    )
    assert (tmp_path / "link").is_symlink()


def test_data_without_annotations(data: Path) -> None:
    data.write_text('{"text": "No fever."}\n')
    fail_first(f"{data}: no document has an entity: expected annotated", "check", data)


def test_a_run_that_would_be_overwritten_or_is_finished(data: Path, tmp_path: Path) -> None:
    page, records = tmp_path / "out.html", tmp_path / ".out.html.records"
    predict = ("predict", data, "--labels", "finding", "-o", page)
    page.write_text("made before")
    fail_first("is finished, and its records are gone", *predict, "--resume")
    records.write_text("")
    records.with_name("..out.html.records.run").write_text("{}")
    fail_first("holds an unfinished run: --resume it", *predict)
    assert page.read_text() == "made before"


@pytest.mark.parametrize("command", ["predict", "convert"])
def test_the_input_is_never_written_to(command: str, tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    notes = folder / "a.jsonl"
    notes.write_text('{"id": "a", "text": "Knee pain."}\n')
    before = notes.read_bytes()
    for input, output, message in (
        (notes, folder / ".." / "notes" / "a.jsonl", "is the input, too"),
        (folder, folder / "out.jsonl", f"lies in the input folder '{folder}'"),
        (folder, folder / "brat", "would be read as input the next time"),
    ):
        if command == "predict":
            fail_first(message, "predict", input, "--labels", "finding", "-o", output)
        else:
            assert message in cner("convert", input, output).stderr
    assert (notes.read_bytes(), [path.name for path in folder.iterdir()]) == (before, ["a.jsonl"])


def test_files_that_are_passed_over_are_counted(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"id": "a", "text": "Knee pain."}\n')
    (folder / "b.txt").write_text("Left knee pain.")
    (folder / "c.pdf").write_bytes(b"%PDF")
    model = ("--model", tiny_folder)
    for command in (
        ("predict", folder, "--labels", "finding", "--max-new-tokens", "9", *model),
        (
            "predict",
            folder,
            "--labels",
            "finding",
            "--max-new-tokens",
            "9",
            *model,
            "-o",
            tmp_path / "out.html",
        ),
        ("check", folder, "--labels", "finding", "--format", "multi_term", *model),
        ("page", folder, tmp_path / "page.html"),
        ("convert", folder, tmp_path / "out.json"),
    ):
        result = cner(*command)
        assert result.exit_code == 0, result.output
        assert result.stderr.count("2 other files passed over") == 1, command


def test_a_model_that_is_not_there_is_said_before_labels(
    monkeypatch: pytest.MonkeyPatch, tiny_folder: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for given in (["--model", "nope"], ["--model", "nobody/nope"], ["--adapter", "nope"]):
        result = cner("predict", "-t", "x", *given)
        assert result.exit_code == 1
        assert f"no model '{given[1]}': there is no such folder" in result.stderr
        assert "labels" not in result.stderr
    result = cner("predict", "-t", "x", "--model", tiny_folder)
    assert "expected labels: the model does not say which it knows" in result.stderr


def test_what_the_system_refuses_is_no_traceback(
    data: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a disk that is full when the report is written."""

    def full(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_text", full)
    out = tmp_path / "report.json"
    result = cner("check", data, "--format", "multi_term", "--model", tiny_folder, "-o", out)
    assert result.exit_code == 1
    assert f"Error: {out}: No space left on device" in result.stderr


@pytest.mark.parametrize(
    ("where", "code", "said"),
    [
        (">/dev/full", 1, "Error: No space left on device\n"),
        (">&-", 0, ""),
        ("2>&- >/dev/null", 0, ""),
    ],
)
def test_where_nothing_can_be_printed(where: str, code: int, said: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m constrained_ner formats {where}"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (code, said)


def test_an_output_without_a_standard_error(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "constrained_ner", "convert", str(data), str(out)]
    ran = subprocess.run(["bash", "-c", f"{shlex.join(command)} >&- 2>&-"], check=False)
    assert ran.returncode == 0
    assert out.exists()


def test_names_in_messages_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    path = tmp_path / "mixed.zip"
    with ZipFile(path, "w") as archive:
        archive.writestr("\x1b[2Ja.jsonl", '{"id": "a", "text": "knee"}\n')
        archive.writestr("b.csv", "text\nknee\n")
    result = cner("convert", path, tmp_path / "out.json")
    assert result.exit_code == 1
    assert "\N{SYMBOL FOR ESCAPE}[2Ja.jsonl" in result.stderr
    assert "\x1b" not in result.stderr


def test_one_file_by_two_names_is_the_input_too(data: Path, tmp_path: Path) -> None:
    source, link = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(data.read_bytes())
    link.hardlink_to(source)
    result = cner("predict", source, "--labels", "D", "-o", link, "--overwrite")
    assert result.exit_code == 1
    assert "is the input, too" in result.stderr
    assert source.read_bytes() == data.read_bytes()


def test_a_working_folder_that_is_gone(tmp_path: Path) -> None:
    command = (
        f'mkdir gone && cd gone && rmdir ../gone && "{sys.executable}" -m constrained_ner formats'
    )
    ran = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr.endswith("Error: the working folder is not there any more\n")
