"""What a run reports besides its log: TensorBoard's files, energy, scores that are kept."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from constrained_ner.errors import MissingExtraError, TrainingError
from constrained_ner.evaluation import Counts
from constrained_ner.pipeline.calibration import Calibration, Threshold
from constrained_ner.pipeline.manifest import DevScore, load_manifest
from constrained_ner.training import reporting
from constrained_ner.training.checkpoints import last_checkpoint
from constrained_ner.training.loop import train
from constrained_ner.training.recipe import Recipe, Reporting
from constrained_ner.training.reporting import energy_of
from constrained_ner.training.run import run
from constrained_ner.training.scoring import FILE, load_results
from tests.support.training import silent
from tests.test_training_run import Stop, StopAt


def test_tensorboard_has_what_the_log_has(recipe: Recipe, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told = replace(recipe, report=Reporting(tensorboard=True))
    _, _, log = train(told, tmp_path)
    # Gone on with from an earlier checkpoint: what came after it is told once.
    checkpoints = tmp_path / "checkpoints"
    last = last_checkpoint(checkpoints)
    assert last is not None
    (last / "complete").unlink()
    train(told, tmp_path)
    events = EventAccumulator(str(tmp_path / reporting.TENSORBOARD))
    events.Reload()
    losses = [(event.step, round(event.value, 4)) for event in events.Scalars("train/loss")]
    assert losses == [(e["step"], round(e["loss"], 4)) for e in log if "loss" in e]
    f1 = [(event.step, round(event.value, 4)) for event in events.Scalars("eval/f1")]
    assert f1 == [(e["step"], round(e["eval_f1"], 4)) for e in log if "eval_f1" in e]


def test_energy_is_the_sum_of_the_parts(recipe: Recipe, tmp_path: Path) -> None:
    told = replace(recipe, report=Reporting(country="FRA"))
    with pytest.raises(Stop):
        train(told, tmp_path, callbacks=[StopAt(4, "save")])
    first = run(told, tmp_path, silent)
    found = energy_of(tmp_path)
    assert found["seconds"] > 0
    assert found["kwh"] > 0
    assert found["co2_kg"] > 0
    said = load_manifest(tmp_path)
    assert said is not None
    assert said.energy == found
    assert "kg of CO2 equivalents (FRA)" in (tmp_path / "README.md").read_text()
    # A part more is a row more, and a run that is over has no part more.
    run(told, tmp_path, silent)
    with (tmp_path / reporting.EMISSIONS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert energy_of(tmp_path)["kwh"] == sum(float(row["energy_consumed"]) for row in rows)
    assert first.main
    # A run that was killed may have left half a row.
    with (tmp_path / reporting.EMISSIONS).open("a", newline="") as file:
        file.write(",".join(list(rows[0].values())[:3]))
    assert energy_of(tmp_path)["kwh"] == sum(float(row["energy_consumed"]) for row in rows)


def test_without_a_report_nothing_is_said_of_it(recipe: Recipe, tmp_path: Path) -> None:
    run(recipe, tmp_path, silent)
    assert energy_of(tmp_path) == {}
    assert "CO2" not in (tmp_path / "README.md").read_text()
    assert not (tmp_path / reporting.TENSORBOARD).exists()


def test_a_report_does_not_make_another_run(recipe: Recipe, tmp_path: Path) -> None:
    train(recipe, tmp_path)
    train(replace(recipe, report=Reporting(tensorboard=True)), tmp_path)


@pytest.mark.parametrize(
    ("report", "extra"),
    [(Reporting(tensorboard=True), "tensorboard"), (Reporting(country="FRA"), "energy")],
)
def test_extras_are_named_before_the_run(
    report: Reporting,
    extra: str,
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("constrained_ner.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=rf"constrained_ner\[{extra}\]"):
        train(replace(recipe, report=report), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_country(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="unknown country 'fr'"):
        train(replace(recipe, report=Reporting(country="fr")), tmp_path)


# ---- scores -------------------------------------------------------------------------------------


def test_scores_that_are_known_are_not_measured_again(recipe: Recipe, tmp_path: Path) -> None:
    data = replace(recipe.data[0], test=recipe.data[0].train)
    formats = ("multi_term", "single_term")
    tested = replace(recipe, data=(data,), examples=replace(recipe.examples, formats=formats))
    asked: list[str] = []

    def noted(items: Iterable[Any], unit: str) -> Iterator[Any]:
        asked.append(unit)
        return iter(items)

    whole = run(tested, tmp_path, noted).results
    assert list(whole) == [
        ("ten", name, level) for name in formats for level in ("free", "faithful")
    ]
    assert len([unit for unit in asked if unit.startswith("documents of")]) == 4
    # Stopped in the middle of the third line.
    path = tmp_path / FILE
    lines = path.read_text().splitlines(keepends=True)
    known = json.dumps(["ten", "multi_term", "free", {"gold": 7}]) + "\n"
    path.write_text(known + lines[1] + lines[2][:9])
    asked.clear()
    again = run(tested, tmp_path, noted).results
    assert [unit for unit in asked if unit.startswith("documents of")] == [
        f"documents of ten, single_term, {level}" for level in ("free", "faithful")
    ]
    assert again == {**whole, ("ten", "multi_term", "free"): Counts(gold=7)}
    assert load_results(path) == again
    # Whether the same command tests or not, what was measured of the model on dev is kept.
    said = load_manifest(tmp_path)
    assert said is not None
    assert said.dev == {}
    least = Threshold(0.5, 3, 0.5, 0.5)
    worth = Calibration(("single_term",), "faithful", ((0.5, 0.4),), (least,), 0.1, 0.2, 9, 7, 0)
    replace(said, dev={"single_term": DevScore(0.5)}, calibrations=(worth,)).save(tmp_path)
    run(tested, tmp_path, noted)
    said = load_manifest(tmp_path)
    assert said is not None
    assert said.best == "single_term"
    assert said.calibrations == (worth,)
    assert "Default format: single_term" in (tmp_path / "README.md").read_text()
    path.write_text("what?\n")
    with pytest.raises(TrainingError, match=r"scores\.jsonl: damaged"):
        load_results(path)
