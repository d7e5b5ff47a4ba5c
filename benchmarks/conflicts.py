"""What settling contradictory answers does, on text that is annotated with several kinds at once.

    python -m benchmarks.conflicts --pgxcorpus corpora/pgxcorpus/dev.jsonl -o runs/conflicts

The default model is asked for all labels that it knows, each data set by itself. Counted are
strict precision, recall and F1 against gold entities whose labels have a name in the model's terms,
with what the answers say side by side, and settled; and how often the same words have two labels.
The samples that come with the package are counted, too. Answers are kept in the output folder, so
that a run that was stopped goes on; the figures go to benchmarks/results/conflicts.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from constrained_ner import markdown
from constrained_ner.atomic import whole_lines, write_json
from constrained_ner.benchmark.grid import PACKAGES
from constrained_ner.corpora import read
from constrained_ner.corpora.jsonl import document_from_json, document_to_json
from constrained_ner.documents import Document, Entity
from constrained_ner.engines.models import device_name
from constrained_ner.evaluation import Counts, paired_test, strict
from constrained_ner.pipeline.conflicts import Conflicts, Mention
from constrained_ner.pipeline.extractor import Extractor
from constrained_ner.pipeline.task import EVERY, task_for

from .machine import SAMPLES, circumstances, weights_of

RESULTS = Path(__file__).parent / "results" / "conflicts.json"
# Gold labels by what the model calls them. Others are not what it was trained for.
NAMES: Mapping[str, Mapping[str, str]] = {
    "samples": {"Gene": "GENE", **{name: name for name in ("Disease", "Chemical", "Anatomy")}},
    "pgxcorpus": {"Gene_or_protein": "GENE", "Disease": "Disease", "Chemical": "Chemical"},
}


def answers(extractor: Extractor, documents: Sequence[Document], kept: Path) -> list[Any]:
    """The documents and what each answer found, with confidences; asked for where not kept."""
    known = {row["document"]["id"]: row for row in map(json.loads, whole_lines(kept))}
    waiting = [document for document in documents if document.id not in known]
    with kept.open("a", encoding="utf-8") as file:
        predictions = extractor.stream(waiting, labels=[EVERY], segment="none", conflicts=None)
        for document, prediction in zip(waiting, predictions, strict=True):
            row = {
                "document": document_to_json(document),
                "answers": [
                    [
                        [entity.label, entity.fragments, confidence]
                        for entity, confidence in zip(
                            reply.entities, reply.confidences, strict=True
                        )
                    ]
                    for reply in prediction.replies
                ],
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            known[document.id] = json.loads(json.dumps(row))
    return [known[document.id] for document in documents]


def mentions(row: Mapping[str, Any], labels: Sequence[str]) -> Iterator[Mention]:
    for number, answer in enumerate(row["answers"]):
        for label, fragments, confidence in answer:
            if label in labels:
                entity = Entity(label, tuple((start, end) for start, end in fragments))
                yield Mention(entity, confidence, number)


def measure(
    rows: Sequence[Mapping[str, Any]], names: Mapping[str, str], conflicts: Conflicts
) -> dict[str, Any]:
    """Both ways on the same answers, and the paired difference."""
    counts: dict[str, list[Counts]] = {"side by side": [], "settled": []}
    twice = dict.fromkeys(counts, 0)
    for row in rows:
        document = document_from_json(row["document"])
        gold = [Entity(names[e.label], e.fragments) for e in document.entities if e.label in names]
        found = list(mentions(row, conflicts.order))
        ways = {"side by side": {m.entity for m in found}, "settled": conflicts.settled(found)}
        for way, entities in ways.items():
            twice[way] += len(entities) - len({entity.fragments for entity in entities})
            # Of labels that mean the same any is right.
            named = {
                Entity("GENE" if e.label == "protein" else e.label, e.fragments) for e in entities
            }
            asked = [e for e in named if e.label in names.values()]
            counts[way].append(strict(document.text, gold, asked))
    difference = paired_test(counts["side by side"], counts["settled"])
    return {
        "labels": conflicts.order,
        "documents": len(rows),
        "gold": sum(count.gold for count in counts["settled"]),
        **{
            way: {
                **sum(found, Counts()).scores._asdict(),
                "words with two labels": twice[way],
            }
            for way, found in counts.items()
        },
        "difference": difference
        and {name: [d.difference, d.interval, d.p] for name, d in difference._asdict().items()},
    }


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pgxcorpus", type=Path, help="the split; not its test")
    parser.add_argument("--documents", type=int, default=100, help="of the split")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args(given)
    arguments.output.mkdir(parents=True, exist_ok=True)
    extractor = Extractor(dtype=arguments.dtype)
    every = task_for(extractor.manifest, [EVERY]).conflicts
    some = task_for(extractor.manifest).conflicts
    assert every is not None, "the default model says what it was trained for"
    assert some is not None, "as above"
    paths = {"samples": SAMPLES, "pgxcorpus": arguments.pgxcorpus}
    results = []
    for name, path in paths.items():
        if path is None:
            continue
        documents = [d for d in read(path) if isinstance(d, Document) and d.text.strip()]
        Random(arguments.seed).shuffle(documents)
        documents = documents[: arguments.documents]
        made_by = f"{weights_of(extractor.model.name)}.{arguments.dtype}"
        kept = arguments.output / f"{name}.{made_by}.jsonl"
        rows = answers(extractor, documents, kept)
        results += [{"data": name, **measure(rows, NAMES[name], one)} for one in (some, every)]
    found = {
        "results": results,
        "seed": arguments.seed,
        "dtype": arguments.dtype,
        **circumstances(PACKAGES, extractor.model.name),
        "device": device_name(extractor.model),
    }
    write_json(found, arguments.results)
    print(table(results))


def table(results: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        [
            f"{row['data']}, {len(row['labels'])} labels, {way}",
            *(f"{row[way][score]:.3f}" for score in ("precision", "recall", "f1")),
            str(row[way]["words with two labels"]),
        ]
        for row in results
        for way in ("side by side", "settled")
    ]
    return markdown.table(["", "precision", "recall", "F1", "words with two labels"], lines)


if __name__ == "__main__":
    main()
