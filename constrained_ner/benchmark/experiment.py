"""The paper's study: models and configurations, trained and tested on several draws.

An experiment is a training recipe and what to vary in it. Each run has a folder of its own, trained
by `cner train` and answered by the grid of `cner benchmark`; both go on where they were stopped.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from constrained_ner.atomic import whole
from constrained_ner.benchmark import grid
from constrained_ner.benchmark.results import gather
from constrained_ner.errors import InputError, UnknownNameError
from constrained_ner.formats.grammar import Level
from constrained_ner.training.recipe import Recipe, build_recipe
from constrained_ner.training.sampling import CONFIGURATIONS

# Table 9: hours of four A100s for `all`, with a model of 0.494e9 parameters: 80,000 examples (eight
# data sets), four epochs.
_PAPER_HOURS = 4 * (2 + 23 / 60 + 46 / 3600)
_PAPER_WORK = 80_000 * 4 * 0.494e9


@dataclass(frozen=True)
class Experiment:
    """What is trained and tested.

    Attributes
    ----------
    recipe: what all runs have in common; its model, formats and seed are replaced.
    configurations: see `training.sampling`. `draws`: how many; the draw is the seed.
    levels: at which each format of a configuration is tested.
    """

    recipe: Recipe
    models: tuple[str, ...]
    configurations: tuple[str, ...]
    draws: int = 3
    levels: tuple[Level, ...] = (Level.FREE, Level.FAITHFUL)

    def runs(self) -> list[Run]:
        return [
            Run(self, model, configuration, draw)
            for model in self.models
            for configuration in self.configurations
            for draw in range(self.draws)
        ]


@dataclass(frozen=True)
class Run:
    """One model, trained in one configuration on one draw."""

    experiment: Experiment
    model: str
    configuration: str
    draw: int

    @property
    def title(self) -> str:
        """The model, without the folders that it lies in where no other one has its name."""
        short = Path(self.model).name
        same = {model for model in self.experiment.models if Path(model).name == short}
        return short if len(same) == 1 else self.model

    @property
    def name(self) -> str:
        return f"{self.title}, {self.configuration}, draw {self.draw}"

    @property
    def path(self) -> Path:
        """Within the folder of the experiment."""
        return Path(grid.slug(self.model), self.configuration, str(self.draw))

    @property
    def recipe(self) -> Recipe:
        """The test splits are left to the grid."""
        common = self.experiment.recipe
        return replace(
            common,
            model=self.model,
            seed=self.draw,
            examples=replace(common.examples, formats=(self.configuration,)),
            data=tuple(replace(data, test=None) for data in common.data),
        )

    def grid(self, folder: Path) -> grid.Grid:
        """The questions on the test splits, for the model that the run left in `folder`."""
        common = self.experiment.recipe
        data = [
            grid.load_data(item.test, item.name, common.examples.test, self.draw)[0]
            for item in common.data
            if item.test is not None
        ]
        return grid.Grid(
            (self.name,),
            tuple(data),
            grid.variants_of(CONFIGURATIONS[self.configuration]),
            self.experiment.levels,
            self.draw,
            common.evaluation.batch_size,
            common.evaluation.max_new_tokens or None,
            sources={self.name: str(folder)},
        )


_KEYS = ("models", "configurations", "draws", "levels")


def load_experiment(path: Path) -> Experiment:
    """An experiment from a TOML file: a recipe with `models`, `configurations`, `draws`, `levels`.

    Raises
    ------
    InputError: the file cannot be read; a key is unknown, of a wrong type, or names what there is
        not.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path) from None
    except ValueError as error:
        raise InputError(f"not TOML: {error}", path) from None
    own = {key: values.pop(key) for key in _KEYS if key in values}
    for key in ("model", "seed"):
        if key in values:
            raise InputError(f"unknown key {key!r}: an experiment has 'models' and 'draws'", path)
    names: dict[str, tuple[str, ...]] = {}
    for key, default in (("models", ()), ("configurations", ()), ("levels", ("free", "faithful"))):
        value = own.get(key, list(default))
        if not (isinstance(value, list) and value and all(isinstance(v, str) for v in value)):
            raise InputError(f"{key} is {value!r:.60}: expected a list of names", path)
        names[key] = tuple(value)
    draws = own.get("draws", 3)
    if not isinstance(draws, int) or isinstance(draws, bool) or draws < 1:
        raise InputError(f"draws is {draws!r:.60}: expected a whole number from 1", path)
    unknown = [name for name in names["configurations"] if name not in CONFIGURATIONS]
    if unknown:
        raise InputError(
            f"unknown configuration {unknown[0]!r}: expected {', '.join(CONFIGURATIONS)}", path
        )
    try:
        levels = tuple(Level.parse(level) for level in names["levels"])
        recipe = build_recipe(values)
    except InputError as error:
        raise InputError(error.reason, path) from None
    except UnknownNameError as error:
        raise InputError(str(error), path) from None
    return Experiment(recipe, names["models"], names["configurations"], draws, levels)


@dataclass(frozen=True)
class Plan:
    """What an experiment takes, before it is begun.

    Attributes
    ----------
    examples: of one run, by data set. `answers`: on the test splits, of all runs.
    hours: of one A100, in all, by the paper's table 9; None where a model's size is not known.
    """

    runs: int
    examples: dict[str, int]
    answers: int
    hours: float | None

    def lines(self) -> list[str]:
        drawn = ", ".join(f"{number} {name}" for name, number in self.examples.items())
        hours = "unknown" if self.hours is None else f"about {self.hours:.1f}"
        return [
            f"{self.runs} runs, each on {sum(self.examples.values())} examples: {drawn}",
            f"{self.answers} documents to answer on the test splits",
            f"hours of one A100 to train, by the paper's table 9: {hours}",
        ]


def plan(experiment: Experiment) -> Plan:
    """What an experiment takes; the data is read for it, and no weights."""
    from constrained_ner.training.data import load_corpus

    recipe = experiment.recipe
    corpora = [load_corpus(data, data.train).corpus for data in recipe.data]
    examples = {
        corpus.name: min(recipe.examples.train, len(corpus.documents)) for corpus in corpora
    }
    tested = sum(
        min(recipe.examples.test, len(load_corpus(data, data.test, corpus).corpus.documents))
        for data, corpus in zip(recipe.data, corpora, strict=True)
        if data.test is not None
    )
    sizes = {model: _parameters(model) for model in experiment.models}
    hours = 0.0
    answers = 0
    for run in experiment.runs():
        work = sum(examples.values()) * recipe.training.epochs * (sizes[run.model] or 0)
        hours += _PAPER_HOURS * work / _PAPER_WORK
        answers += tested * len(CONFIGURATIONS[run.configuration]) * len(experiment.levels)
    known = None not in sizes.values()
    return Plan(len(experiment.runs()), examples, answers, hours if known else None)


def _parameters(model: str) -> int | None:
    """The number of a model's weights, from its configuration; None where it cannot be read."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from constrained_ner.engines.models import base_of
    from constrained_ner.errors import ModelError

    try:
        config = AutoConfig.from_pretrained(base_of(model))
    except (OSError, ValueError, ModelError):
        return None
    build: Any = AutoModelForCausalLM.from_config
    with torch.device("meta"):
        return int(build(config).num_parameters())


def run_experiment(
    experiment: Experiment, folder: Path, progress: Any, *, resamples: int = 10_000
) -> Iterator[dict[str, Any]]:
    """The results of each run, as they are done; see `results.gather`.

    Parameters
    ----------
    progress: shows how far an iteration is: its items, and what they are.

    Raises
    ------
    InputError, ModelError, TrainingError: see `training.run` and `grid.run`.
    """
    from constrained_ner.training.run import run as train

    for run in experiment.runs():
        place = folder / run.path
        if not (place / grid.FILE).exists():
            train(run.recipe, place / "model", progress)
            cells = run.grid(place / "model")
            grid.run(cells, place / "answers", progress)
            found = gather(cells, place / "answers", shown=0, resamples=resamples)
            found["run"] = {
                "model": run.title,
                "configuration": run.configuration,
                "draw": run.draw,
                "training": _training_of(place / "model"),
            }
            with whole(place / grid.FILE) as part:
                part.write_text(json.dumps(found, ensure_ascii=False) + "\n", encoding="utf-8")
        yield json.loads((place / grid.FILE).read_text(encoding="utf-8"))


def combine(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The results of all runs as one value, which reports are made from as from `results.gather`'s.

    `runs` has what is known of each model; the seed is a run's draw. Data sets are described by the
    first draw of them.
    """
    data: dict[str, Any] = {}
    for run in runs:
        for each in run["data"]:
            data.setdefault(each["name"], each)
    found = {variant for run in runs for variant in run["variants"]}
    levels = {level for run in runs for level in run["levels"]}
    lists = ("models", "cells", "missing", "pooled", "documents")
    return {
        **{key: [value for run in runs for value in run[key]] for key in lists},
        "data": list(data.values()),
        "trained": {
            model: names for run in runs for model, names in run.get("trained", {}).items()
        },
        "variants": [str(variant) for variant in grid.ALL if str(variant) in found],
        "levels": [str(level) for level in Level if level in levels],
        "seed": None,
        "resamples": max((run["resamples"] for run in runs), default=0),
        "runs": {run["models"][0]: run["run"] for run in runs},
    }


def _training_of(folder: Path) -> dict[str, Any]:
    """Seconds, energy and emissions of a training run, as far as they were measured."""
    from constrained_ner.training.reporting import energy_of

    log = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    seconds = [json.loads(line).get("train_runtime") for line in log]
    return {"seconds": max((s for s in seconds if s), default=None), **energy_of(folder)}
