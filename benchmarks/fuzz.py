"""Do readers give documents or errors of ours, whatever a file holds?

    python -m benchmarks.fuzz --minutes 60

A coverage-guided fuzzer (atheris, of the extra `bench`) makes files of what the tests and our own
writers have as good ones; each is read as the format that it is of, and as what it looks like. A
fault is any exception but `InputError`, a record that is none, and a file that takes longer than
twenty seconds or more memory than 2 GB, which ends the run. Faults of the same place count as one.
Results go to benchmarks/results/fuzz.json. The server is fuzzed by schemathesis:

    cner serve --max-characters 400 &
    schemathesis run http://127.0.0.1:8000/openapi.json --mode all --max-time 3600
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from constrained_ner.atomic import write_json

from .machine import circumstances

RESULTS = Path(__file__).parent / "results" / "fuzz.json"
FORMATS_WRITTEN = ("label_studio", "prodigy", "doccano", "csv")  # of which the tests have no file
TIMEOUT, MEMORY = 20, 2048  # seconds of a file, MB of the process
# The process that the fuzzer runs in, and which it ends. It watches what it has imported itself.
FUZZ = """
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["constrained_ner.corpora", "constrained_ner.words"]):
    import constrained_ner.corpora
from benchmarks.fuzz import read_damaged

folder, faults, *options = sys.argv[1:]
atheris.Setup([sys.argv[0], *options], read_damaged(Path(folder), Path(faults)))
atheris.Fuzz()
"""


def seeds() -> list[tuple[str, str, bytes, tuple[str, bytes] | None]]:
    """Good files: what format, the file's name, what it holds, and a file beside it."""
    from constrained_ner.corpora import INPUT_FORMATS, OUTPUT_FORMATS, write
    from constrained_ner.documents import Document, Entity
    from tests.test_readers import OTHERS, SAMPLES

    found = [(name, *SAMPLES[name], OTHERS.get(name)) for name in INPUT_FORMATS if name in SAMPLES]
    document = Document("a", "Aspirin, helped", (Entity("Drug", ((0, 7),)),))
    for name in FORMATS_WRITTEN:
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"a{OUTPUT_FORMATS[name].suffixes[0]}"
            write([document], path, name)
            read_as = name if name in INPUT_FORMATS else "table"
            found.append((read_as, path.name, path.read_bytes(), None))
    return found


def read_damaged(folder: Path, faults: Path) -> Callable[[bytes], None]:
    """What to do with what the fuzzer makes: its first byte says of which format it is."""
    from constrained_ner.corpora import read
    from constrained_ner.documents import Document
    from constrained_ner.errors import InputError

    logging.disable(logging.CRITICAL)
    files = seeds()
    known: set[str] = set()

    def one(data: bytes) -> None:
        name, file, _, other = files[data[0] % len(files)] if data else files[0]
        place = folder / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data[1:])
        if other is not None:
            beside = folder / other[0]
            beside.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(other[1])
        path = place if other is None else folder
        for given in (name, None):
            try:
                for record in read(path, given):
                    if not isinstance(record, Document | InputError):
                        raise TypeError(f"a record of {type(record).__name__}")
            except InputError:
                pass
            except Exception as error:  # whatever else it is, is what is looked for
                at = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno}"
                if where not in known:
                    known.add(where)
                    fault = {"where": where, "what": str(error)[:200], "format": name}
                    with faults.open("a", encoding="utf-8") as log:
                        log.write(json.dumps(fault | {"content": repr(data[1:])}) + "\n")
        for path in (place, *([folder / other[0]] if other else [])):
            path.unlink()

    return one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with TemporaryDirectory() as work:
        place = Path(work)
        (place / "corpus").mkdir()
        (place / "read").mkdir()
        files = seeds()
        for at, (_, _, content, _) in enumerate(files):
            (place / "corpus" / str(at)).write_bytes(bytes([at]) + content)
        options = [
            *(f"-max_total_time={round(60 * arguments.minutes)}", f"-seed={arguments.seed}"),
            *(f"-timeout={TIMEOUT}", f"-rss_limit_mb={MEMORY}", "-print_final_stats=1"),
            *(f"-artifact_prefix={place}/", "-max_len=4096", str(place / "corpus")),
        ]
        log = place / "faults"
        command = [sys.executable, "-c", FUZZ, str(place / "read"), str(log), *options]
        said = subprocess.run(command, capture_output=True, text=True, errors="replace").stderr
        faults: list[Any] = []
        if log.exists():
            faults = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
        for stopped in (*place.glob("timeout-*"), *place.glob("oom-*"), *place.glob("crash-*")):
            faults.append({"where": stopped.name, "content": repr(stopped.read_bytes())})
    number = re.compile(r"stat::number_of_executed_units:\s*(\d+)").search(said)
    coverage = re.findall(r"cov: (\d+)", said)
    if number is None or not coverage:
        raise SystemExit(f"the fuzzer did not run: {said[-2000:]}")
    found = {
        "minutes": arguments.minutes,
        "seed": arguments.seed,
        "files": int(number[1]),
        "edges_at_first": int(coverage[0]),
        "edges": int(coverage[-1]),
        "formats": sorted({name for name, *_ in files}),
        "faults": faults,
        "python": platform.python_version(),
        **circumstances(("constrained_ner", "atheris")),
    }
    write_json(found, arguments.output)
    print(json.dumps(found, indent=1))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
