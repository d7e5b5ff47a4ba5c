"""Does it help that a document is of one mind about the same words?

    cner predict abstracts.jsonl --min-confidence 0 --conflicts keep -o found.jsonl
    python -m benchmarks.consistency --gold abstracts.jsonl --found found.jsonl

The confidences of a run over whole documents, as they are and after the vote of `--consistent`. F1
is strict, the threshold of each half of the documents is the best one of the other half. Several
pairs of --gold and --found are counted one by one; the figures go to
benchmarks/results/consistency.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from constrained_ner.atomic import write_json
from constrained_ner.benchmark.grid import PACKAGES
from constrained_ner.benchmark.together import Asked, Confidences
from constrained_ner.corpora import corpus_name, read
from constrained_ner.documents import Document
from constrained_ner.evaluation import Counts, paired_test
from constrained_ner.pipeline.consistency import consistent
from constrained_ner.pipeline.prediction import Prediction
from constrained_ner.pipeline.runs import predictions_in

from .machine import circumstances
from .samples import halves

RESULTS = Path(__file__).parent / "results" / "consistency.json"


def after_the_vote(prediction: Prediction) -> Mapping[Any, float]:
    asked: dict[str, list[tuple[int, int]]] = {}
    for reply in prediction.replies:
        for label in reply.labels:
            asked.setdefault(label, []).append(reply.segment)
    return consistent(prediction.text, prediction.confidences, asked)


def measure(gold: Path, found: Path) -> dict[str, Any]:
    """What the vote changes, printed, too."""
    documents = {one.id: one for one in read(gold) if isinstance(one, Document)}
    predictions = list(predictions_in(found))
    labels = frozenset(label for p in predictions for r in p.replies for label in r.labels)
    asked = [Asked(documents[p.id], labels, {}) for p in predictions]
    ways: dict[str, Sequence[Confidences]] = {
        "each by itself": [p.confidences for p in predictions],
        "consistent": [after_the_vote(p) for p in predictions],
    }
    entities = sum(len(one.gold) for one in asked)
    print(f"{found}: {len(asked)} documents, {entities} entities")
    rows: dict[str, Any] = {}
    first: list[Counts] | None = None
    for name, scores in ways.items():
        counts = halves(asked, scores)
        first = first or counts
        tested = paired_test(first, counts)
        total = sum(counts, Counts()).scores
        rows[name] = {**total._asdict(), "difference": tested and asdict(tested.f1)}
        print(f"  {name}: {rows[name]}")
    return {"documents": len(asked), "entities": entities, "ways": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gold", type=Path, action="append", required=True)
    parser.add_argument("--found", type=Path, action="append", required=True)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    results: dict[str, Any] = circumstances(PACKAGES)
    for gold, found in zip(given.gold, given.found, strict=True):
        results[corpus_name(gold)] = measure(gold, found)
    write_json(results, given.results)


if __name__ == "__main__":
    main()
