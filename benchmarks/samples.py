"""Do more answers in one format add what answers in other formats add?

    python -m benchmarks.samples --corpora corpora --calibrated runs/calibration -o runs/samples

The default model answers sentences of the dev splits in one format, greedily and several times with
drawn tokens under the masks. The entities of all of these answers are put together as those of
several formats are (`--combine agreement`): the score of an entity is the mean of its confidences,
or the share of the drawn answers that have it. Beside it stand formats put together, with as many
answers, from the folder of `cner calibrate` about the same sentences. F1 is strict, of all corpora
together; the threshold of each half of the documents is the best one of the other half. Answers are
kept in the output folder; the figures go to benchmarks/results/samples.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constrained_ner.adapters import DEFAULT_MODEL
from constrained_ner.atomic import write_json
from constrained_ner.benchmark.calibrate import asked, grid_of, said_by
from constrained_ner.benchmark.grid import (
    PACKAGES,
    CorpusSample,
    Grid,
    check_same,
    load_sample,
    target_of,
)
from constrained_ner.benchmark.together import Asked, Confidences
from constrained_ner.engines.base import Engine
from constrained_ner.engines.models import LoadedModel, device_name, load_model
from constrained_ner.engines.speculative import SpeculativeEngine
from constrained_ner.evaluation import Counts, paired_test
from constrained_ner.evaluation.reliability import thresholds
from constrained_ner.formats import get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.agreement import Agreement, Ballot
from constrained_ner.pipeline.manifest import Manifest
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.runs import line_of, predictions_in

from .machine import circumstances, weights_of

RESULTS = Path(__file__).parent / "results" / "samples.json"
LEVEL = Level.FAITHFUL


@dataclass(frozen=True)
class Drawing(Predictor):
    """Draws tokens, and does not take the likeliest."""

    model: LoadedModel
    temperature: float = 1.0
    seed: int = 0

    def new_engine(self) -> Engine:
        return SpeculativeEngine(
            self.model,
            self.batch_size,
            record=True,
            temperature=self.temperature,
            seed=self.seed,
            costs=self.costs,
        )


def drawn(
    model: LoadedModel, trained: Manifest, data: CorpusSample, number: int, given: Any
) -> list[Confidences]:
    """What the drawn answers of a number have about each document; kept in the output folder."""
    made_by = f"{weights_of(given.model)}.{given.dtype}.{given.batch_size}"
    made_by += f".{len(data.documents)}.{given.seed}"
    name = f"{data.name}.{given.format}.{given.temperature:g}.{number}.{made_by}.jsonl"
    path = given.output / name
    if not path.exists():
        predictor = Drawing(
            model,
            get_format(given.format),
            [target_of(trained, data)],
            LEVEL,
            given.batch_size,
            record=True,
            temperature=given.temperature,
            seed=number,
        )
        path.write_text("".join(map(line_of, predictor.predict(data.documents))), encoding="utf-8")
        print(f"{path.name}: {predictor.costs.seconds:.0f} s", file=sys.stderr)
    return [prediction.confidences for prediction in predictions_in(path)]


def halves(documents: Sequence[Asked], scores: Sequence[Confidences]) -> list[Counts]:
    """The counts of each document, above the threshold that is best in the other half."""
    counts: list[Counts] = [Counts()] * len(documents)
    for half in (0, 1):
        other = [
            one.judged(found)
            for i, (one, found) in enumerate(zip(documents, scores, strict=True))
            if i % 2 != half
        ]
        known = thresholds(other)
        least = max(known, key=lambda one: one.f1).least if known else 0.0
        for i in range(half, len(documents), 2):
            kept = {e: score for e, score in scores[i].items() if score >= least}
            counts[i] = documents[i].counts(kept)
    return counts


def together(one: Asked, answers: Sequence[Confidences], format: str) -> Confidences:
    """Several answers in one format, put together."""
    whole = (0, len(one.document.text))
    ballots = [Ballot(get_format(format), one.labels, whole, found) for found in answers]
    return {a.entity: a.score for a in Agreement().settled(ballots, one.document.text)}


def ways(
    documents: Sequence[Asked],
    samples: Sequence[Sequence[Confidences]],
    trained: Manifest,
    given: Any,
) -> dict[str, tuple[int, list[Counts]]]:
    """By name: how many answers each document gets, and the counts."""
    found: dict[str, tuple[int, list[Counts]]] = {}
    greedy = [one.found[given.format] for one in documents]
    found[f"{given.format}, greedy"] = (
        1,
        [o.counts(g) for o, g in zip(documents, greedy, strict=True)],
    )
    found[f"{given.format}, greedy, threshold"] = (1, halves(documents, greedy))
    for number in range(2, len(samples) + 2):
        some = samples[: number - 1]
        sure = [
            together(one, [greedy[i], *(sample[i] for sample in some)], given.format)
            for i, one in enumerate(documents)
        ]
        found[f"greedy and {number - 1} drawn, confidences"] = (number, halves(documents, sure))
        if number <= len(samples):
            shares = [
                together(one, [dict.fromkeys(s[i], 1.0) for s in samples[:number]], given.format)
                for i, one in enumerate(documents)
            ]
            found[f"{number} drawn, shares"] = (number, halves(documents, shares))
    known = [
        c.formats for c in trained.calibrations if c.level == str(LEVEL) and len(c.formats) > 1
    ]
    for names in known:
        if all(set(names) <= set(one.found) for one in documents):
            formats = [get_format(name) for name in names]
            agreement = Agreement(trained.weights(names))
            scores = [one.together(formats, agreement) for one in documents]
            found[", ".join(names)] = (len(names), halves(documents, scores))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--corpora", type=Path, default=Path("corpora"))
    parser.add_argument("--calibrated", type=Path, required=True, help="the folder of the answers")
    parser.add_argument("--documents", type=int, default=100, help="as there")
    parser.add_argument("--seed", type=int, default=0, help="as there")
    parser.add_argument("--format", help="by default the best on dev")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=40)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    trained = said_by(given.model)
    given.format = given.format or trained.best
    given.output.mkdir(parents=True, exist_ok=True)
    data = [
        load_sample(given.corpora / d.name / "dev.jsonl", d.name, given.documents, given.seed)[0]
        for d in trained.datasets
    ]
    grid: Grid = grid_of(given.model, trained, data, trained.formats, LEVEL, seed=given.seed)
    check_same(grid, given.calibrated)
    documents = asked(grid, given.calibrated)
    model = load_model(given.model, dtype=given.dtype)
    samples = [
        [found for one in grid.data for found in drawn(model, trained, one, number, given)]
        for number in range(given.samples)
    ]
    measured = ways(documents, samples, trained, given)
    first = next(iter(measured.values()))[1]
    rows: list[Mapping[str, Any]] = []
    for name, (answers, counts) in measured.items():
        tested = paired_test(first, counts)
        difference = [tested.f1.difference, tested.f1.interval, tested.f1.p] if tested else None
        scores = sum(counts, Counts()).scores._asdict()
        rows.append({"way": name, "answers": answers, **scores, "difference": difference})
        print(f"{name}: {answers} answers, F1 {scores['f1']:.3f}, {difference}")
    result = {
        "documents": len(documents),
        "entities": sum(len(one.gold) for one in documents),
        "temperature": given.temperature,
        **circumstances(PACKAGES, given.model),
        "device": device_name(model),
        "ways": rows,
    }
    write_json(result, given.results)


if __name__ == "__main__":
    main()
