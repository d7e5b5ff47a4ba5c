"""The paper's study on two cores: the results that are committed.

    cner experiment benchmarks/experiment_cpu.toml -o runs/night
    python -m benchmarks.study runs/night

Results and report go to benchmarks/results/study; docs/study.md says what they mean.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from constrained_ner.benchmark.report import write_report
from constrained_ner.benchmark.results import load_results

from .compare import load, save

RESULTS = Path(__file__).parent / "results" / "study"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="what `cner experiment` wrote")
    given = parser.parse_args()
    save(load_results(given.folder), RESULTS)
    write_report(load(RESULTS), RESULTS)


if __name__ == "__main__":
    main()
