"""What a model knows of itself after `cner calibrate`: how good it is in each format on dev, which
formats are best together, and what its confidences are worth.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from constrained_ner.adapters import folder_of
from constrained_ner.benchmark.grid import Cell, CorpusSample, Grid, predictions_of
from constrained_ner.benchmark.together import Asked, Confidences, documents_of, variant_of
from constrained_ner.errors import InputError, ModelError
from constrained_ner.evaluation import Counts
from constrained_ner.evaluation.reliability import calibrate
from constrained_ner.formats import get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.formats.options import Options
from constrained_ner.pipeline.agreement import Agreement
from constrained_ner.pipeline.calibration import Calibration
from constrained_ner.pipeline.manifest import FILE as MANIFEST
from constrained_ner.pipeline.manifest import DevScore, Manifest, load_manifest
from constrained_ner.pipeline.prediction import warn_of_failures
from constrained_ner.training.saving import CARD, RESULTS, card, has_edited_card
from constrained_ner.training.scoring import FILE, dev_score, load_results


def said_by(model: str) -> Manifest:
    """What a model says of itself.

    Raises
    ------
    ModelError: the model was not made by `cner train`, and does not know its data.
    """
    trained = load_manifest(model)
    if trained is None:
        raise ModelError(f"{model}: expected a model made by `cner train`, which knows its data")
    return trained


def grid_of(
    model: str,
    trained: Manifest,
    samples: Sequence[CorpusSample],
    formats: Sequence[str],
    level: Level,
    **given: Any,
) -> Grid:
    """What to ask: each of the samples, as `cner predict` asks about the data set of its name.

    Parameters
    ----------
    given: of `Grid`: the seed, and where and how to run.

    Raises
    ------
    InputError: the model was not trained on a data set of that name.
    """
    labels = {dataset.name: dataset.labels for dataset in trained.datasets}
    fragments = trained.options.get("max_fragments", 1)
    data = []
    for sample in samples:
        if sample.name not in labels:
            raise InputError(
                f"the model was not trained on {sample.name}: expected {', '.join(labels)}"
            )
        data.append(replace(sample, labels=labels[sample.name], max_fragments=fragments))
    variants = [variant_of(trained, name) for name in formats]
    return Grid((model,), tuple(data), tuple(variants), (level,), **given)


def asked(grid: Grid, folder: Path) -> list[Asked]:
    """The documents of a grid that was answered."""
    found: list[Asked] = []
    (model,), (level,) = grid.models, grid.levels
    for data in grid.data:
        by_format = {
            variant.format: predictions_of(folder, Cell(model, data.name, variant, level))
            for variant in grid.variants
        }
        for name, predictions in by_format.items():
            warn_of_failures(predictions, f"{data.name}, {name}")
        found += documents_of(data, by_format)
    return found


@dataclass(frozen=True)
class Measured:
    """What came out.

    Attributes
    ----------
    trained: the manifest that knows of it. `counts`: by formats, of each document, strictly: of
        what the answers have, and of what is left above the best threshold.
    failed: formats of which nothing could be told, and why.
    given_up: formats, or several together, whose scores on another sample are not kept.
    """

    trained: Manifest
    counts: Mapping[tuple[str, ...], tuple[list[Counts], list[Counts]]]
    failed: tuple[str, ...]
    given_up: tuple[str, ...]


def measure(
    documents: Sequence[Asked],
    trained: Manifest,
    formats: Sequence[str],
    level: Level,
    *,
    most: int = 3,
    together: Sequence[Sequence[str]] = (),
    seed: int = 0,
    told: Callable[[str], None] = lambda _: None,
) -> Measured:
    """Score each format, find those that are best together, and calibrate all of them.

    The formats that are best together are found one after the other: to those that are there, the
    one is added that raises F1 most.

    Parameters
    ----------
    most: of how many formats to find the best ones. `together`: other combinations to measure.
    seed: of the documents' draw. `told`: is told what is being done.
    """
    counts: dict[tuple[str, ...], tuple[list[Counts], list[Counts]]] = {}
    calibrations: list[Calibration] = []
    failed: list[str] = []

    def take(names: tuple[str, ...], scores: Sequence[Confidences]) -> None:
        judged = [one.judged(s) for s, one in zip(scores, documents, strict=True)]
        every = [one.counts(s) for s, one in zip(scores, documents, strict=True)]
        try:
            found = calibrate(judged, names, str(level), seed)
        except InputError as error:
            failed.append(str(error))
            counts[names] = every, every
            return
        least = found.best.least
        kept = [{e: c for e, c in s.items() if found.probability(c) >= least} for s in scores]
        counts[names] = every, [one.counts(s) for s, one in zip(kept, documents, strict=True)]
        calibrations.append(found)

    for name in formats:
        told(name)
        take((name,), [one.found.get(name, {}) for one in documents])
    before = trained
    dev = {name: dev_score(counts[name,][0], level, seed) for name in formats}
    dev = dict(sorted(dev.items(), key=lambda item: -item[1].f1))
    trained = replace(trained, dev=_beside(trained.dev, dev))

    def scores_of(names: Sequence[str]) -> list[Confidences]:
        agreement = Agreement(trained.weights(names))
        several = [get_format(name, Options(**trained.options)) for name in names]
        return [one.together(several, agreement) for one in documents]

    chosen: tuple[str, ...] = tuple(dev)[:1]
    for number in range(2, min(most, len(formats)) + 1):
        told(f"{number} formats together")
        rest = [name for name in formats if name not in chosen]
        several = ((*chosen, name) for name in rest)
        scored = ((names, scores_of(names)) for names in several)
        chosen, scores = max(scored, key=lambda one: _highest(one[1], documents))
        take(chosen, scores)
    for names in map(tuple, together):
        if set(names) not in [set(known) for known in counts]:
            told(", ".join(names))
            take(names, scores_of(names))
    # Of several combinations the best is chosen, so that all of a level have to be of one sample.
    sample = seed, len(documents), sum(len(one.gold) for one in documents)
    same = {(frozenset(c.formats), c.level) for c in calibrations}
    others = [c for c in before.calibrations if (frozenset(c.formats), c.level) not in same]
    kept = [
        c
        for c in others
        if (c.level != str(level) or (c.seed, c.documents, c.entities) == sample)
        # What several have together is worth what it was only with the weights that they had.
        and (len(c.formats) == 1 or before.weights(c.formats) == trained.weights(c.formats))
    ]
    given_up = [name for name in before.dev if name not in trained.dev]
    given_up += [" + ".join(c.formats) for c in others if c not in kept]
    return Measured(
        replace(trained, calibrations=(*kept, *calibrations)),
        counts,
        tuple(failed),
        tuple(dict.fromkeys(given_up)),
    )


def _beside(before: Mapping[str, DevScore], dev: Mapping[str, DevScore]) -> dict[str, DevScore]:
    """Scores by format that were measured alike: on the same sample, at the same level.

    Those at the faithful level, at which a model is asked by default, are not given up for others.
    """

    def measured(score: DevScore) -> tuple[Any, ...]:
        return score.level, score.seed, score.documents, score.entities

    new = {measured(score) for score in dev.values()}
    faithful = {name: s for name, s in before.items() if s.level == Level.FAITHFUL}
    if faithful and all(level != Level.FAITHFUL for level, *_ in new):
        return dict(before)
    return {name: score for name, score in before.items() if measured(score) in new} | dict(dev)


def _highest(scores: Sequence[Confidences], documents: Sequence[Asked]) -> float:
    """The highest F1 over all thresholds."""
    found: dict[float, Counter[bool]] = defaultdict(Counter)
    for each, one in zip(scores, documents, strict=True):
        for entity, score in each.items():
            found[score][entity in one.gold] += 1
    gold = sum(len(one.gold) for one in documents)
    best, number, right = 0.0, 0, 0
    for score in sorted(found, reverse=True):  # all of one score stay, or none
        number += found[score].total()
        right += found[score][True]
        best = max(best, 2 * right / (number + gold))
    return best


def save(model: str, trained: Manifest) -> list[str]:
    """Tell a model of it; its card, too, unless somebody has written into that.

    Returns
    -------
    What was written, and what was not.
    """
    folder = Path(folder_of(model))
    readme = folder / CARD
    ours = not has_edited_card(folder)
    trained.save(folder)
    said = [f"written: {folder / MANIFEST}"]
    if not readme.exists():
        return said
    if not ours:
        said.append(f"left as it is, since it is not the card that `cner train` wrote: {readme}")
    elif RESULTS in readme.read_text(encoding="utf-8") and not (folder / FILE).exists():
        said.append(f"left as it is, since it has results that are not in {FILE}: {readme}")
    else:
        readme.write_text(card(trained, load_results(folder / FILE)), encoding="utf-8")
        said.append(f"written: {readme}")
    return said
