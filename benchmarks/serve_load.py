"""How many requests a server answers, how soon, and how a batch and single requests share it.

    python -m benchmarks.serve_load --page -o benchmarks/results/serve_load.json

`cner serve` is started on this machine with the default model. Then 1, 4 and 16 clients at a time
ask about the sample sentences, each as soon as it has its last answer, so many seconds each. At the
end a single client asks while a batch of 1,000 documents is being answered, which is cut off then.
Options behind `--` are those of `cner serve`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count, cycle, islice
from pathlib import Path
from statistics import median
from threading import Event, Lock
from time import perf_counter
from typing import Any

import httpx

from constrained_ner.atomic import write_json
from constrained_ner.corpora import read
from constrained_ner.documents import Document
from constrained_ner.serve.app import PACKAGES

from .machine import SAMPLES, circumstances, quantile
from .page import put

LABELS = ["Chemical", "Disease"]
CLIENTS = (1, 4, 16)
BATCH = 1000


@contextmanager
def served(options: list[str]) -> Iterator[tuple[str, int]]:
    """The address and the process of a server that is ready."""
    command = [sys.executable, "-m", "constrained_ner", "serve", "--quiet", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            address = process.stdout.readline().split()[0]
            httpx.get(f"{address}/ready", timeout=300).raise_for_status()
            yield address, process.pid
        finally:
            process.terminate()


def peak(process: int) -> float:
    """The most memory that a process has held so far, in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    (kilobytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return round(int(kilobytes) / 1e3, 1)


class Load:
    """Sentences to ask about in turn, and what came of them."""

    def __init__(self, address: str):
        self._address = address
        self._texts = [one.text for one in read(SAMPLES) if isinstance(one, Document)]
        self._next = count()
        self._lock = Lock()
        self.first: dict[str, Any] = {}  # entities by text, of the first time that it was asked
        self.seconds: list[float] = []
        self.errors = 0
        self.other = 0

    def client(self, until: float) -> None:
        """Ask until then."""
        with httpx.Client(base_url=self._address, timeout=300) as client:
            while perf_counter() < until:
                self.ask(client)

    def ask(self, client: httpx.Client) -> None:
        text = self._texts[next(self._next) % len(self._texts)]
        started = perf_counter()
        try:
            response = client.post("/predict", json={"text": text, "labels": LABELS})
            found = response.json().get("entities")
        except (httpx.HTTPError, ValueError):
            found = None
        seconds = perf_counter() - started
        with self._lock:
            if found is None:
                self.errors += 1
                return
            self.seconds.append(seconds)
            places = [(entity["label"], entity["fragments"]) for entity in found]
            self.other += places != self.first.setdefault(text, places)

    def measured(self, clients: int, seconds: float) -> dict[str, Any]:
        """What so many clients get in so many seconds."""
        self.seconds, self.errors, self.other = [], 0, 0
        started = perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(self.client, [started + seconds] * clients))
        passed = perf_counter() - started
        return {
            "clients": clients,
            "n": len(self.seconds),
            "errors": self.errors,
            "requests_per_second": round(len(self.seconds) / passed, 3),
            "p50_seconds": round(median(self.seconds), 3) if self.seconds else None,
            "p99_seconds": round(quantile(self.seconds, 0.99), 3) if self.seconds else None,
            "answers_other_than_the_first": self.other,
        }

    def batch(self, begun: Event, enough: Event) -> float:
        """Documents a second of a batch, as long as nobody has enough of it."""
        documents = [{"text": text} for text in islice(cycle(self._texts), BATCH)]
        body = {"documents": documents, "labels": LABELS}
        accept = {"Accept": "application/x-ndjson"}
        started, lines = perf_counter(), 0
        with httpx.stream(
            "POST", f"{self._address}/predict/batch", json=body, headers=accept, timeout=300
        ) as response:
            for _ in response.iter_lines():
                lines += 1
                begun.set()
                if enough.is_set():
                    break
        return lines / (perf_counter() - started)


def beside_a_batch(load: Load, seconds: float) -> dict[str, Any]:
    begun, enough = Event(), Event()
    with ThreadPoolExecutor(1) as pool:
        batch = pool.submit(load.batch, begun, enough)
        try:
            begun.wait(300)
            single = load.measured(1, seconds)
        finally:
            enough.set()
        return single | {"batch_documents_per_second": round(batch.result(), 3)}


def write_table(rows: Sequence[dict[str, Any]]) -> None:
    """A line for each load."""
    heads = [
        "requests a second",
        "p50, s",
        "p99, s",
        "n",
        "errors",
        "answers otherwise",
        "peak, MB",
    ]
    table = []
    for row in rows:
        who = f"{row['clients']} client{'s' if row['clients'] > 1 else ''}"
        if "beside" in row:
            who += f" beside {row['beside']} ({row['batch_documents_per_second']:.2f} a second)"
        cells = (
            *(f"{row['requests_per_second']:.2f}", f"{row['p50_seconds']:.1f}"),
            *(f"{row['p99_seconds']:.1f}", row["n"], row["errors"]),
            *(row["answers_other_than_the_first"], f"{row['peak_megabytes_so_far']:.0f}"),
        )
        table.append([who, *map(str, cells)])
    put("serve_load", ["", *heads], table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=40, help="for each of the four loads")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--page", action="store_true", help="write docs/measurements.md")
    parser.add_argument("options", nargs="*", help="of `cner serve`, behind --")
    arguments = parser.parse_args()
    rows = []
    with served(arguments.options) as (address, process):
        load = Load(address)
        with httpx.Client(base_url=address, timeout=300) as client:
            about = client.get("/version").json()
            for _ in range(3):  # the first ones pay for what is made once
                load.ask(client)
        for clients in CLIENTS:
            rows.append(load.measured(clients, arguments.seconds))
            rows[-1]["peak_megabytes_so_far"] = peak(process)
            print(rows[-1], file=sys.stderr)
        rows.append({"beside": f"a batch of {BATCH}", **beside_a_batch(load, arguments.seconds)})
        rows[-1]["peak_megabytes_so_far"] = peak(process)
        print(rows[-1], file=sys.stderr)
    result = {
        **circumstances((*PACKAGES, "uvicorn"), about["model"]),
        "format": about["format"],
        "options": arguments.options,
        "seconds_of_each": arguments.seconds,
        "rows": rows,
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }
    if arguments.output:
        write_json(result, arguments.output)
    print(json.dumps(result, indent=1))
    if arguments.page:
        write_table(rows)


if __name__ == "__main__":
    main()
