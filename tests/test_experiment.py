"""The paper's study: what is planned, run, gone on with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from constrained_ner.benchmark.experiment import (
    _training_of,
    combine,
    load_experiment,
    plan,
    run_experiment,
)
from constrained_ner.cli import main
from constrained_ner.errors import InputError, TrainingError
from constrained_ner.formats import FORMATS
from constrained_ner.formats.grammar import Level
from constrained_ner.training.data import load_corpus, sampling_of
from constrained_ner.training.examples import Question
from constrained_ner.training.recipe import Recipe
from constrained_ner.training.sampling import CONFIGURATIONS, draw
from tests.support.training import TEN, silent, write_documents

ROOT = Path(__file__).parent.parent
OWN = {
    "models": ["tiny"],
    "configurations": ["multi_term", "term_ner"],
    "draws": 2,
    "levels": ["faithful"],
}


def write_experiment(folder: Path, base: str = "tiny", **changes: Any) -> Path:
    data = write_documents(folder / "ten.jsonl")
    values = {**OWN, "models": [base], **changes}
    tables: dict[str, dict[str, Any]] = {
        "examples": {"train": 6, "dev": 2, "test": 3},
        "training": {"epochs": 1, "learning_rate": 0.01, "evaluations": 1, "dtype": "float32"},
        "evaluation": {"level": "faithful"},
        "[data]": {"name": "ten"} | {split: str(data) for split in ("train", "dev", "test")},
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None]
    for table, entries in tables.items():
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in entries.items())]
    path = folder / "experiment.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def draw_questions(recipe: Recipe) -> list[Question]:
    (data,) = recipe.data
    corpus = load_corpus(data, data.train).corpus
    return draw(corpus, "train", recipe.seed, sampling_of(recipe, data))


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("experiment*.toml")))
def test_the_committed_ones(path: Path) -> None:
    experiment = load_experiment(path)
    assert all(data.test for data in experiment.recipe.data)
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(f"# cner experiment benchmarks/{path.name} -o ")
    # The paper's own: seven configurations, two models, three draws, as its recipe trains.
    if path.stem == "experiment":
        assert len(experiment.runs()) == 7 * 2 * 3
        assert len(experiment.recipe.data) == 8


def test_runs(tmp_path: Path) -> None:
    experiment = load_experiment(write_experiment(tmp_path))
    assert experiment.levels == (Level.FAITHFUL,)
    runs = experiment.runs()
    assert [(run.configuration, run.draw) for run in runs] == [
        ("multi_term", 0),
        ("multi_term", 1),
        ("term_ner", 0),
        ("term_ner", 1),
    ]
    assert len({run.path for run in runs}) == len({run.name for run in runs}) == 4
    for run in runs:
        assert run.recipe.seed == run.draw
        assert run.recipe.formats == CONFIGURATIONS[run.configuration]
        assert run.recipe.model == "tiny"
        grid = run.grid(tmp_path)
        assert tuple(variant.format for variant in grid.variants) == run.recipe.formats
        assert [len(data.documents) for data in grid.data] == [3]
    # Another draw is of other documents.
    drawn = [run.grid(tmp_path).data[0].documents for run in runs]
    assert drawn[0] == drawn[2] != drawn[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": None}, "the experiment has no 'models'"),
        ({"models": "tiny"}, "models is 'tiny': expected a list"),
        ({"levels": []}, "levels is empty"),
        ({"configurations": ["all", "some"]}, "unknown configuration 'some': expected one of all"),
        ({"configurations": ["all", "all"]}, "configurations names one of all, all twice"),
        ({"draws": 0}, "draws is 0"),
        ({"draws": True}, "draws is True"),
        ({"levels": ["strict"]}, "unknown level 'strict'"),
        ({"model": "tiny"}, "unknown key 'model': an experiment has"),
        ({"rate": 3}, "unknown key 'rate'"),
    ],
)
def test_broken_files(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_experiment(tmp_path, **changes)
    with pytest.raises(InputError, match=f"experiment.toml: {message}"):
        load_experiment(path)


def test_models_are_tested_on_something(tmp_path: Path) -> None:
    path = write_experiment(tmp_path)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith('test = "')))
    with pytest.raises(InputError, match=r"no \[\[data\]\] has 'test'"):
        load_experiment(path)


def test_weights_are_of_the_formats_of_each_run(tmp_path: Path) -> None:
    path = write_experiment(tmp_path, configurations=["all", "multi_triple"])
    weights = "\n[examples.weights]\nmulti_code = 0.25\nmulti_triple = 2.0\n"
    path.write_text(path.read_text(encoding="utf-8") + weights, encoding="utf-8")
    found = [dict(run.recipe.examples.weights) for run in load_experiment(path).runs()]
    several, one = {"multi_code": 0.25, "multi_triple": 2.0}, {"multi_triple": 2.0}
    assert found == [several, several, one, one]


def test_a_corpus_has_one_name_in_training_and_test(tmp_path: Path) -> None:
    path = write_experiment(tmp_path)
    (tmp_path / "ours").mkdir()
    for split in ("train", "test"):
        write_documents(tmp_path / "ours" / f"{split}.jsonl")
    data = "".join(
        f'{split} = "{tmp_path / "ours" / split}.jsonl"\n' for split in ("train", "test")
    )
    head = path.read_text(encoding="utf-8").split("[[data]]")[0]
    path.write_text(f"{head}[[data]]\n{data}", encoding="utf-8")
    run = load_experiment(path).runs()[0]
    (files,) = run.recipe.data
    (sample,) = run.grid(tmp_path).data
    assert sample.name == load_corpus(files, files.train).corpus.name == "ours"


def test_a_training_takes_as_long_as_its_parts(tmp_path: Path) -> None:
    """Lines of the log say how long it has taken so far, parts before a stop included."""
    lines = [{"loss": 1.0}, *({"minutes": minutes} for minutes in (0.5, 1.5, 2.5))]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert _training_of(tmp_path).seconds == 150.0
    (tmp_path / "log.jsonl").write_text("")
    assert _training_of(tmp_path).seconds is None


def test_other_ways_to_ask_stay_in_the_results_of_all_runs(recipe: Any, tmp_path: Path) -> None:
    path = write_experiment(tmp_path, recipe.model, configurations=["multi_span"], draws=1)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("[examples]\n", "[examples]\nindex = 1.0\n"), "utf-8")
    runs = list(run_experiment(load_experiment(path), tmp_path / "out", silent, resamples=20))
    assert [str(variant) for variant in combine(runs).variants] == ["multi_span+index"]


def test_labels_are_those_of_the_training_files(tmp_path: Path) -> None:
    """A label that the test split does not have can be given falsely, and is asked for."""
    path = write_experiment(tmp_path)
    with_genes = [
        {"id": "1", "text": "MYC", "entities": [{"label": "Gene", "fragments": [[0, 3]]}]}
    ]
    test = tmp_path / "genes.jsonl"
    test.write_text("".join(json.dumps(line) + "\n" for line in with_genes))
    text = path.read_text(encoding="utf-8").replace(
        f'test = "{tmp_path / "ten.jsonl"}"', f'test = "{test}"'
    )
    path.write_text(text, encoding="utf-8")
    (sample,) = load_experiment(path).runs()[0].grid(tmp_path).data
    assert sample.labels == ("Disease", "Gene")


@pytest.mark.parametrize(("index", "asked"), [(0.0, "multi_span"), (1.0, "multi_span+index")])
def test_a_model_is_tested_as_it_was_trained(tmp_path: Path, index: float, asked: str) -> None:
    path = write_experiment(tmp_path, configurations=["all"])
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("[examples]\n", f"[examples]\nindex = {index}\n"), "utf-8")
    variants = load_experiment(path).runs()[0].grid(tmp_path).variants
    assert len(variants) == len(FORMATS)
    assert asked in map(str, variants)


def test_what_is_planned_is_what_is_drawn(tmp_path: Path) -> None:
    path = write_experiment(tmp_path, models=["nowhere"])
    text = path.read_text(encoding="utf-8")
    text = text.replace("[examples]\n", "[examples]\nrounds = 3\nempty_documents = false\n")
    path.write_text(text + "\nexamples = 5\n", encoding="utf-8")
    experiment = load_experiment(path)
    drawn = draw_questions(experiment.runs()[0].recipe)
    assert plan(experiment).examples == {"ten": len(drawn)} == {"ten": 15}


def test_plan(tiny_folder: Path, tmp_path: Path) -> None:
    experiment = load_experiment(write_experiment(tmp_path, str(tiny_folder)))
    found = plan(experiment)
    assert (found.runs, found.examples) == (4, {"ten": 6})
    # Three documents, in one and in two formats, two draws each.
    assert found.answers == 3 * 2 + 3 * 2 * 2
    assert found.hours is not None
    assert 0 < found.hours < 1e-3
    unknown = load_experiment(write_experiment(tmp_path, str(tmp_path / "nowhere")))
    assert plan(unknown).hours is None
    assert "unknown" in plan(unknown).lines()[-1]


def test_the_papers_hours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At the paper's own size the estimate is the paper's figure."""
    from constrained_ner.benchmark import experiment as module

    monkeypatch.setattr(module, "_parameters", lambda model: 494_000_000)
    changed = load_experiment(write_experiment(tmp_path, configurations=["all"], draws=1))
    found = plan(changed)
    assert found.hours is not None
    share = 6 * 1 / (80_000 * 4)
    assert found.hours == pytest.approx(4 * 2.396 * share, rel=1e-3)


def test_no_run_becomes_a_part_of_its_data(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write_documents(folder / "ten.jsonl")
    path = write_experiment(tmp_path)
    recipe = path.read_text(encoding="utf-8")
    path.write_text(recipe.replace(str(tmp_path / "ten.jsonl"), str(folder)), encoding="utf-8")
    done = CliRunner().invoke(main, ["experiment", str(path), "-o", str(folder / "out")])
    assert (done.exit_code, (folder / "out").exists()) == (1, False)
    assert f"{folder / 'out'}: lies in the input folder" in done.output


def test_an_experiment_goes_on(recipe: Any, tmp_path: Path) -> None:
    path = write_experiment(tmp_path, recipe.model)
    experiment = load_experiment(path)
    folder = tmp_path / "out"
    steps = run_experiment(experiment, folder, silent, resamples=20)
    first = next(steps)
    del steps  # stopped after the first run
    trained = (folder / experiment.runs()[0].path / "model" / "cner.json").stat().st_mtime_ns
    whole = list(run_experiment(experiment, folder, silent, resamples=20))
    assert whole[0] == first
    assert (folder / experiment.runs()[0].path / "model" / "cner.json").stat().st_mtime_ns == (
        trained
    )
    trained_runs = [
        result.runs[run.name] for result, run in zip(whole, experiment.runs(), strict=True)
    ]
    assert [(one.configuration, one.draw) for one in trained_runs] == [
        (run.configuration, run.draw) for run in experiment.runs()
    ]
    # Scores are computed anew, from the answers that are there.
    again = list(run_experiment(experiment, folder, silent, resamples=30))
    assert {results.resamples for results in again} == {30}
    (data,) = experiment.recipe.data
    corrected = write_documents(
        tmp_path / "gold.jsonl", [replace(one, entities=one.entities[:1]) for one in TEN]
    )
    recipe_of_corrected = replace(experiment.recipe, data=(replace(data, test=corrected),))
    steps = run_experiment(
        replace(experiment, recipe=recipe_of_corrected), folder, silent, resamples=20
    )
    before, after = (result.cells[0].scores["strict"].counts for result in (first, next(steps)))
    assert before is not None
    assert after is not None
    assert after.gold < before.gold
    assert after.predicted == before.predicted
    # Another recipe, or other test documents, would not go on with what is there.
    changed = load_experiment(write_experiment(tmp_path, recipe.model, draws=1))
    training = replace(changed.recipe.training, epochs=2.0)
    other = replace(changed, recipe=replace(changed.recipe, training=training))
    with pytest.raises(TrainingError, match="holds a run with another 'training'"):
        next(run_experiment(other, folder, silent))
    data = changed.recipe.data[0]
    documents = write_documents(tmp_path / "others.jsonl", TEN[:7])
    other = replace(changed, recipe=replace(changed.recipe, data=(replace(data, test=documents),)))
    with pytest.raises(InputError, match="of answers about other documents"):
        next(run_experiment(other, folder, silent))
    for result, run in zip(whole, experiment.runs(), strict=True):
        assert not result.missing
        assert len(result.cells) == len(run.recipe.formats)
        assert (result.runs[run.name].training.seconds or 0) > 0
        for cell in result.cells:
            assert cell.health is not None
            assert cell.health.parsed == cell.health.answers
