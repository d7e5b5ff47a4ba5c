"""The paper's study: models and configurations, trained and tested on several draws.

An experiment is a training recipe and what to vary in it. Each run has a folder of its own, trained
by `cner train` and answered by the grid of `cner benchmark`; both go on where they were stopped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_type_hints

from constrained_ner.benchmark import grid
from constrained_ner.benchmark.gather import gather
from constrained_ner.benchmark.results import (
    CorpusSummary,
    Results,
    TrainedRun,
    TrainingCosts,
    load_results,
    save_results,
)
from constrained_ner.corpora import corpus_name
from constrained_ner.corpora.files import LOGGER
from constrained_ner.errors import InputError, UnknownNameError
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.manifest import FILE as MANIFEST
from constrained_ner.structuring import read_toml, structure
from constrained_ner.training.recipe import Recipe, build_recipe
from constrained_ner.training.sampling import CONFIGURATIONS, formats_of

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

    @cached_property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """What each corpus is asked for, by its name, in training and in the test."""
        from constrained_ner.training.data import load_corpus

        corpora = (load_corpus(data, data.train).corpus for data in self.recipe.data)
        return {corpus.name: corpus.labels for corpus in corpora}


@dataclass(frozen=True)
class Run:
    """One model, trained in one configuration on one draw."""

    experiment: Experiment
    model: str
    configuration: str
    draw: int

    @property
    def title(self) -> str:
        """The model's name without its folders, unless another model has the same."""
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
        formats = CONFIGURATIONS[self.configuration]

        def of_formats(weights: Mapping[str, float]) -> dict[str, float]:
            return {name: weight for name, weight in weights.items() if name in formats}

        examples = replace(
            common.examples,
            formats=(self.configuration,),
            weights=of_formats(common.examples.weights),
        )
        data = (replace(d, test=None, weights=of_formats(d.weights)) for d in common.data)
        return replace(
            common, model=self.model, seed=self.draw, examples=examples, data=tuple(data)
        )

    def grid(self, folder: Path) -> grid.Grid:
        """The questions on the test splits, for the model that the run left in `folder`."""
        common = self.experiment.recipe
        data = []
        for item in common.data:
            if item.test is not None:
                name = item.name or corpus_name(item.train)
                sample, _ = grid.load_sample(item.test, name, common.examples.test, self.draw)
                data.append(replace(sample, labels=self.experiment.labels[name]))
        return grid.Grid(
            (self.name,),
            tuple(data),
            tuple(
                grid.Variant.as_trained(name, common.examples.index)
                for name in formats_of((self.configuration,))
            ),
            self.experiment.levels,
            self.draw,
            common.evaluation.batch_size,
            common.evaluation.max_new_tokens or None,
            sources={self.name: str(folder)},
        )


@dataclass(frozen=True)
class _Keys:
    """What an experiment's file has besides the recipe."""

    models: tuple[str, ...]
    configurations: tuple[str, ...]
    draws: int = 3
    levels: tuple[str, ...] = ("free", "faithful")


def load_experiment(path: Path) -> Experiment:
    """An experiment from a TOML file: a recipe with `models`, `configurations`, `draws`, `levels`.

    Raises
    ------
    InputError: the file cannot be read; a key is unknown, of a wrong type, or names what there is
        not.
    """
    values = read_toml(path)
    own = {key: values.pop(key) for key in get_type_hints(_Keys) if key in values}
    for key in ("model", "seed"):
        if key in values:
            raise InputError(f"unknown key {key!r}: an experiment has 'models' and 'draws'", path)
    try:
        keys = structure(_Keys, own, "the experiment")
        for key in ("models", "configurations", "levels"):
            names = getattr(keys, key)
            if not names:
                raise InputError(f"{key} is empty: expected at least one")
            if len(set(names)) < len(names):
                raise InputError(f"{key} names one of {', '.join(names)} twice: expected it once")
        if keys.draws < 1:
            raise InputError(f"draws is {keys.draws}: expected 1 or more")
        levels = tuple(Level.parse(level) for level in keys.levels)
        formats_of(keys.configurations)
        recipe = build_recipe(values)
        if all(data.test is None for data in recipe.data):
            raise InputError("no [[data]] has 'test': expected what the models are tested on")
    except InputError as error:
        raise InputError(error.reason, path) from None
    except UnknownNameError as error:
        raise InputError(str(error), path) from None
    return Experiment(recipe, keys.models, keys.configurations, keys.draws, levels)


@dataclass(frozen=True)
class Plan:
    """How much work an experiment is, known before it begins.

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
    """How much work an experiment is. Data is read for this, but no weights."""
    from constrained_ner.training.data import load_corpus, sampling_of
    from constrained_ner.training.sampling import draw

    recipe = experiment.recipe
    corpora = [load_corpus(data, data.train).corpus for data in recipe.data]
    examples = {
        corpus.name: len(draw(corpus, "train", 0, sampling_of(recipe, data)))
        for data, corpus in zip(recipe.data, corpora, strict=True)
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
        config = AutoConfig.from_pretrained(base_of(model), trust_remote_code=False)
    except (OSError, ValueError, ModelError):
        return None
    build: Any = AutoModelForCausalLM.from_config
    with torch.device("meta"):
        return int(build(config).num_parameters())


def run_experiment(
    experiment: Experiment, folder: Path, progress: Any, *, resamples: int = 10_000
) -> Iterator[Results]:
    """The results of each run, as they are done.

    Parameters
    ----------
    progress: shows how far an iteration is. It is given the items and what they are.

    Raises
    ------
    InputError, ModelError, TrainingError: see `training.run` and `grid.run`.
    """
    from constrained_ner.training.checkpoints import RUN, check_same
    from constrained_ner.training.run import run as train

    for data in experiment.recipe.data:
        for error in grid.load_sample(data.test)[1] if data.test is not None else ():
            LOGGER.warning("left out: %s", error)
    for run in experiment.runs():
        place = folder / run.path
        model, answers = place / "model", place / "answers"
        if (model / RUN).exists():
            check_same(run.recipe, model)
        cells = run.grid(model)
        if not (model / MANIFEST).exists():  # which is written last
            train(run.recipe, model, progress)
        grid.run(cells, answers, progress)  # of a finished run it checks the answers, and no more
        # Of a finished run, too: gold entities may have been corrected since.
        found = gather(cells, answers, shown=0, resamples=resamples)
        trained = TrainedRun(run.title, run.configuration, run.draw, _training_of(model))
        save_results(replace(found, runs={run.name: trained}), place)
        yield load_results(place)


def combine(runs: Sequence[Results]) -> Results:
    """The results of all runs together, as if they were of one benchmark.

    Each run has its own seed. A corpus is described by the sample of the first run.
    """
    data: dict[str, CorpusSummary] = {}
    for run in runs:
        for summary in run.data:
            data.setdefault(summary.name, summary)
    variants = {variant for run in runs for variant in run.variants}
    levels = {level for run in runs for level in run.levels}
    return Results(
        models=tuple(model for run in runs for model in run.models),
        data=tuple(data.values()),
        variants=tuple(variant for variant in (*grid.ALL, *grid.SPANS) if variant in variants),
        levels=tuple(level for level in Level if level in levels),
        seed=None,
        resamples=max((run.resamples for run in runs), default=0),
        cells=tuple(cell for run in runs for cell in run.cells),
        missing=tuple(cell for run in runs for cell in run.missing),
        pooled=tuple(pooled for run in runs for pooled in run.pooled),
        together=tuple(one for run in runs for one in run.together),
        documents=tuple(document for run in runs for document in run.documents),
        seen={model: known for run in runs for model, known in run.seen.items()},
        runs={model: trained for run in runs for model, trained in run.runs.items()},
    )


def _training_of(folder: Path) -> TrainingCosts:
    """The costs of a training, as far as they were measured."""
    from constrained_ner.training.reporting import energy_of

    log = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    minutes = max((json.loads(line).get("minutes", 0.0) for line in log), default=0.0)
    seconds = round(60 * minutes, 1)
    return TrainingCosts(**{"seconds": seconds or None, **energy_of(folder)})
