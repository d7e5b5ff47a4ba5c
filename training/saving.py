"""What a finished run leaves: the model, `cner.json`, and a model card."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from constrained_ner import markdown
from constrained_ner.atomic import ordinary_permissions
from constrained_ner.corpora.catalogue import CORPORA
from constrained_ner.corpora.fingerprints import Fingerprint, save_fingerprints
from constrained_ner.engines.models import LoadedModel
from constrained_ner.errors import TrainingError
from constrained_ner.evaluation.resampling import Interval
from constrained_ner.pipeline.conflicts import labels_together
from constrained_ner.pipeline.manifest import FILE, Dataset, Manifest
from constrained_ner.pipeline.task import default_format

from .cache import wording
from .checkpoints import ADAPTER, writing
from .data import Drawn
from .recipe import Recipe
from .scoring import Results

LOGGER = logging.getLogger(__name__)

CARD = "README.md"
RESULTS = "model-index:"  # the line of a card above its results
_SIGNED = "\n<!-- written by cner, "
PACKAGES = ("constrained_ner", "torch", "transformers", "peft", "outlines", "llguidance")


def describe(
    recipe: Recipe,
    drawn: Drawn,
    metrics: dict[str, Any],
    energy: dict[str, float],
    device: str = "",
) -> Manifest:
    """What the model has to say of itself."""
    datasets = []
    for corpus, checksum in zip(drawn.corpora, drawn.checksums, strict=True):
        examples = sum(example.question.target.name == corpus.name for example in drawn.train)
        datasets.append(
            Dataset(
                corpus.labels,
                corpus.name,
                corpus.guideline,
                corpus.guidelines,
                checksum,
                len(corpus.documents),
                examples,
                labels_together(corpus.documents),
            )
        )
    return Manifest(
        base=recipe.model,
        formats=recipe.formats,
        datasets=tuple(datasets),
        options=asdict(drawn.options),
        index=recipe.examples.index,
        prompt=wording(recipe.formats),
        seed=recipe.seed,
        recipe=recipe.to_json(),
        versions={name: version(name) for name in PACKAGES},
        metrics=metrics,
        energy=energy,
        device=device,
        default_labels=recipe.default_labels,
        synonyms=recipe.synonyms,
    )


def save(
    model: LoadedModel,
    trained: Manifest,
    results: Results,
    folder: Path,
    learnt: Iterable[Fingerprint] | None = None,
) -> None:
    """Write the weights or the adapter, the tokenizer, `cner.json`, fingerprints and the card.

    Parameters
    ----------
    learnt: fingerprints of all documents that the model was trained on; None where some of them
        are not known.

    The files are written into a folder of their own first, so that a run that is stopped here
    leaves no half model; `cner.json` comes last.

    Raises
    ------
    TrainingError: the disk is full.
    """
    part = folder / ".model"
    with writing(folder):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _write(model, trained, results, part)
        if learnt is not None:
            save_fingerprints(learnt, part)
        if has_edited_card(folder):
            LOGGER.warning("%s: left as it is, since somebody has edited it", folder / CARD)
            (part / CARD).unlink()
        ordinary_permissions(part)
        for file in sorted(part.iterdir(), key=lambda file: file.name == FILE):
            there = folder / file.name
            if there.is_dir():
                shutil.rmtree(there)
            os.replace(file, there)
        part.rmdir()


def has_edited_card(folder: Path) -> bool:
    """Whether somebody has changed a model's card since it was written."""
    path = folder / CARD
    if not path.exists():
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    return text != _signed(text.rpartition(_SIGNED)[0])


def as_kept(model: LoadedModel, recipe: Recipe) -> None:
    """Cut an adapter down, and round its weights, to what is kept of it.

    Raises
    ------
    TrainingError: some of its layers cannot be cut.
    """
    if recipe.lora is not None:
        bare: Any = model.steerable.model
        if recipe.lora.keep_rank:
            _cut(bare, recipe.lora.keep_rank)
        for weight in bare.parameters():
            if weight.requires_grad:
                weight.data = weight.data.to(getattr(torch, recipe.lora.dtype)).to(weight.dtype)


def _cut(adapted: Any, rank: int) -> None:
    """Put in place of each product B A the nearest one of a rank (Eckart and Young 1936)."""
    from peft.tuners.lora import LoraLayer

    config = adapted.peft_config["default"]
    alpha = config.lora_alpha * rank / config.r  # the scale stays what it was
    for layer in adapted.modules():
        if not isinstance(layer, LoraLayer):
            continue
        if "default" not in layer.lora_A:
            raise TrainingError("lora.keep_rank is for linear layers: expected others in no target")
        down, up = layer.lora_A["default"], layer.lora_B["default"]
        # Of B [out, r] and A [r, in] by way of two small matrices.
        left, of_up = torch.linalg.qr(up.weight.double())
        right, of_down = torch.linalg.qr(down.weight.double().T)
        u, values, v = torch.linalg.svd(of_up @ of_down.T)
        roots = values[:rank].sqrt()
        for part, weight in (
            (down, roots[:, None] * (v[:rank] @ right.T)),
            (up, (left @ u[:, :rank]) * roots),
        ):
            part.weight = torch.nn.Parameter(weight.to(part.weight.dtype).contiguous())
            part.out_features, part.in_features = weight.shape
        layer.r["default"], layer.lora_alpha["default"] = rank, alpha
    config.r, config.lora_alpha = rank, alpha


def _write(model: LoadedModel, trained: Manifest, results: Results, part: Path) -> None:
    bare = model.steerable.model
    bare.save_pretrained(part)
    if trained.recipe["lora"]:
        # the name that finds the base again, not the folder where it was found here
        config: Any = bare.peft_config["default"]
        folder_of_base = Path(trained.base)
        config.base_model_name_or_path = (
            str(folder_of_base.resolve()) if folder_of_base.is_dir() else trained.base
        )
        if isinstance(config.target_modules, set):
            # peft writes a set in an order of its own, another one in each process.
            config.target_modules = sorted(config.target_modules)
        config.save_pretrained(part)
    kept = (trained.recipe["lora"] or {}).get("dtype", "float32")
    if kept != "float32":
        path = part / ADAPTER
        weights = {name: w.to(getattr(torch, kept)) for name, w in load_file(path).items()}
        save_file(weights, path, {"format": "pt"})
    model.tokenizer.save_pretrained(part)
    trained.save(part)
    (part / CARD).write_text(card(trained, results), encoding="utf-8")


# ---- the card -----------------------------------------------------------------------------------


def card(
    trained: Manifest,
    results: Results,
    measured_on: str = "",
    intervals: Mapping[tuple[str, str, str], Interval] | None = None,
) -> str:
    """A model card, with the results as the hub's `model-index` has them.

    Parameters
    ----------
    measured_on: of how many documents the results are.
    intervals: of their F1, 95 %, where they are known.
    """
    start = (trained.recipe.get("lora") or {}).get("start")
    front = [
        "---",
        "library_name: peft" if trained.recipe.get("lora") else "library_name: transformers",
        f"base_model: {json.dumps(trained.base)}",
        "pipeline_tag: text-generation",
        "tags: [biomedical, named-entity-recognition, constrained_ner]",
        *_model_index(results),
        "---",
    ]
    body = [
        f"# {trained.base}, fine-tuned for biomedical named entity recognition",
        "Made with `cner train`; use it with `cner predict --model DIR`.",
        _data(trained),
        f"Formats: {', '.join(trained.formats)}. Seed {trained.seed}. "
        f"{_length(trained)}{trained.device and f' on: {trained.device}'}.",
        _dev(trained),
        start
        and f"Training began with the adapter of the run `{start}`; its examples come to these.",
        _table(results, intervals or {}),
        measured_on if results else "",
        _energy(trained),
        "Versions: " + ", ".join(f"{name} {v}" for name, v in trained.versions.items()) + ".",
        "The recipe and the prompts are in `cner.json`.",
    ]
    return _signed("\n".join(front) + "\n\n" + "\n\n".join(part for part in body if part) + "\n")


def _signed(text: str) -> str:
    """With its checksum at the end, which shows whether it was changed afterwards."""
    return f"{text}{_SIGNED}{sha256(text.encode()).hexdigest()[:16]} -->\n"


def _data(trained: Manifest) -> str:
    names = ["data set", "labels", "documents", "examples drawn", "training file", "licence"]
    rows = []
    for data in trained.datasets:
        counts = [str(data.documents), str(data.examples)]
        licence = CORPORA[data.name].licence if data.name in CORPORA else ""
        labels = ", ".join(data.labels)
        rows.append([data.name, labels, *counts, f"sha256 {data.fingerprint[:16]}", licence])
    return markdown.table(names, rows, keys=len(names))


def _length(trained: Manifest) -> str:
    """How long training was to be."""
    training = trained.recipe.get("training", {})
    epochs, minutes = training.get("epochs", "?"), training.get("minutes")
    return f"{minutes:g} minutes, at most {epochs} epochs" if minutes else f"{epochs} epochs"


def _model_index(results: Results) -> list[str]:
    if not results:
        return []
    lines = [RESULTS, "- name: constrained_ner", "  results:"]
    for (dataset, format, level), counts in results.items():
        lines += [
            "  - task: {type: token-classification, name: named entity recognition}",
            f"    dataset: {{name: {json.dumps(dataset)}, type: {json.dumps(dataset)}}}",
            "    metrics:",
            f"    - {{type: f1, name: 'strict span F1, {format}, {level}', "
            f"value: {counts.scores.f1 or 0.0:.4f}}}",
        ]
    return lines


def _dev(trained: Manifest) -> str:
    """The default format, and how good each is on dev where that is known."""
    default = f"Default format: {default_format(trained)}"
    if not trained.dev:
        return f"{default}."
    if trained.best:
        default += ", the best on dev"
    rows = []
    for name, score in sorted(trained.dev.items(), key=lambda item: -item[1].f1):
        bounds = score.interval
        interval = f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}" if bounds else ""
        counts = [str(score.documents), str(score.entities)]
        rows.append([name, f"{100 * score.f1:.1f}", interval, str(score.level), *counts])
    heads = ["format", "F1", "95 %", "level", "documents", "gold"]
    doubtful = ", ".join(trained.doubtful)
    return (
        f"{default}. Strict spans on samples of the dev splits, pooled over the "
        f"data sets, in per cent:\n\n{markdown.table(heads, rows)}\n\n"
        + (f"Not to be trusted, for F1 is 0 or far below the best: {doubtful}." if doubtful else "")
    ).strip()


def _energy(trained: Manifest) -> str:
    if not trained.energy:
        return ""
    hours, kwh, co2 = (trained.energy[key] for key in ("seconds", "kwh", "co2_kg"))
    return (
        f"Training took {hours / 3600:.2f} h, {kwh:.3f} kWh and {co2:.3f} kg of CO2 equivalents "
        f"({trained.recipe['report']['country']}), as codecarbon measures or estimates them."
    )


def _table(results: Results, intervals: Mapping[tuple[str, str, str], Interval]) -> str:
    if not results:
        return ""
    rows = []
    for key, counts in results.items():
        scores = [f"{100 * (x or 0.0):.1f}" for x in counts.scores]
        known = intervals.get(key)
        within = ["{:.1f} to {:.1f}".format(*(100 * end for end in known)) if known else ""]
        rows.append([*key, *scores, *(within if intervals else []), str(counts.gold)])
    names = ["data set", "format", "level", "P", "R", "F1", "gold"]
    if intervals:
        names.insert(-1, "95 %")
    measured = markdown.table(names, rows, keys=3)
    return f"Strict spans on samples of the test splits, in per cent:\n\n{measured}"
