"""How good is a model in each format on dev, and which format is its best?

    python -m benchmarks.dev_scores --model runs/new --corpora corpora -o runs/dev.jsonl --save
    python -m benchmarks.dev_scores --model runs/old --model runs/new --corpora corpora -o dev.jsonl

Strict F1 of faithful answers to a sample of the dev split of each of a model's data sets, which lie
in `corpora/<data set>/dev.jsonl`, as `cner corpora prepare` writes them. The output holds a line
for each model, data set and format, with counts and no texts; what is there is not measured again.
Models are compared on the data sets that both were trained on. With --save `cner.json` of each
model is told of its F1 over all of its data sets, and so is its card: from then on the best format
is the model's default.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

from constrained_ner.adapters import DEFAULT_MODEL, folder_of
from constrained_ner.benchmark.grid import PACKAGES, CorpusSample, load_sample
from constrained_ner.engines.models import LanguageModel, device_name, load_model
from constrained_ner.errors import ModelError
from constrained_ner.evaluation import Counts, paired_test
from constrained_ner.formats import FORMATS, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.manifest import Dataset, DevScore, Manifest, load_manifest
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.task import task_for
from constrained_ner.training.saving import card
from constrained_ner.training.scoring import FILE, by_document, dev_score, load_results, load_rows

from . import compare
from .compare import weights_of

LEVEL = Level.FAITHFUL
# Data set, format -> the counts of each document.
Scores = dict[tuple[str, str], list[Counts]]


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", action="append", help="may be given several times")
    parser.add_argument("--corpora", type=Path, default=Path("corpora"))
    parser.add_argument("--documents", type=int, default=100, help="of each dev split")
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    parser.add_argument(
        "--formats",
        help="separated by commas, or all; by default those that a model was trained to write",
    )
    parser.add_argument("--batch-size", type=int, default=40)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--save", action="store_true", help="in cner.json and the card")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args(given)

    models = list(dict.fromkeys(arguments.model or [DEFAULT_MODEL]))
    # What is wrong with the arguments is to be said before anything takes time.
    known = {model: said_by(model) for model in models}
    names = arguments.formats.split(",") if arguments.formats else []
    formats = list(FORMATS) if names == ["all"] else [get_format(name).name for name in names]
    samples: dict[str, CorpusSample] = {}
    for dataset in (dataset for said in known.values() for dataset in said.datasets):
        name = dataset.name
        if name not in samples:
            path = arguments.corpora / name / "dev.jsonl"
            samples[name], broken = load_sample(path, name, arguments.documents, arguments.seed)
            for error in broken:
                print(f"left out: {error}", file=sys.stderr)
    scores = {
        model: measure(model, said, formats or said.formats, samples, arguments)
        for model, said in known.items()
    }
    for model in models:
        print(f"\n{model}\n\n{table(scores[model], arguments.seed)}")
    for model in models[1:]:
        print(f"\n{model} against {models[0]}\n\n{compared(scores[models[0]], scores[model])}")
    if arguments.save:
        for model in models:
            save(model, pooled(scores[model], arguments.seed))


def said_by(model: str) -> Manifest:
    trained = load_manifest(model)
    if trained is None:
        raise ModelError(f"{model}: expected a model made by `cner train`, which knows its data")
    return trained


# ---- measuring ----------------------------------------------------------------------------------


def measure(
    model: str,
    trained: Manifest,
    formats: Sequence[str],
    samples: Mapping[str, CorpusSample],
    arguments: argparse.Namespace,
) -> Scores:
    """The counts of a model, those that the output has and those that it lacks."""
    weights = weights_of(model)
    known = {json.dumps(row["cell"]): row["counts"] for row in load_rows(arguments.output)}
    loaded: LanguageModel | None = None
    scores: Scores = {}
    for dataset in trained.datasets:
        sample = samples[dataset.name]
        for format in formats:
            cell = {
                "model": model,
                "weights": weights,
                "data": dataset.name,
                "sample": fingerprint(sample),
                "labels": list(dataset.labels),
                "format": format,
                "index": task_for(trained, dataset.labels, format).index,
                "level": str(LEVEL),
                "seed": arguments.seed,
                "dtype": arguments.dtype,
            }
            key = json.dumps(cell)
            if key not in known:
                loaded = loaded or load_model(model, dtype=arguments.dtype)
                started = perf_counter()
                counts = answered(loaded, trained, dataset, sample, format, arguments.batch_size)
                row: dict[str, Any] = {
                    "cell": cell,
                    "f1": sum(counts, Counts()).scores.f1,
                    "documents": len(counts),
                    "seconds": round(perf_counter() - started, 1),
                    "device": device_name(loaded),
                    "versions": {name: version(name) for name in PACKAGES},
                    "counts": [astuple(each) for each in counts],
                }
                with arguments.output.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                known[key] = row["counts"]
                shown = f"{model}, {dataset.name}, {format}: F1 {number(row['f1'])}"
                print(f"{shown}, {row['seconds']} s", file=sys.stderr)
            scores[dataset.name, format] = [Counts(*each) for each in known[key]]
    return scores


def answered(
    model: LanguageModel,
    trained: Manifest,
    dataset: Dataset,
    sample: CorpusSample,
    format: str,
    batch_size: int,
) -> list[Counts]:
    """Asked as `cner predict` asks for a data set, its guidelines included."""
    asked = task_for(trained, dataset.labels, format)
    predictor = Predictor(
        model,
        asked.format,
        [dataset],
        LEVEL,
        batch_size,
        index=asked.index,
    )
    predictions = predictor.predict(sample.documents)
    counts: list[Counts] = by_document(sample.documents, predictions, dataset.labels)
    return counts


def fingerprint(sample: CorpusSample) -> str:
    """Of documents and their entities."""
    digest = hashlib.sha256()
    for document in sample.documents:
        digest.update(repr((document.id, document.text, document.entities)).encode())
    return digest.hexdigest()[:16]


# ---- what comes of it ---------------------------------------------------------------------------


def formats_of(scores: Scores) -> list[str]:
    return list(dict.fromkeys(format for _, format in scores))


def over(scores: Scores, format: str, datasets: Iterable[str]) -> list[Counts]:
    """The counts of a format, over the documents of data sets."""
    return [counts for dataset in datasets for counts in scores[dataset, format]]


def pooled(scores: Scores, seed: int) -> dict[str, DevScore]:
    """By format what `Manifest.dev` holds, the best first."""
    datasets = list(dict.fromkeys(dataset for dataset, _ in scores))
    entries = {
        format: dev_score(over(scores, format, datasets), LEVEL, seed)
        for format in formats_of(scores)
    }
    return dict(sorted(entries.items(), key=lambda item: -item[1].f1))


def table(scores: Scores, seed: int) -> str:
    """Of one model: F1 over all of its data sets, and of each."""
    datasets = list(dict.fromkeys(dataset for dataset, _ in scores))
    rows = []
    for format, entry in pooled(scores, seed).items():
        low, high = entry.interval or (None, None)
        each = [sum(scores[dataset, format], Counts()).scores.f1 for dataset in datasets]
        interval = f"{number(low)} to {number(high)}"
        rows.append([format, number(entry.f1), interval, *map(number, each)])
    return lined(["format", "F1", "95 %", *datasets], rows)


def compared(first: Scores, second: Scores) -> str:
    """Two models on the documents of the data sets, and in the formats, that both have."""
    rows = []
    for format in formats_of(second):
        both = [data for data, name in second if name == format and (data, format) in first]
        before, after = over(first, format, both), over(second, format, both)
        tested = paired_test(before, after)
        if tested is None:  # nothing in common, or no entity in it
            continue
        f1 = [number(sum(counts, Counts()).scores.f1) for counts in (before, after)]
        low, high = tested[2].interval
        difference = f"{tested[2].difference:+.3f}", f"{low:+.3f} to {high:+.3f}"
        rows.append([format, *f1, *difference, str(len(after))])
    return lined(["format", "F1, first", "F1, second", "difference", "95 %", "documents"], rows)


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def lined(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---", *("---:" for _ in heads[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def save(model: str, dev: dict[str, DevScore]) -> None:
    """Tell a model of its scores; its card, too, unless somebody has written into that."""
    folder = Path(folder_of(model))
    readme = folder / "README.md"
    ours = readme.exists() and readme.read_text(encoding="utf-8") == card_of(model)
    replace(said_by(model), dev=dev).save(folder)
    print(f"\n{model}: written to cner.json; best: {next(iter(dev))}", file=sys.stderr)
    if ours:
        readme.write_text(card_of(model), encoding="utf-8")
    else:
        print(f"{readme}: left as it is, since it is not the card that we write", file=sys.stderr)


def card_of(model: str) -> str:
    if model == DEFAULT_MODEL:
        return compare.card_of(compare.load(compare.RESULTS))
    text: str = card(said_by(model), load_results(Path(folder_of(model)) / FILE))
    return text


if __name__ == "__main__":
    main()
