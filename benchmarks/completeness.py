"""Does every gold answer of the published corpora pass through the masks?

    python -m benchmarks.completeness CORPORA -o benchmarks/results/completeness.json

CORPORA is a folder with the corpora as they are distributed; the paths below are looked for in it.
Each file is checked as `cner check` does it: all twelve formats, both levels, the tokenizer of the
default model. Results are written after each file, and files that have a result are skipped.
"""

from __future__ import annotations

import argparse
import json
import platform
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

from constrained_ner.adapters import BASE_MODEL
from constrained_ner.atomic import write_json
from constrained_ner.corpora import read
from constrained_ner.documents import Document
from constrained_ner.engines.converted import packaged_model
from constrained_ner.engines.models import load_tokens
from constrained_ner.evaluation.coverage import Checker
from constrained_ner.formats import FORMATS, Options, get_format
from constrained_ner.formats.grammar import Level

from .machine import circumstances, versions

PACKAGES = ("constrained_ner", "llguidance", "lark", "tokenizers")
FILES = [
    "ncbi_disease/iob_tsv/test.tsv",
    "ncbi_disease/iob_tsv/devel.tsv",
    "genia/nested_iob2/genia.test.iob2",
    "anatem/iob_tsv/test.tsv",
    "bc5cdr/iob_tsv/test.tsv",
    "bc2gm/conll/test.tsv",
    "pgxcorpus/PGxCorpus.tar",
    "ncbi_disease/ncbi-disease-standoff.tar.gz",
    "genia/nested_iob2/genia.dev.iob2",
    "anatem/iob_tsv/devel.tsv",
    "ncbi_disease/conll/train.tsv",
    "anatem/iob_tsv/train.tsv",
    "bc2gm/conll/devel.tsv",
    "bc5cdr/iob_tsv/devel.tsv",
    "bc5cdr/iob_tsv/train.tsv",
    "bc2gm/conll/train.tsv",
    "anatem/original/anatem-1.0.2-standoff.tar.gz",
]


def check_file(path: Path, limit: int | None) -> dict[str, Any]:
    """All formats and levels on one file."""
    started = perf_counter()
    records = list(islice(read(path), limit))
    documents = [r for r in records if isinstance(r, Document) and r.text.strip()]
    labels = sorted({entity.label for d in documents for entity in d.entities})
    most = max(len(entity.fragments) for d in documents for entity in d.entities)
    vocabulary = load_tokens(BASE_MODEL).vocabulary
    reports = [
        Checker(get_format(name, Options(max_fragments=most)), labels, level, vocabulary).check(
            documents
        )
        for name in FORMATS
        for level in (Level.SYNTAX, Level.FAITHFUL)
    ]
    return {
        "documents": len(documents),
        "records_left_out": len(records) - len(documents),
        "labels": len(labels),
        "max_fragments": most,
        "seconds": round(perf_counter() - started),
        "reports": [report.to_json() for report in reports],
    }


def table(results: dict[str, Any]) -> str:
    """Answers accepted, by format and level, over all files."""
    lines = [
        "| format | level | answers | accepted | mentions | expressible | lost in reading back | "
        "longest answer | largest share of budget |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in FORMATS:
        for level in ("syntax", "faithful"):
            rows = [
                report
                for result in results.values()
                for report in result["reports"]
                if (report["format"], report["level"]) == (name, level)
            ]
            total = {key: sum(row[key] for row in rows) for key in ("answers", "accepted")}
            mentions = sum(row["entities"] for row in rows)
            lines.append(
                f"| {name} | {level} | {total['answers']} | {total['accepted']} | {mentions} | "
                f"{sum(row['expressible'] for row in rows)} | "
                f"{sum(sum(row['lost'].values()) for row in rows)} | "
                f"{max((row['longest'] for row in rows), default=0)} | "
                f"{max((row['budget_share'] for row in rows), default=0):.0%} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--limit", type=int, help="documents of each file")
    parser.add_argument("--jobs", type=int, default=1, help="files checked at a time")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()

    packaged_model()
    results: dict[str, Any] = {}
    if arguments.output.is_file():
        before = json.loads(arguments.output.read_text())
        if before["limit"] != arguments.limit or before["versions"] != versions(PACKAGES):
            parser.error(f"{arguments.output} is of another limit or of other versions: remove it")
        results = before["files"]
    todo = [f for f in FILES if f not in results and (arguments.corpora / f).is_file()]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        paths = [arguments.corpora / name for name in todo]
        found = pool.map(check_file, paths, [arguments.limit] * len(paths))
        for name, result in zip(todo, found, strict=True):
            results[name] = result
            refused = sum(len(r["rejections"]) + len(r["failed"]) for r in result["reports"])
            print(f"{name}: {result['documents']} documents, {refused} refused", flush=True)
            so_far = {
                "model": BASE_MODEL,
                "limit": arguments.limit,
                **circumstances(PACKAGES),
                "python": platform.python_version(),
                "files": results,
            }
            write_json(so_far, arguments.output)
    print(table(results))


if __name__ == "__main__":
    main()
