"""The paper's study on two cores: the results that are committed, and what mixing formats costs.

    cner experiment benchmarks/experiment_cpu.toml -o runs/night
    python -m benchmarks.study benchmarks/experiment_cpu.toml runs/night

Each format is trained by itself, and with others in place of a part of its examples. Results and
report go to benchmarks/results/study, the comparison of the configurations into docs/study.md.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from constrained_ner.atomic import write_json
from constrained_ner.benchmark.blocks import EMPTY, number, signed
from constrained_ner.benchmark.experiment import Experiment, load_experiment
from constrained_ner.benchmark.gather import Answered
from constrained_ner.benchmark.report import HTML, write_report
from constrained_ner.benchmark.results import load_results
from constrained_ner.benchmark.tables.fields import tested
from constrained_ner.evaluation import Counts, Difference, paired_test
from constrained_ner.evaluation.resampling import corrected
from constrained_ner.training.sampling import CONFIGURATIONS

from .compare import load, save
from .page import put

RESULTS = Path(__file__).parent / "results" / "study"
MIXING = RESULTS / "mixing.json"
PAGE = Path(__file__).parent.parent / "docs" / "study.md"


def mixing(experiment: Experiment, folder: Path) -> list[dict[str, Any]]:
    """F1 of each format by configuration, and what the larger ones are against the smallest."""
    counts: dict[tuple[str, str], dict[str, list[Counts]]] = defaultdict(lambda: defaultdict(list))
    for run in sorted(experiment.runs(), key=lambda run: len(CONFIGURATIONS[run.configuration])):
        place = folder / run.path
        cells = run.grid(place / "model")
        for cell in cells.cells():
            of_way = counts[cell.variant.format, str(cell.level)]
            of_way[run.configuration] += Answered(cell, cells, place / "answers").counts
    rows: list[dict[str, Any]] = []
    differences: list[Difference] = []
    for (format, level), by_name in sorted(counts.items(), key=lambda item: item[0][0]):
        first, *others = by_name
        for name in others:
            tests = paired_test(by_name[first], by_name[name])
            assert tests is not None, "there are documents"
            differences.append(tests.f1)
        scores = {name: sum(some, Counts()).scores.f1 for name, some in by_name.items()}
        if others:
            rows.append({"format": format, "level": level, "f1": scores})
    ordered = iter(corrected(differences))
    for row in rows:
        row["differences"] = {name: asdict(next(ordered)) for name in [*row["f1"]][1:]}
    return rows


def write_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """F1 by format, level and configuration; of the largest one the difference, too."""
    shown = []
    for row in rows:
        alone, *_, largest = row["f1"]
        own = len(CONFIGURATIONS[alone]) == 1
        cells = [row["f1"].get(name) for name in ("term_ner", "7best", "all")]
        found = Difference(**row["differences"][largest])
        shown.append(
            [
                row["format"],
                row["level"],
                number(row["f1"][alone]) if own else EMPTY.text,
                *(EMPTY.text if value is None else number(value) for value in cells),
                f"{signed(found.difference)} {tested(found)}",
            ]
        )
    heads = ["format", "level", "by itself", "term_ner", "7best", "all", "all against the first"]
    put("mixing", heads, shown, PAGE)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("folder", type=Path, help="what `cner experiment` wrote")
    given = parser.parse_args()
    save(load_results(given.folder), RESULTS)
    write_report(load(RESULTS), RESULTS)
    (RESULTS / HTML).unlink()  # the page says the same, in a megabyte
    write_json(mixing(load_experiment(given.recipe), given.folder), MIXING)
    write_table(json.loads(MIXING.read_bytes()))


if __name__ == "__main__":
    main()
