"""How often does rounding make speculative decoding write another answer?

    python -m benchmarks.near_ties -o benchmarks/results/near_ties.json

The same questions through both engines, token by token and speculatively. In exact arithmetic their
answers are the same; a call for several tokens adds in another order than a call for one, though,
and where two tokens are almost as likely as each other that can decide. Beside it: the same
engine in batches of one, for batches round differently, too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from constrained_ner.adapters import DEFAULT_MODEL
from constrained_ner.atomic import write_json
from constrained_ner.benchmark.grid import PACKAGES
from constrained_ner.corpora import read
from constrained_ner.documents import Document
from constrained_ner.engines.models import LoadedModel, load_model
from constrained_ner.formats import FORMATS, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.prompts import Target

from .machine import SAMPLES, circumstances

LABELS = ("Chemical", "Disease")
REFERENCE = "reference"
# Engine and rows; `alone` is the reference engine in batches of one.
WAYS = {REFERENCE: (REFERENCE, 8), "speculative": ("speculative", 8), "alone": (REFERENCE, 1)}


def answers(
    model: LoadedModel, name: str, level: Level, documents: Sequence[Document], way: str
) -> list[str]:
    engine, rows = WAYS[way]
    predictor = Predictor(
        model, get_format(name), [Target(LABELS)], level, batch_size=rows, engine=engine
    )
    predictions = predictor.predict(documents)
    return [reply.answer for prediction in predictions for reply in prediction.replies]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--ways", default="speculative,alone", help="to compare with the reference")
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--levels", default="free,faithful")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    found = (document for document in read(SAMPLES) if isinstance(document, Document))
    documents = list(islice(found, arguments.documents))
    rows = []
    for dtype in arguments.dtypes.split(","):
        model = load_model(arguments.model, device=arguments.device, dtype=dtype)
        for level in map(Level, arguments.levels.split(",")):
            for name in arguments.formats.split(","):
                base = answers(model, name, level, documents, REFERENCE)
                written = {
                    way: answers(model, name, level, documents, way)
                    for way in arguments.ways.split(",")
                }
                other = {
                    way: sum(a != b for a, b in zip(base, each, strict=True))
                    for way, each in written.items()
                }
                row = {"dtype": dtype, "level": level, "format": name, "answers": len(base)}
                rows.append({**row, "other_than_reference": other})
                print(rows[-1], file=sys.stderr)
    result: dict[str, Any] = {
        **circumstances(PACKAGES, arguments.model),
        "documents": len(documents),
        "rows": rows,
    }
    if arguments.output:
        write_json(result, arguments.output)


if __name__ == "__main__":
    main()
