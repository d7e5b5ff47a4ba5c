"""Which recipe is the best? Short runs that differ in one thing each, compared on dev.

    python -m benchmarks.recipe_search --corpora corpora -o runs/search

Each variant trains an adapter on the default base model, with the same number of examples, drawn by
the same seed, in one process for each core of a CPU. What decides is the loss of the gold answers
of dev sentences, the same for all variants: the mean, over answers, of minus the log of the
probability that the model gives to the whole answer, without a mask, or with --masked under the one
that it is decoded under. It is far less noisy than F1 on as many sentences, and no answer has to be
generated. The difference from the first variant is given with an interval of 95 % by a bootstrap
over the answers, and by format. Each variant's folder is a model, whose F1 `cner calibrate`
measures. With --cut what a variant of all weights has learnt is cut down to a rank first, to what
an adapter of that rank could hold.

A search that was stopped goes on. Results are rows of JSON in OUT/search.jsonl; the table is
printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from constrained_ner import markdown
from constrained_ner.engines.models import (
    LoadedModel,
    default_device,
    default_dtype,
    device_name,
    load_model,
)
from constrained_ner.formats import FORMATS
from constrained_ner.training.building import build
from constrained_ner.training.checkpoints import check_same
from constrained_ner.training.data import load_corpus
from constrained_ner.training.examples import Example, allowed
from constrained_ner.training.objectives import OBJECTIVES
from constrained_ner.training.recipe import Recipe, build_recipe
from constrained_ner.training.run import run
from constrained_ner.training.sampling import Sampling, draw
from constrained_ner.training.scoring import load_rows

from .machine import versions, weights_of
from .train_speed import CORPORA

FILE = "search.jsonl"
DRAWS = 2000  # of the bootstrap
CPU = not torch.cuda.is_available()

BASE: dict[str, Any] = {
    "lora.rank": 16,
    "lora.alpha": 32,
    "examples.shuffle_labels": False,
    "examples.index": 1.0,
    "examples.empty_share": 0.7,
    "training.epochs": 1.0,
    "training.learning_rate": 1e-3,
    "training.scheduler": "cosine",
    "training.warmup": 0.03,
    "training.batch_size": 8,
    "training.accumulation": 1,
    "training.evaluations": 1.0,
}
EASY = ["conv_term", "multi_term", "single_term", "multi_triple"]
# What each variant changes; None takes a table away. The first one is what all are compared with.
# `share`: of the examples, where they are in some of the formats. `lora.start`: another variant.
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "rate-3e-4": {"training.learning_rate": 3e-4},
    "rate-2e-3": {"training.learning_rate": 2e-3},
    "rank-4": {"lora.rank": 4, "lora.alpha": 8},
    "rank-64": {"lora.rank": 64, "lora.alpha": 128},
    "step-32": {"training.accumulation": 2},
    "all-weights-1e-4": {"lora": None, "training.learning_rate": 1e-4},
    "empty-all": {"examples.empty_share": 1.0},
    "empty-0.35": {"examples.empty_share": 0.35},
    "present-labels": {"examples.negative_labels": False},
    "seven-formats": {"examples.formats": ["7best"]},
    "easy-formats": {"examples.formats": EASY, "share": len(EASY) / len(FORMATS)},
    "easy-first": {
        "examples.formats": [name for name in FORMATS if name not in EASY],
        "share": 1 - len(EASY) / len(FORMATS),
        "lora.start": "easy-formats",
    },
    "masked": {"training.objective": "masked"},
    "seed-1": {"seed": 1},
}


def recipe_of(changes: Mapping[str, Any], corpora: Path, examples: int, output: Path) -> Recipe:
    """The recipe of a variant, its examples divided among the corpora.

    Parameters
    ----------
    output: where the variants are.
    """
    values: dict[str, Any] = {
        "data": [{"name": name, "train": str(corpora / name / "train.jsonl")} for name in CORPORA]
    }
    given = {**BASE, **changes}
    given["examples.train"] = round(examples * given.pop("share", 1) / len(CORPORA))
    if "lora.start" in given:
        given["lora.start"] = str(output / given["lora.start"])
    without = {key for key, value in given.items() if value is None}
    for key, value in given.items():
        table, _, name = key.rpartition(".")
        if without & {key, table}:
            continue
        (values.setdefault(table, {}) if table else values)[name] = value
    return build_recipe(values)


def recipe_for(variant: str, arguments: argparse.Namespace) -> Recipe:
    return recipe_of(VARIANTS[variant], arguments.corpora, arguments.examples, arguments.output)


# ---- training and measuring -------------------------------------------------------------------


def trained(variant: str, arguments: argparse.Namespace) -> Path:
    """The folder of a variant's model, trained in processes of its own."""
    folder: Path = arguments.output / variant
    recipe = recipe_for(variant, arguments)
    if recipe.lora is not None and recipe.lora.start is not None:
        trained(recipe.lora.start.name, arguments)
    if folder.exists():
        check_same(recipe, folder)
    if (folder / "cner.json").exists():
        return folder
    cores = os.cpu_count() or 1 if CPU else 1
    many = ["-m", "torch.distributed.run", "--nproc-per-node", str(cores)] if cores > 1 else []
    command = [sys.executable, *many, "-m", "benchmarks.recipe_search", "--train", variant]
    command += ["--corpora", str(arguments.corpora), "--examples", str(arguments.examples)]
    command += ["-o", str(arguments.output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} if cores > 1 else None
    subprocess.run(command, check=True, env=environment)
    return folder


def gold_of(recipe: Recipe, model: LoadedModel, documents: int) -> list[Example]:
    """Examples of the dev splits: so many documents of each, the same for all, in every format."""
    questions = []
    for data in recipe.data:
        train = load_corpus(data, data.train)
        dev = load_corpus(data, data.train.with_name("dev.jsonl"), train.corpus)
        for format in FORMATS:
            sampling = Sampling((format,), dev=documents, index=1.0)
            questions += draw(dev.corpus, "dev", 0, sampling)
    return [example for examples in build(questions, model) for example in examples]


def losses(model: LoadedModel, examples: Sequence[Example], *, masked: bool = False) -> list[float]:
    """Minus the log-probability of each example's answers, in nats.

    Parameters
    ----------
    masked: under the faithful masks, as they are decoded.
    """
    objective = OBJECTIVES["masked" if masked else "tokens"]
    bare: Any = model.steerable.model
    found = []
    with torch.inference_mode():
        for example in examples:
            ids = torch.tensor([example.tokens], device=bare.device)
            places = [at for at, on in enumerate(example.mask) if on]
            logits = bare(input_ids=ids).logits[0, [at - 1 for at in places]]
            masks = None
            if masked:
                words = allowed(example, model.vocabulary).view(np.int32)
                masks = torch.from_numpy(words).to(bare.device)
            weights = torch.ones(len(places), device=bare.device)
            found.append(float(objective.of(logits, ids[0, places], weights, 1, masks)))
    return found


def cut(learnt: Any, before: Any, rank: int) -> None:
    """Leave of what a model has learnt what a LoRA adapter of a rank on all linear layers can hold.

    Of each linear layer's difference from the base model that is the nearest matrix of the rank
    (Eckart and Young 1936); all other weights become those of the base model again.

    Parameters
    ----------
    learnt, before: the model and its base, both as transformers has them.
    """
    linear = {
        f"{name}.weight"
        for name, layer in before.named_modules()
        # The output layer has the weights of the embeddings, and no adapter by default.
        if isinstance(layer, torch.nn.Linear) and layer is not before.get_output_embeddings()
    }
    with torch.no_grad():
        for (name, weight), old in zip(learnt.named_parameters(), before.parameters(), strict=True):
            new = old.float()
            if name in linear:
                u, values, v = torch.linalg.svd(weight.float() - new, full_matrices=False)
                new = new + (u[:, :rank] * values[:rank]) @ v[:rank]
            weight.copy_(new)


def measure(variant: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train a variant, and what its losses are on dev."""
    folder = trained(variant, arguments)
    recipe = recipe_for(variant, arguments)
    rank = cell_of(variant, arguments).get("cut")
    model = load_model(str(folder), dtype="float32" if rank else arguments.dtype)
    if rank:
        # Differences are taken in float32: bfloat16 keeps 8 bits of a weight.
        bare: Any = model.steerable.model
        cut(bare, load_model(recipe.model, dtype="float32").steerable.model, rank)
        dtype = arguments.dtype if arguments.dtype != "auto" else default_dtype(default_device())
        bare.to(getattr(torch, dtype))
    gold = gold_of(recipe, model, arguments.documents)
    learnt = set(recipe.formats)
    if start := VARIANTS[variant].get("lora.start"):
        learnt.update(recipe_for(start, arguments).formats)
    found: dict[str, list[float]] = {}
    measured = losses(model, gold, masked=arguments.masked)
    for example, loss in zip(gold, measured, strict=True):
        if example.question.format in learnt:
            found.setdefault(example.question.format, []).append(round(loss, 4))
    return {
        "cell": cell_of(variant, arguments),
        "weights": weights_of(str(folder)),
        "losses": found,
        "device": device_name(model),
        "versions": versions(("torch", "transformers", "peft")),
    }


def cell_of(variant: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """What decides a row."""
    changes = {**BASE, **VARIANTS[variant]}
    names = ("examples", "documents", "dtype")
    sizes = {name: getattr(arguments, name) for name in names}
    masked = {"masked": True} if arguments.masked else {}
    kept = {"cut": arguments.cut} if arguments.cut and "lora" in VARIANTS[variant] else {}
    return {"variant": variant, **sizes, **masked, **kept, "recipe": changes}


# ---- what comes of it -------------------------------------------------------------------------


def difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """The mean of the second minus that of the first, and its interval of 95 % by pairs.

    Parameters
    ----------
    first, second: a loss for each document.
    """
    pairs = np.array(second) - np.array(first)
    rng = np.random.default_rng(0)
    means = pairs[rng.integers(len(pairs), size=(DRAWS, len(pairs)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(pairs.mean()), float(low), float(high)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each variant: its loss, the difference from the first, and that by format.

    A line of a variant with other formats counts those that it was trained to write, and so does
    what it is compared with.
    """
    names = list(FORMATS)
    lines = []
    first = rows[0]["losses"]
    for row in rows:
        formats = [name for name in names if name in row["losses"]]
        # Each format is about the same documents, which are what is drawn.
        before, after = (
            np.mean([losses[name] for name in formats], axis=0) for losses in (first, row["losses"])
        )
        change, low, high = difference(before, after)
        rank = row["cell"].get("cut")
        lines.append(
            [
                row["cell"]["variant"] + (f", cut to {rank}" if rank else ""),
                f"{after.mean():.3f}",
                f"{change:+.3f}",
                f"{low:+.3f} to {high:+.3f}",
                *(
                    f"{np.mean(row['losses'][name]) - np.mean(first[name]):+.2f}"
                    if name in formats
                    else "-"
                    for name in names
                ),
            ]
        )
    return markdown.table(["variant", "loss", "difference", "95 %", *names], lines)


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpora", type=Path, default=Path("corpora"))
    parser.add_argument("--variants", default=",".join(VARIANTS), help="separated by commas")
    parser.add_argument("--examples", type=int, default=2000, help="of a variant")
    parser.add_argument("--documents", type=int, default=20, help="of each dev split")
    parser.add_argument("--dtype", default="auto", help="in which is measured")
    parser.add_argument("--masked", action="store_true", help="measure under the faithful masks")
    parser.add_argument("--cut", type=int, metavar="RANK", help="of variants of all weights")
    parser.add_argument("--train", choices=VARIANTS, help="for this script's own use")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args(given)
    arguments.corpora = arguments.corpora.resolve()
    arguments.output = arguments.output.resolve()
    if arguments.train:
        recipe = recipe_for(arguments.train, arguments)
        run(recipe, arguments.output / arguments.train, lambda items, _: iter(items))
        return
    names = arguments.variants.split(",")
    if unknown := [name for name in names if name not in VARIANTS]:
        parser.error(f"no variant {unknown[0]!r}: expected some of {', '.join(VARIANTS)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / FILE
    known = {json.dumps(row["cell"]): row for row in load_rows(path)}
    rows = []
    for name in names:
        key = json.dumps(cell_of(name, arguments))
        if key not in known:
            known[key] = measure(name, arguments)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(known[key]) + "\n")
            print(f"{name}: measured", file=sys.stderr)
        rows.append(known[key])
    print(table(rows))


if __name__ == "__main__":
    main()
