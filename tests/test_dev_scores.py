"""What a model is told of its F1 on dev."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dev_scores import Scores, compared, main, pooled, table
from constrained_ner.errors import ModelError, UnknownNameError
from constrained_ner.evaluation import Counts
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.manifest import Dataset, Manifest, load_manifest
from constrained_ner.training.saving import card
from constrained_ner.training.scoring import dev_score
from tests.support.training import LABELS, write_documents

HIT, MISS = Counts(1, 1, 1, 1), Counts(1, 0, 1, 0)
SCORES: Scores = {
    ("one", "multi_term"): [HIT, MISS],
    ("one", "multi_tag"): [HIT, HIT],
    ("two", "multi_term"): [HIT],
    ("two", "multi_tag"): [HIT],
}


@pytest.fixture
def model(tiny_folder: Path, tmp_path: Path) -> Path:
    """A tiny model, trained on `ten` in two formats, with its card."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    trained = Manifest("tiny", ("multi_term", "multi_tag"), (Dataset(LABELS, "ten"),))
    trained.save(folder)
    (folder / "README.md").write_text(card(trained, {}))
    return folder


@pytest.fixture
def given(model: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "corpora" / "ten").mkdir(parents=True)
    write_documents(tmp_path / "corpora" / "ten" / "dev.jsonl")
    return [
        *("--model", str(model), "--corpora", str(tmp_path / "corpora")),
        *("--documents", "4", "-o", str(tmp_path / "dev.jsonl")),
    ]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "dev.jsonl").read_text().splitlines()]


def test_scores_are_measured_once_and_saved(given: list[str], model: Path, tmp_path: Path) -> None:
    main(given)
    rows = rows_of(tmp_path)
    assert [row["cell"]["format"] for row in rows] == ["multi_term", "multi_tag"]
    assert all(len(row["counts"]) == row["documents"] == 4 for row in rows)
    trained = load_manifest(model)
    assert trained is not None
    assert trained.dev == {}
    # A run that was stopped: the last line is cut off, and only that is measured again.
    text = (tmp_path / "dev.jsonl").read_text()
    first = json.loads(text.splitlines()[0])
    first["counts"] = [[1, 1, 1, 1]] * 4
    (tmp_path / "dev.jsonl").write_text(json.dumps(first) + "\n" + text.splitlines()[1][:40])
    main([*given, "--save"])
    again = rows_of(tmp_path)
    assert again[0] == first
    assert again[1]["counts"] == rows[1]["counts"]
    told = load_manifest(model)
    assert told is not None
    assert replace(told, dev={}) == trained
    assert told.dev["multi_term"] == dev_score([HIT] * 4, Level.FAITHFUL, 0)
    assert told.best == "multi_term"
    assert (model / "README.md").read_text() == card(told, {})
    # Other weights under the same name are another model.
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0@")
    main(given)
    assert len(rows_of(tmp_path)) == 4


def test_a_card_that_somebody_has_written_is_left_alone(given: list[str], model: Path) -> None:
    (model / "README.md").write_text("# My model\n")
    main([*given, "--formats", "multi_tag", "--save"])
    assert (model / "README.md").read_text() == "# My model\n"
    told = load_manifest(model)
    assert told is not None
    assert list(told.dev) == ["multi_tag"]


def test_two_models_on_the_same_documents(
    given: list[str], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(model, other)
    main([*given, "--model", str(other), "--formats", "multi_term"])
    first, second = rows_of(tmp_path)
    assert first["cell"]["sample"] == second["cell"]["sample"]
    assert first["counts"] == second["counts"]
    shown = capsys.readouterr().out
    assert f"{other} against {model}" in shown
    assert "| +0.000 | +0.000 to +0.000 | 4 |" in shown


def test_what_is_wrong_is_said_first(given: list[str], tiny_folder: Path) -> None:
    with pytest.raises(UnknownNameError, match="multi_xml"):
        main([*given, "--formats", "multi_term,multi_xml"])
    with pytest.raises(ModelError, match="expected a model made by `cner train`"):
        main([*given, "--model", str(tiny_folder)])


def test_tables() -> None:
    entries = pooled(SCORES, 7)
    assert list(entries) == ["multi_tag", "multi_term"]
    assert entries["multi_term"].f1 == pytest.approx(2 / 3, abs=1e-4)
    best = entries["multi_tag"]
    assert (best.documents, best.entities, best.seed) == (3, 3, 7)
    assert "| multi_term | 0.667 | 0.000 to 1.000 | 0.500 | 1.000 |" in table(SCORES, 7)
    # Only what both have is compared.
    second = {("one", "multi_term"): [HIT, HIT], ("three", "multi_term"): [MISS]}
    row = compared(SCORES, second).splitlines()[-1]
    assert row == "| multi_term | 0.500 | 1.000 | +0.500 | +0.000 to +1.000 | 2 |"
    assert compared(SCORES, {("three", "multi_tag"): [HIT]}).count("\n") == 1


def test_nothing_to_find_is_no_score() -> None:
    score = dev_score([Counts()], Level.FAITHFUL, 0)
    assert (score.f1, score.interval, score.entities) == (0.0, None, 0)
