"""What do constraints buy, format by format? The benchmark whose results are committed.

    python -m benchmarks.compare --corpora corpora -o runs/compare

The default model on samples of the test splits of six corpora, as `cner corpora prepare` writes
them, and on our own sentences; twelve formats and the other ways of the formats with offsets; three
levels. It is `cner benchmark` with everything decided, and goes on where it was stopped. Results
and report go to benchmarks/results/; scores into docs/measurements.md and the card of the default
model, if all corpora and free answers are among them; the texts of the corpora, which we may not
pass on, stay in the folder of the run.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from constrained_ner.adapters import DEFAULT_MODEL, folder_of
from constrained_ner.benchmark.blocks import EMPTY, number, percent
from constrained_ner.benchmark.gather import gather
from constrained_ner.benchmark.grid import ALL, Grid, Way, check_same, load_sample, variants_of
from constrained_ner.benchmark.report import write_report
from constrained_ner.benchmark.results import FILE, Results
from constrained_ner.benchmark.together import variant_of
from constrained_ner.benchmark.view import (
    View,
    answers,
    cost,
    f1_of,
    parsed,
    seconds,
    strict,
    untrue,
)
from constrained_ner.cli.benchmark import answer
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.manifest import load_manifest
from constrained_ner.training.saving import card

from .machine import weights_of
from .page import put

ROOT = Path(__file__).parent.parent
CORPORA = ("ncbi-disease", "bc5cdr", "bc2gm", "anatem", "genia", "pgxcorpus")
OWN = "samples"
SHOWN = 12  # of our own sentences, which the report shows with all their answers
RESULTS = ROOT / "benchmarks" / "results" / "compare"
CARD = Path(folder_of(DEFAULT_MODEL)) / "README.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpora", type=Path, default=Path("corpora"))
    parser.add_argument("--data", default=",".join((*CORPORA, OWN)), help="a part of these")
    parser.add_argument("--formats", default="all,spans")
    parser.add_argument("--levels", default=",".join(Level))
    parser.add_argument("--documents", type=int, default=40, help="of each corpus")
    parser.add_argument("--batch-size", type=int, default=40)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help="of what is done; answer nothing")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()

    paths = {name: arguments.corpora / name / "test.jsonl" for name in CORPORA}
    paths[OWN] = ROOT / "constrained_ner" / "samples" / "sentences.jsonl"
    names = arguments.data.split(",")
    sizes = dict.fromkeys(CORPORA, arguments.documents) | {OWN: SHOWN}
    data = [load_sample(paths[name], name, sizes[name])[0] for name in names]
    grid = Grid(
        (DEFAULT_MODEL,),
        tuple(data),
        variants_of(arguments.formats.split(",")),
        tuple(map(Level, arguments.levels.split(","))),
        batch_size=arguments.batch_size,
        dtype=arguments.dtype,
    )
    if arguments.report:
        check_same(grid, arguments.output)
    else:
        answer(grid, arguments.output, arguments.processes)
    found = gather(grid, arguments.output, texts=[OWN])
    save(replace(found, weights=weights_of(DEFAULT_MODEL)), arguments.results)
    results = load(arguments.results)
    write_report(results, arguments.results)
    whole = set(CORPORA) <= set(names) and not results.missing
    if whole and str(Level.FREE) in arguments.levels.split(","):
        CARD.write_text(card_of(results), encoding="utf-8")
        write_table(results)
    print(f"{len(results.cells)} cells; written to {arguments.results}", file=sys.stderr)


def save(results: Results, folder: Path) -> None:
    """In `results.json`, and the cells in a file for each data set; numbers to five digits."""
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    written = results.to_json()
    cells = written.pop("cells")
    parts = {folder / FILE: written}
    for data in results.data:
        of_data = [cell for cell in cells if cell["data"] == data.name]
        parts[_cells(folder, data.name)] = {"cells": of_data}
    for path, part in parts.items():
        text = json.dumps(_rounded(part), ensure_ascii=False, separators=(",", ":"))
        path.write_text(text + "\n", encoding="utf-8")


def load(folder: Path) -> Results:
    """What `save` has written."""
    written = json.loads((folder / FILE).read_bytes())
    files = [_cells(folder, data["name"]) for data in written["data"]]
    cells = [cell for file in files for cell in json.loads(file.read_bytes())["cells"]]
    return Results.from_json({**written, "cells": cells})


def _cells(folder: Path, name: str) -> Path:
    """The file of the cells of a data set."""
    return folder / "cells" / f"{name}.json"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


def card_of(results: Results) -> str:
    """The card of the default model, with the scores on the data sets that it was trained for.

    Without them where they are those of other weights.
    """
    trained = load_manifest(DEFAULT_MODEL)
    assert trained is not None
    if results.weights != weights_of(DEFAULT_MODEL):
        without: str = card(trained, {})
        return without
    known = {dataset.name for dataset in trained.datasets}
    found = {
        (cell.data, cell.variant.format, str(cell.level)): strict(result)
        for result in results.cells
        if (cell := result.cell).data in known
        if cell.variant == variant_of(trained, cell.variant.format)
    }
    scores = {key: score.counts for key, score in found.items() if score.counts}
    intervals = {key: score.intervals.f1 for key, score in found.items() if score.intervals}
    most = max(data.documents for data in results.data if data.name in known)
    measured_on = f"Up to {most} documents of each, seed {results.seed}."
    text: str = card(trained, scores, measured_on, intervals)
    return text


def write_table(results: Results) -> None:
    """F1 of each format over all entities of the corpora, and how often free answers fail.

    Of corpora that were answered freely and under the strictest masks in all formats; the other
    ways to write a format come after them.
    """
    view = View(results)
    (group,) = view.groups
    strictest = view.masked[-1]
    corpora = [
        name
        for name in view.names
        if name != OWN
        and all(
            view.draws(group, Way(variant, level), [name])
            for variant, level in product(ALL, (Level.FREE, strictest))
        )
    ]
    rows = []
    for variant in view.variants_of(group):
        of_level = {level: view.draws(group, Way(variant, level), corpora) for level in view.levels}
        f1 = [
            number(f1_of(draws[0], strict) or 0.0) if draws else EMPTY.text
            for draws in of_level.values()
        ]
        (free,), (masked,) = of_level[Level.FREE], of_level[strictest]
        times = (cost(masked, seconds) or 0.0) / (cost(free, seconds) or 1.0)
        rate = percent(parsed(free), answers(free))
        rows.append([str(variant), *f1, rate, str(untrue(free)), number(times, 2)])
    levels = [f"F1, {level}" for level in view.levels]
    last = f"{strictest}: times free's seconds"
    put("compare", ["format", *levels, "free: parse", "free: untrue", last], rows)


if __name__ == "__main__":
    main()
