"""Does memory stay flat over a long input, and what becomes of documents of unusual size?

    python -m benchmarks.at_size -o benchmarks/results/at_size.json

A tiny random model reads 50,000 lines as `cner predict` does (sentences, chunks, records in a file)
while the memory of the process is watched; then one document of 2 MB and one line of 5,000 words.
The model knows nothing, so its answers run to their budgets, which are kept small.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from constrained_ner.atomic import write_json
from constrained_ner.corpora import read
from constrained_ner.documents import Document
from constrained_ner.engines.models import wrap
from constrained_ner.formats import get_format
from constrained_ner.pipeline.prediction import Prediction
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.prompts import Target
from constrained_ner.pipeline.runs import Run
from tests.support.models import tiny_llama

from .machine import SAMPLES, circumstances

PACKAGES = ("constrained_ner", "llguidance", "sentencex", "torch", "transformers")
BUDGET = 24  # tokens


def sentences() -> Iterator[str]:
    texts = [document.text for document in read(SAMPLES) if isinstance(document, Document)]
    return (f"{number}. {text}" for number, text in enumerate(cycle(texts)))


def resident() -> float:
    """The memory that the process holds now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def predictor() -> Predictor:
    return Predictor(
        wrap("tiny", *tiny_llama(context=8192)),
        get_format("multi_term"),
        [Target(("Disease",))],
        batch_size=32,
        max_new_tokens=BUDGET,
        record=True,
        segment="sentence",
    )


def curve(lines: int, points: int) -> list[dict[str, float]]:
    """Memory after so many documents of one line each."""
    documents = (Document(str(n), text) for n, text in enumerate(islice(sentences(), lines)))
    found, started = [], perf_counter()
    with TemporaryDirectory() as folder:
        predictions = Run(documents, Path(folder) / "out.jsonl").answer(predictor)
        for number, _ in enumerate(predictions, 1):
            if number % (lines // points) == 0:
                seconds = round(perf_counter() - started, 1)
                found.append({"documents": number, "seconds": seconds, "megabytes": resident()})
                print(found[-1], file=sys.stderr)
    return found


def one(name: str, text: str) -> dict[str, Any]:
    """A document by itself: all of its text was asked about, and entities lie where it says."""
    started = perf_counter()
    (prediction,) = predictor().predict([Document(name, text)])
    asked = {reply.segment for reply in prediction.replies}
    return {
        "document": name,
        "characters": len(text),
        "segments": len(asked),
        "longest_segment": max(end - start for start, end in asked),
        "not_asked_about": _uncovered(prediction, asked),
        "entities": len(prediction.entities),
        "unparsed": sum(not reply.parses for reply in prediction.replies),
        "left_out": len(prediction.left_out),
        "error": prediction.error,
        "seconds": round(perf_counter() - started, 1),
        "megabytes": resident(),
    }


def _uncovered(prediction: Prediction, asked: set[tuple[int, int]]) -> int:
    """Letters that are in no segment."""
    at = found = 0
    for start, end in [*sorted(asked), (len(prediction.text), 0)]:
        found += sum(map(str.isalpha, prediction.text[at:start]))
        at = max(at, end)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lines", type=int, default=50_000)
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    long, size = [], 0
    for text in sentences():
        if size > 2_000_000:
            break
        long.append(text)
        size += len(text) + 1
    # Nothing in it ends a sentence: it has to be cut into windows.
    words = (word.strip(".:;!?") for text in sentences() for word in text.split())
    line = list(islice(filter(str.isalpha, words), 5000))
    result = {
        "memory": curve(arguments.lines, arguments.points),
        "documents": [one("2 MB", " ".join(long)), one("5,000 words", " ".join(line))],
        **circumstances(PACKAGES),
    }
    if arguments.output:
        write_json(result, arguments.output)
    else:
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
