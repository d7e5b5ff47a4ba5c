"""One run from beginning to end: draw, train, test, save."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from constrained_ner.adapters import folder_of
from constrained_ner.corpora.fingerprints import Fingerprint, fingerprint, load_fingerprints
from constrained_ner.engines.models import device_name, load_model
from constrained_ner.locks import held
from constrained_ner.pipeline.manifest import load_manifest

from .bar import Bar
from .cache import FILE as EXAMPLES
from .data import Drawn, draw_examples
from .loop import keep_examples, train, with_lora
from .processes import is_main, wait
from .recipe import Recipe
from .reporting import check_report, energy_of
from .saving import as_kept, describe, save
from .scoring import Progress, Results, test


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    recipe: Recipe
    folder: Path
    drawn: Drawn
    metrics: dict[str, Any]
    results: Results
    main: bool = True

    def lines(self) -> list[str]:
        """For the terminal; none but from the main process."""
        if not self.main:
            return []
        dealt = Counter(example.question.format for example in self.drawn.train)
        dropped = sum(example.dropped for example in self.drawn.train)
        lines = [
            f"{len(self.drawn.train)} examples: "
            + ", ".join(f"{n} {name}" for name, n in sorted(dealt.items())),
            f"gold entities that their format cannot write: {dropped}",
        ]
        if "eval_f1" in self.metrics:
            lines.append(f"best dev F1 {100 * self.metrics['eval_f1']:.2f}")
        for (dataset, name, level), counts in self.results.items():
            precision, recall, f1 = (100 * (x or 0.0) for x in counts.scores)
            lines.append(
                f"test {dataset} {name} {level}: P {precision:.2f} R {recall:.2f} F1 {f1:.2f}"
            )
        return [*lines, f"written to {self.folder}"]


def prepare(recipe: Recipe, folder: Path, progress: Progress) -> Outcome:
    """Build the examples of a run, and no more: it goes on from them, here or elsewhere.

    Raises
    ------
    InputError, TrainingError: see `draw_examples`; the folder holds another run, or another process
        is writing it.
    """
    check_report(recipe.report)
    with held(folder):
        model = with_lora(recipe, load_model(recipe.model, device="cpu", dtype="float32"))
        drawn = draw_examples(
            recipe, model, lambda items: progress(items, "examples"), folder / EXAMPLES
        )
        keep_examples(recipe, drawn, folder)
    return Outcome(recipe, folder, drawn, {}, {})


def run(recipe: Recipe, folder: Path, progress: Progress) -> Outcome:
    """Run a recipe, or go on with a run of it, and write the model to `folder`.

    Raises
    ------
    InputError, TrainingError: see `train` and `save`; or another process is writing the folder.

    Of several processes the main one tests, writes and reports, once all have done training; the
    others have an outcome that says nothing.
    """
    with held(folder) if is_main() else nullcontext():
        return _run(recipe, folder, progress)


def _run(recipe: Recipe, folder: Path, progress: Progress) -> Outcome:
    model, drawn, log = train(
        recipe,
        folder,
        callbacks=[Bar()],
        progress=lambda items: progress(items, "examples") if is_main() else iter(items),
    )
    # what follows takes longer than processes wait for one another: they part here
    wait()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if not is_main():
        return Outcome(recipe, folder, replace(drawn, broken=()), {}, {}, main=False)
    scores = [entry for entry in log if "eval_f1" in entry]
    metrics = max(scores, key=lambda entry: entry["eval_f1"]) if scores else {}
    as_kept(model, recipe)
    results = test(recipe, drawn, model, folder, progress)
    trained = describe(recipe, drawn, metrics, energy_of(folder), device_name(model))
    # The same command again comes to the same weights: what was measured of them holds.
    if before := load_manifest(folder):
        trained = replace(trained, dev=before.dev, calibrations=before.calibrations)
    save(model, trained, results, folder, _learnt(recipe, drawn))
    return Outcome(recipe, folder, drawn, metrics, results)


def _learnt(recipe: Recipe, drawn: Drawn) -> set[Fingerprint] | None:
    """Fingerprints of training documents, those of what it began with included; None if unknown.

    That is an adapter, or a model that was trained here; of any other nothing is asked.
    """
    found = {fingerprint(example.question.document) for example in drawn.train}
    begun: list[str | Path] = [folder_of(recipe.model)] if load_manifest(recipe.model) else []
    if recipe.lora is not None and recipe.lora.start is not None:
        begun.append(recipe.lora.start)
    for folder in begun:
        before = load_fingerprints(folder)
        if before is None:
            return None
        found |= before
    return found
