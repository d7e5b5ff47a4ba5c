"""The server: its own contract, its limits, requests that are answered together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from constrained_ner import Extractor
from constrained_ner.documents import Document
from constrained_ner.formats import FORMATS
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.runs import line_of
from constrained_ner.serve.app import Limits, create_app
from constrained_ner.serve.worker import BusyError, Worker

LIMITS = Limits(characters=300, labels=4, waiting=8)
TEXT = "No fever 😀. Left knee pain."


@pytest.fixture(scope="module")
def extractor(tiny_folder: Path) -> Extractor:
    return Extractor(tiny_folder, batch_size=4)


@pytest.fixture(scope="module")
def client(extractor: Extractor) -> Iterator[TestClient]:
    with TestClient(create_app(extractor, LIMITS)) as client:
        yield client


def ask(client: TestClient, **body: Any) -> tuple[int, Any]:
    response = client.post("/predict", json={"text": TEXT, "labels": ["Disease"], **body})
    return response.status_code, response.json()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(name: str, client: TestClient) -> None:
    for level in Level:
        code, found = ask(
            client, format=name, level=level, labels=["Disease", "Anatomy"], details=True
        )
        assert code == 200, found
        assert (found["text"], found["format"], found["level"]) == (TEXT, name, level)
        assert len({tuple(answer["segment"]) for answer in found["answers"]}) == 2
        for answer in found["answers"]:
            start, end = answer["segment"]
            assert TEXT[start:end] in answer["prompt"]
            assert (answer["grammar"] is None) == (level is Level.FREE)
            if level is not Level.FREE:
                assert answer["parses"]
        for entity in found["entities"]:
            pieces = [TEXT[start:end] for start, end in entity["fragments"]]
            assert entity["surface"] == " ".join(pieces)


def test_the_answer_is_the_record_that_predict_writes(
    client: TestClient, extractor: Extractor
) -> None:
    _, found = ask(client, format="multi_tag")
    (prediction,) = extractor.predictor(["Disease"], "multi_tag").predict([Document("text", TEXT)])
    assert found == {**json.loads(line_of(prediction)), "notes": []}
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert "code points of the text" in schemas["EntityRecord"]["description"]
    assert set(found) <= set(schemas["Found"]["properties"])
    assert set(found["answers"][0]) <= set(schemas["AnswerRecord"]["properties"])


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ({"text": " \n"}, 422, "the text is empty"),
        ({"text": "x" * 301}, 413, "301 characters: expected at most 300"),
        ({"text": "x" * 200_000}, 413, "bytes"),
        ({"labels": list("abcde")}, 422, "5 labels: expected at most 4"),
        ({"labels": ["a", "a"]}, 422, "asked for twice"),
        ({"labels": None}, 422, "expected labels"),
        ({"labels": []}, 422, "labels"),
        ({"format": "multi_xml"}, 422, "unknown format 'multi_xml'"),
        ({"level": "strict"}, 422, "faithful"),
        ({"segment": "line"}, 422, "unknown segment 'line'"),
        ({"max_fragments": 9}, 422, "less than or equal to 8"),
        ({"temperature": 1}, 422, "Extra inputs"),
        ({"text": 7}, 422, "valid string"),
    ],
)
def test_what_is_refused(body: dict[str, Any], code: int, said: str, client: TestClient) -> None:
    found, answer = ask(client, **body)
    assert found == code
    assert said in str(answer["detail"])


def test_a_body_says_how_long_it_is(client: TestClient) -> None:
    """Else it would be read to its end before it could be refused."""
    pieces = (b" " * 1000 for _ in range(3))
    assert client.post("/predict", content=pieces).status_code == 411


def test_broken_bodies(client: TestClient) -> None:
    lone = b'{"text": "x \\ud800", "labels": ["\\ud800"]}'
    for data in (b"", b"{", b"\xff", b"[" * 10_000, lone):
        for headers in ({}, {"Content-Type": "application/json"}):
            response = client.post("/predict", content=data, headers=headers)
            assert response.status_code in (400, 422), data[:20]
            assert response.json()["detail"]


def test_health_version_and_page(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok", "waiting": 0}
    versions = client.get("/version").json()
    assert versions["labels"] is None
    assert versions["format"] == "multi_term"
    assert versions["versions"]["constrained_ner"]
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "://" not in page.text  # nothing from elsewhere


def test_what_the_model_may_fail_at_is_told(scored_folder: Path) -> None:
    with TestClient(create_app(Extractor(scored_folder), LIMITS)) as client:
        assert client.get("/version").json()["format"] == "multi_tag"
        _, found = ask(client)
        assert (found["format"], found["notes"]) == ("multi_tag", [])
        _, found = ask(client, format="multi_term", labels=["Genes"])
        assert [note.split(" are ")[0] for note in found["notes"]] == [
            "answers in multi_term",
            "the model was never asked for Genes (nearest: Gene) in training; it knows "
            "Disease, Gene",
        ]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_its_own_contract(mode: GenerationMode, extractor: Extractor) -> None:
    app = create_app(extractor, LIMITS)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    results: list[Any] = list(schema.get_all_operations())
    operations = [result.ok() for result in results]
    assert {operation.label for operation in operations} == {
        *("POST /predict", "GET /health", "GET /version"),
    }
    checks = [status_code_conformance, content_type_conformance, response_schema_conformance]
    with TestClient(app):  # the worker works as long as this lasts
        for operation in operations:
            if operation.method == "get" and mode is GenerationMode.NEGATIVE:
                continue  # nothing about them can be wrong

            @settings(
                max_examples=30,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def holds(case: Any) -> None:
                response = case.call()
                assert response.status_code < 500
                case.validate_response(response, checks=checks)

            holds()


def test_requests_are_answered_together(extractor: Extractor) -> None:
    """Whatever their formats and levels; the answers are those of each alone."""
    with TestClient(create_app(extractor, LIMITS)) as client:
        bodies = [
            {"text": TEXT, "labels": ["Disease"], "format": name, "level": level}
            for name in ("multi_term", "conv_term")
            for level in ("faithful", "free", "syntax")
        ]
        alone = [client.post("/predict", json=body).json() for body in bodies]
        with ThreadPoolExecutor(6) as pool:
            together = list(
                pool.map(lambda body: client.post("/predict", json=body).json(), bodies)
            )
    for one, other in zip(alone, together, strict=True):
        assert [a["answer"] for a in one["answers"]] == [a["answer"] for a in other["answers"]]


def test_a_full_queue_and_a_worker_that_ends(extractor: Extractor) -> None:
    worker = Worker(2)
    predictor = extractor.predictor(["Disease"])
    document = Document("text", TEXT)
    outcomes = []

    def fill() -> None:
        while True:
            outcomes.append(worker.submit(predictor, document))

    with pytest.raises(BusyError, match="2 requests are waiting"):
        fill()
    worker.close()
    assert all(outcome.result().text == TEXT for outcome in outcomes)
    assert not worker.alive


def test_an_error_leaves_the_worker_alive(
    extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(4)
    predictor = extractor.predictor(["Disease"])

    def broken(*_: Any) -> Any:
        raise OSError("no such device")

    with monkeypatch.context() as patch:
        patch.setattr("constrained_ner.serve.worker.answer", broken)
        failed = worker.submit(predictor, Document("a", TEXT))
        with pytest.raises(OSError, match="no such device"):
            failed.result(60)
    assert worker.submit(predictor, Document("b", TEXT)).result(60).text == TEXT
    worker.close()
