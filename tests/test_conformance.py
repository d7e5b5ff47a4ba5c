"""The same answers and the same guarantee, whoever decodes.

The engines of others run where they are installed: vLLM in this process, and its server in one of
its own.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from socket import socket
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from benchmarks.always_parses import judge
from constrained_ner.engines import choose_engine
from constrained_ner.engines.base import Answer, Chosen, Request
from constrained_ner.engines.completion import shortest_answer
from constrained_ner.engines.models import LoadedModel, wrap
from constrained_ner.engines.server import Server, connect
from constrained_ner.engines.vllm import vllm_engine
from constrained_ner.formats import FORMATS
from constrained_ner.formats.grammar import Level
from constrained_ner.words import shared_prefix
from tests.support.adversaries import Task, draw_task
from tests.support.loopback import Loopback, serving
from tests.support.models import tiny_llama

pytestmark = pytest.mark.filterwarnings("default")  # vLLM's own
OURS = ("speculative", "reference")
ENGINES = (*OURS, "a server of ours", "vllm", "vllm's server")
KINDS = ("plain", "white space", "repeats", "runs", "special tokens", "long labels")
TEXTS = (
    "left knee pain",
    "CD28 of the colon \N{GREEK SMALL LETTER BETA}-cells <end> is; a \\ gene",
)
LABELS = ("finding", "gene")
NEAR = 0.05  # of two log-probabilities that rounding may turn round
_VLLM = {"max_model_len": 2048, "enforce_eager": True, "gpu_memory_utilization": 0.2}


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return wrap("tiny", *tiny_llama(size=64))  # vLLM knows no smaller heads


@pytest.fixture(scope="module", params=ENGINES)
def chosen(
    request: pytest.FixtureRequest, model: LoadedModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chosen]:
    if request.param in OURS:
        yield choose_engine(request.param, model)
    elif request.param == "a server of ours":
        with serving(Loopback(model)) as server:
            yield connect(Server(server.url)).engine
    elif find_spec("vllm") is None:
        pytest.skip("vLLM is not installed: it needs an environment of its own")
    else:
        folder = tmp_path_factory.mktemp("model")
        bare: Any = model.steerable.model
        bare.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
        if request.param == "vllm":
            yield vllm_engine(folder, dtype="float32", options=_VLLM)
        else:
            with vllm_server(folder) as url:
                yield connect(Server(url)).engine


@contextmanager
def vllm_server(folder: Path) -> Iterator[str]:
    """vLLM's own server on loopback."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--port", str(port), "--dtype", "float32", "--max-model-len", "2048"]
    command += ["--gpu-memory-utilization", "0.2", "--enforce-eager"]
    command += ["--structured-outputs-config.backend", "guidance"]
    command += ["--logprobs-mode", "processed_logprobs"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(240):
            try:
                urlopen(f"http://127.0.0.1:{port}/health").close()
                break
            except (URLError, ConnectionError):
                assert process.poll() is None, (folder / "log").read_text()[-3000:]
                time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def decoded(
    chosen: Chosen, model: LoadedModel, tasks: list[Task], budgets: list[int], **options: Any
) -> list[Answer]:
    """The answers to tasks of all formats at once, five at a time."""
    rng = random.Random(1)
    requests = [
        Request(
            rng.choices(range(5, len(model.tokenizer)), k=rng.randint(3, 9)),
            budget,
            task.grammar,
            name=f"{task.format.name}, {task.kind}",
            key=i,
        )
        for i, (task, budget) in enumerate(zip(tasks, budgets, strict=True))
    ]
    found: dict[int, Answer] = {}
    waiting = iter(requests)
    for request, answer in chosen.make(model, 5, **options).decode(lambda: next(waiting, None)):
        assert isinstance(answer, Answer), answer
        found[request.key] = answer
    return [found[i] for i in range(len(requests))]


def test_every_answer_keeps_its_promises(chosen: Chosen, model: LoadedModel) -> None:
    rng = random.Random(7)
    # Every second kind of input for each format, so that neighbours have the others.
    kinds = list(KINDS)
    tasks = [
        draw_task(rng, name, kind) for i, name in enumerate(FORMATS) for kind in kinds[i % 2 :: 2]
    ]
    budgets = []
    for task in tasks:
        matcher = model.vocabulary.matcher(task.grammar)
        shortest = len(shortest_answer(matcher, task.grammar, model.vocabulary))
        budgets.append(shortest + rng.choice([0, 1, 5, 20, 60]))
    answers = decoded(chosen, model, tasks, budgets)
    for task, answer, budget in zip(tasks, answers, budgets, strict=True):
        # What others decode is finished behind their limit, and may be longer by that.
        most = budget if chosen.name in OURS else len(answer.tokens)
        fault = judge(task, list(answer.tokens), most, model.vocabulary)
        assert fault is None, (task, answer.text, fault)
        assert answer.guaranteed


@pytest.fixture(scope="module")
def token_by_token(model: LoadedModel) -> tuple[list[Task], list[int], list[Answer]]:
    """Tasks, their budgets, and the answers to them."""
    tasks = []
    for format in FORMATS.values():
        for text in TEXTS:
            labels = LABELS[:1] if format.one_label else LABELS
            grammar = format.grammar(text, labels, Level.FAITHFUL)
            tasks.append(Task(format, Level.FAITHFUL, text, labels, grammar))
    budgets = [200] * len(tasks)
    reference = choose_engine("reference", model)
    return tasks, budgets, decoded(reference, model, tasks, budgets, record=True)


def test_answers_are_those_of_token_by_token_decoding(
    chosen: Chosen, model: LoadedModel, token_by_token: tuple[list[Task], list[int], list[Answer]]
) -> None:
    tasks, budgets, expected = token_by_token
    found = decoded(chosen, model, tasks, budgets, record=True)
    whole = [
        (one, other)
        for one, other in zip(found, expected, strict=True)
        if not (one.forced or other.forced)
    ]
    assert len(whole) >= 6
    for one, other in whole:
        if one.text != other.text:
            place = shared_prefix(one.tokens, other.tokens)
            assert abs(one.steps[place].masked - other.steps[place].masked) < NEAR
