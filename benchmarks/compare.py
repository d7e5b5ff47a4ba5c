"""What do constraints buy, format by format? The benchmark whose results are committed.

    python -m benchmarks.compare --corpora corpora -o runs/compare

The default model on samples of the test splits of six corpora, as `cner corpora prepare` writes
them, and on our own sentences; twelve formats and the other ways of the formats with offsets; three
levels. It is `cner benchmark` with everything decided, and goes on where it was stopped. Results
and report go to benchmarks/results/, scores into the README and the card of the default model; the
texts of the corpora, which we may not pass on, stay in the folder of the run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from constrained_ner.benchmark.blocks import number, percent
from constrained_ner.benchmark.grid import Grid, load_data, run, variants_of
from constrained_ner.benchmark.report import write_report
from constrained_ner.benchmark.results import gather
from constrained_ner.benchmark.view import (
    FREE,
    View,
    cost,
    health_sum,
    metric,
    scores_of,
    untrue,
)
from constrained_ner.cli.benchmark import Bar
from constrained_ner.metrics import Counts
from constrained_ner.trained import DEFAULT_MODEL, folder_of, load_trained
from constrained_ner.training.saving import card

from .readme import put

ROOT = Path(__file__).parent.parent
CORPORA = ("ncbi-disease", "bc5cdr", "bc2gm", "anatem", "genia", "pgxcorpus")
OWN = "samples"
RESULTS = ROOT / "benchmarks" / "results" / "compare"
CARD = Path(folder_of(DEFAULT_MODEL)) / "README.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpora", type=Path, default=Path("corpora"))
    parser.add_argument("--documents", type=int, default=40, help="of each corpus")
    parser.add_argument("--batch-size", type=int, default=40)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()

    paths = {name: arguments.corpora / name / "test.jsonl" for name in CORPORA}
    paths[OWN] = ROOT / "constrained_ner" / "samples" / "sentences.jsonl"
    data = [load_data(path, name, arguments.documents)[0] for name, path in paths.items()]
    grid = Grid(
        (DEFAULT_MODEL,),
        tuple(data),
        variants_of(["all", "spans"]),
        batch_size=arguments.batch_size,
        dtype=arguments.dtype,
    )
    with Bar(grid, arguments.output) as bar:
        run(grid, arguments.output, bar.progress)
    results = gather(grid, arguments.output, texts=[OWN])
    arguments.results.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, ensure_ascii=False)
    (arguments.results / "results.json").write_text(text + "\n", encoding="utf-8")
    write_report(results, arguments.results)
    CARD.write_text(card_of(results), encoding="utf-8")
    write_readme(results)
    print(f"{len(results['cells'])} cells; written to {arguments.results}", file=sys.stderr)


def card_of(results: dict[str, Any]) -> str:
    """The card of the default model, with the scores on the data sets that it was trained for."""
    trained = load_trained(DEFAULT_MODEL)
    assert trained is not None
    known = {dataset.name for dataset in trained.datasets}
    fields = ("gold", "found", "predicted", "correct")
    scores = {
        (cell["data"], cell["format"], cell["level"]): Counts(
            *(cell["scores"]["strict"][name] for name in fields)
        )
        for cell in results["cells"]
        if cell["data"] in known and cell["variant"] == cell["format"]
    }
    most = max(data["documents"] for data in results["data"] if data["name"] in known)
    text: str = card(trained, scores, f"Up to {most} documents of each, seed {results['seed']}.")
    return text


def write_readme(results: dict[str, Any]) -> None:
    """F1 of each format over all entities of the corpora, and how often free answers fail."""
    view = View(results)
    (group,) = view.groups
    corpora = [name for name in view.names if name != OWN]
    rows = []
    for variant in view.variants_of(group):
        of_level = {
            level: [cell for draw in view.draws(group, (variant, level), corpora) for cell in draw]
            for level in view.levels
        }
        f1 = [number(scores_of(cells, metric("strict")).f1 or 0.0) for cells in of_level.values()]
        parsed, answers = (health_sum(of_level[FREE], key) for key in ("parsed", "answers"))
        seconds = {level: cost(cells, "seconds") or 0.0 for level, cells in of_level.items()}
        faithful = seconds[view.masked[-1]] / seconds[FREE]
        rows.append(
            [variant, *f1, percent(parsed, answers), str(untrue(of_level[FREE])), f"{faithful:.2f}"]
        )
    heads = ["format", *(f"F1, {level}" for level in view.levels)]
    put("compare", [*heads, "free: parse", "free: untrue", "faithful: times free's seconds"], rows)


if __name__ == "__main__":
    main()
