"""Does a run that is killed again and again end with the file of one that was left alone?

    python -m benchmarks.kill_and_resume INPUT -o result.json -- --labels Disease

`cner predict` runs over INPUT once undisturbed. Then it is killed (SIGKILL) at random moments of
its way and gone on with (`--resume`), until the last one is left to end; the two files are
compared byte by byte. What comes after `--` goes to `cner predict`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

from constrained_ner.benchmark.grid import PACKAGES


def start(input: Path, output: Path, options: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "constrained_ner", "predict", str(input), "-o", str(output)]
    return subprocess.Popen([*command, "--resume", *options], stderr=subprocess.DEVNULL)


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def killed_at(process: subprocess.Popen[bytes], output: Path, bytes: int, delay: float) -> int:
    """Kill a run some seconds after its file has so many bytes; how many it has then.

    Raises
    ------
    SystemExit: the run was over before.
    """
    while size(output) < bytes and process.poll() is None:
        sleep(0.02)
    sleep(delay)
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        raise SystemExit("the run was over before it was killed: give it more documents")
    return size(output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("input", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    given = sys.argv[1:]
    own = given.index("--") if "--" in given else len(given)
    arguments, options = parser.parse_args(given[:own]), given[own + 1 :]

    chance = random.Random(arguments.seed)
    with TemporaryDirectory() as folder:
        whole, output = Path(folder) / "whole.jsonl", Path(folder) / "killed.jsonl"
        began = perf_counter()
        status = start(arguments.input, whole, options).wait()
        seconds = perf_counter() - began
        print(f"undisturbed: exit status {status}, {seconds:.0f} s", file=sys.stderr)
        # The first one dies while it loads the model; the others on their way.
        wanted = sorted(chance.uniform(0, 0.97 * size(whole)) for _ in range(arguments.kills - 1))
        points = []
        began = perf_counter()
        for bytes in [0, *wanted]:
            process = start(arguments.input, output, options)
            points.append(killed_at(process, output, int(bytes), chance.uniform(0, 1)))
            torn = output.exists() and not output.read_bytes().endswith(b"\n")
            print(f"killed at {points[-1]} bytes, {torn=}", file=sys.stderr)
        again = start(arguments.input, output, options).wait()
        result = {
            "input": arguments.input.name,
            "options": options,
            "documents": whole.read_bytes().count(b"\n"),
            "bytes": size(whole),
            "killed_at_bytes": points,
            "same_bytes": whole.read_bytes() == output.read_bytes(),
            "same_exit_status": again == status,
            "seconds": round(seconds, 1),
            "seconds_with_kills": round(perf_counter() - began, 1),
            "seed": arguments.seed,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "versions": {name: version(name) for name in PACKAGES},
        }
    text = json.dumps(result, indent=1) + "\n"
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    print(text)
    sys.exit(not (result["same_bytes"] and result["same_exit_status"]))


if __name__ == "__main__":
    main()
