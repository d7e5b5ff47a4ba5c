"""What became of whole documents: segments, entities, repeats, tokens, from the records of runs.

cner predict abstracts.txt -o abstracts.jsonl
python -m benchmarks.whole_documents abstracts.jsonl -o benchmarks/results/whole_documents.json
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from constrained_ner.atomic import write_json
from constrained_ner.benchmark.grid import PACKAGES

from .machine import circumstances


def counts(path: Path) -> dict[str, Any]:
    """Of the records of one run."""
    found: Counter[str] = Counter()
    problems: Counter[str] = Counter()
    for line in path.read_bytes().splitlines():  # a text may hold U+2028
        record = json.loads(line)
        answers = record.get("answers", [])
        found["documents"] += 1
        found["failed"] += "error" in record
        found["left_out"] += len(record.get("left_out", []))
        found["segments"] += len({tuple(answer.get("segment", ())) for answer in answers})
        found["entities"] += len(record.get("entities", []))
        found["answers"] += len(answers)
        for answer in answers:
            found["unparsed"] += not answer["parses"]
            found["closed_by_the_budget"] += answer["forced"]
            found["tokens"] += answer["tokens"]
            problems.update(kind for kind, _ in answer["problems"])
    return {"run": path.stem, **found, "problems": dict(problems)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("records", type=Path, nargs="+", help="of cner predict")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    result = {
        "runs": [counts(path) for path in arguments.records],
        **circumstances(PACKAGES),
    }
    if arguments.output:
        write_json(result, arguments.output)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
