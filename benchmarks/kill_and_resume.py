"""Does work that is killed again and again end with the files of work that was left alone?

    python -m benchmarks.kill_and_resume -- predict notes.jsonl --resume -o OUT/found.jsonl
    python -m benchmarks.kill_and_resume --same 'run/*.safetensors' -- train recipe.toml -o OUT/run
    python -m benchmarks.kill_and_resume --same 'run/**/*.jsonl' -- benchmark --data D -o OUT/run

What comes after `--` is a `cner` command that goes on with what it began where it is given again;
OUT stands for an empty folder. It runs once undisturbed. Then it is killed (SIGKILL) after random
times and given again, until it ends, and its files are compared with the first ones byte by byte;
and that from the beginning, until there were so many kills. Results stay in
benchmarks/results/kill_and_resume.json, one for each command.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from constrained_ner.adapters import DEFAULT_MODEL
from constrained_ner.atomic import write_json
from constrained_ner.benchmark.grid import PACKAGES

from .machine import circumstances

RESULTS = Path(__file__).parent / "results" / "kill_and_resume.json"
OUT = "OUT"


def run(command: Sequence[str], folder: Path, seconds: float | None = None) -> int:
    """The exit status of a command; -SIGKILL where it was killed after so many seconds."""
    given = [word.replace(OUT, str(folder)) for word in command]
    command = [sys.executable, "-m", "constrained_ner", *given]
    null = subprocess.DEVNULL
    try:
        return subprocess.run(command, stdout=null, stderr=null, timeout=seconds).returncode
    except subprocess.TimeoutExpired:  # it was killed then
        return -signal.SIGKILL


def files_of(folder: Path, patterns: Sequence[str]) -> dict[str, bytes]:
    """What is compared: the files that one of the patterns names."""
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(found)}


def measured(
    command: Sequence[str], patterns: Sequence[str], kills: int, rng: random.Random
) -> dict[str, Any]:
    """Kill a command again and again.

    Raises
    ------
    SystemExit: its output has none of the files that are to be compared.
    """
    with TemporaryDirectory() as whole:
        began = perf_counter()
        status = run(command, Path(whole))
        seconds = perf_counter() - began
        expected = files_of(Path(whole), patterns)
        print(f"undisturbed: exit status {status}, {seconds:.0f} s", file=sys.stderr)
        if not expected:
            raise SystemExit(f"it leaves no file that {patterns} names")
    given, ends, good = 0, 0, 0
    began = perf_counter()
    while given < kills:
        with TemporaryDirectory() as killed:
            last = -signal.SIGKILL
            while last == -signal.SIGKILL:
                # Short times as well as long ones, so that it dies while it starts, too.
                patience = rng.expovariate(3 / seconds) if given < kills else None
                last = run(command, Path(killed), patience)
                given += last == -signal.SIGKILL
            ends += 1
            good += last == status and files_of(Path(killed), patterns) == expected
            print(f"{given} kills, {ends} ends, {good} as undisturbed", file=sys.stderr)
    return {
        "command": list(command),
        "compared": len(expected),
        "bytes": sum(map(len, expected.values())),
        "exit_status": status,
        "seconds": round(seconds, 1),
        "kills": given,
        "ends": ends,
        "ends_as_undisturbed": good,
        "seconds_with_kills": round(perf_counter() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--same", action="append", metavar="PATTERN", help="of files in OUT; *")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    given = sys.argv[1:]
    own = given.index("--") if "--" in given else len(given)
    arguments, command = parser.parse_args(given[:own]), given[own + 1 :]
    if not any(OUT in word for word in command):
        parser.error(f"expected a command after --, with its output in {OUT}")

    found = measured(
        command, arguments.same or ["*"], arguments.kills, random.Random(arguments.seed)
    )
    found |= {
        "seed": arguments.seed,
        **circumstances(PACKAGES, DEFAULT_MODEL),
    }
    path = arguments.output
    before = json.loads(path.read_bytes()) if path.exists() else {}
    write_json(before | {command[0]: found}, path)
    print(json.dumps(found, indent=1))
    sys.exit(found["ends"] != found["ends_as_undisturbed"])


if __name__ == "__main__":
    main()
