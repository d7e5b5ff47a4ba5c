"""The engine `ray`: workers that answer the chunks of a run side by side."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from constrained_ner.documents import Document
from constrained_ner.errors import InputError, ModelError
from constrained_ner.formats import FORMATS
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.prediction import Prediction
from constrained_ner.pipeline.runs import Chunk
from constrained_ner.pipeline.workers import Workers

ray = pytest.importorskip("ray", reason="an extra")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
FORMAT = FORMATS["multi_term"]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One that is started once for all of these tests, of this machine."""
    workers = Workers(lambda: None, failed, 2, cpus=1)  # type: ignore[arg-type,return-value]
    workers._connect(1)
    yield
    ray.shutdown()


def failed(document: Document | InputError, reason: str) -> Prediction:
    id = document.id if isinstance(document, Document) else ""
    return Prediction(id, "", formats=(FORMAT,), level=Level.FAITHFUL, error=reason)


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
    workers = Workers(lambda: Reader(log), failed, 2, cpus=1)  # type: ignore[arg-type,return-value]
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
    workers = Workers(lambda: None, failed, 1, address="nonsense:1")  # type: ignore[arg-type,return-value]
    with pytest.raises(InputError, match="no Ray cluster at 'nonsense:1'"):
        workers._connect(1)
