"""The engine `ray`: workers that answer the chunks of a run side by side."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from constrained_ner.documents import Document
from constrained_ner.errors import InputError, MissingExtraError, ModelError
from constrained_ner.formats import FORMATS
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.prediction import Prediction
from constrained_ner.pipeline.runs import Chunk
from constrained_ner.pipeline.workers import Workers

ray = pytest.importorskip("ray", reason="an extra")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
FORMAT = FORMATS["multi_term"]


@pytest.fixture(scope="module", autouse=True)
def ended() -> Iterator[None]:
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def cluster() -> None:
    """One of this machine with room for two workers, the same for all of these tests."""
    if not ray.is_initialized():
        Workers(no_predictor, failed, 2, cpus=1)._connect()


def no_predictor() -> Any:
    """For what ends before there is a worker."""


def failed(document: Document | InputError, reason: str) -> Prediction:
    id = document.id if isinstance(document, Document) else ""
    return Prediction(id, "", formats=(FORMAT,), level=Level.FAITHFUL, error=reason)


def test_a_cluster_that_is_gone_is_no_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tells of it is an error of the system, too."""

    def gone(*_: Any) -> Any:
        raise ConnectionError("Client is shutting down.")

    workers = Workers(no_predictor, failed, 1)
    monkeypatch.setattr(Workers, "_predict_chunks", gone)
    with pytest.raises(ModelError, match=r"the cluster is gone: .*shutting down"):
        list(workers.predict_chunks([]))


class Reader:
    """Stands in for a predictor where what matters is what happens to its process."""

    def __init__(self, log: Path):
        self.log = log

    def predict(self, documents: list[Document]) -> Iterator[Prediction]:
        for document in documents:
            with self.log.open("a") as file:
                file.write(f"{document.id}\n")
            if document.text == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if document.text == "dies once" and self.log.read_text().split().count(document.id) < 2:
                os.kill(os.getpid(), signal.SIGKILL)
            if document.text == "raises":
                raise ZeroDivisionError("by nought")
            if document.text == "no model":
                raise ModelError("no model 'm'")
            yield Prediction(document.id, document.text, formats=(FORMAT,), level=Level.FAITHFUL)


def answered(tmp_path: Path, *texts: str, size: int = 2) -> tuple[list[Prediction], list[str]]:
    log = tmp_path / "log"

    def reader() -> Any:
        return Reader(log)

    workers = Workers(reader, failed, 2, cpus=1).start()
    documents: Chunk = [Document(str(i), text) for i, text in enumerate(texts)]
    chunks = [documents[at : at + size] for at in range(0, len(documents), size)]
    found = [one for chunk in workers.predict_chunks(chunks) for one in chunk]
    return found, log.read_text().split()


def test_chunks_come_in_their_order_and_each_once(tmp_path: Path) -> None:
    found, log = answered(tmp_path, *["a"] * 23)
    assert [one.id for one in found] == [str(i) for i in range(23)]
    assert sorted(log, key=int) == [str(i) for i in range(23)]


def test_a_chunk_whose_worker_is_lost_is_answered_again(tmp_path: Path) -> None:
    found, log = answered(tmp_path, *["a"] * 5, "dies once", *["a"] * 4)
    assert [one.id for one in found] == [str(i) for i in range(10)]
    assert not any(one.error for one in found)
    assert log.count("5") == 2


def test_a_document_that_takes_its_worker_with_it_is_left_out_alone(tmp_path: Path) -> None:
    found, _ = answered(tmp_path, "a", "dies", "a", "raises", "a")
    errors = [one.error for one in found]
    assert errors[0] is errors[2] is errors[4] is None
    assert re.match("its worker was lost 3 times", str(errors[1]))
    assert errors[3] == "ZeroDivisionError: by nought"


def test_what_is_no_fault_of_a_document_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model 'm'"):
        answered(tmp_path, "a", "no model")


def test_no_cluster_at_an_address() -> None:
    ray.shutdown()
    with pytest.raises(InputError, match="no Ray cluster at 'nonsense'"):
        Workers(no_predictor, failed, 1, address="nonsense").start()


def test_more_than_this_machine_has() -> None:
    with pytest.raises(InputError, match=r"takes 99 GPUs, and this machine has \d+"):
        Workers(no_predictor, failed, 1, cpus=1, gpus=99).start()


def test_a_worker_that_cannot_start() -> None:
    def without_vllm() -> Any:
        raise MissingExtraError("the engine vllm", "vllm")

    with pytest.raises(MissingExtraError, match="the engine vllm: pip install"):
        Workers(without_vllm, failed, 1, cpus=1).start()

    def broken() -> Any:
        raise ZeroDivisionError("by nought")

    with pytest.raises(ModelError, match="cannot start: ZeroDivisionError: by nought"):
        Workers(broken, failed, 1, cpus=1).start()


def test_workers_that_are_lost_are_no_documents_fault(tmp_path: Path) -> None:
    def reader() -> Any:
        return Reader(tmp_path / "log")

    workers = Workers(reader, failed, 2, cpus=1).start()
    while workers._starting:
        workers._greet(next(iter(workers._starting)))
    chunks: list[Chunk] = [[Document(str(i), "a")] for i in range(60)]
    found = workers.predict_chunks(chunks)
    answers = [*next(found)]
    ray.kill(workers._ready[0])  # as if its machine were gone: it does not come back
    for chunk in found:
        answers += chunk
        if len(answers) == 50:
            ray.kill(workers._ready[0])
            break
    assert [one.id for one in answers] == [str(i) for i in range(50)]
    assert not any(one.error for one in answers)
    with pytest.raises(ModelError, match="all workers are lost"):
        list(found)


def test_one_that_has_no_place_yet_takes_over_from_one_that_is_lost(tmp_path: Path) -> None:
    def reader() -> Any:
        return Reader(tmp_path / "log")

    workers = Workers(reader, failed, 2, cpus=2).start()  # there is room for one of them
    found = workers.predict_chunks([[Document(str(i), "a")] for i in range(30)])
    answers = [*next(found)]
    assert workers._starting
    ray.kill(workers._ready[0])
    answers += [one for chunk in found for one in chunk]
    assert [one.id for one in answers] == [str(i) for i in range(30)]
    assert not any(one.error for one in answers)
