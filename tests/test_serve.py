"""The server: its own contract, its limits, requests that are answered together."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from constrained_ner import Extractor, __version__
from constrained_ner.documents import Document
from constrained_ner.formats import FORMATS
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.prediction import Prediction
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.runs import line_of
from constrained_ner.pipeline.scheduling import Job, answer_in_turns
from constrained_ner.pipeline.task import Task
from constrained_ner.serve.app import Limits, create_app
from constrained_ner.serve.guard import Guard
from constrained_ner.serve.worker import BusyError, StoppingError, Worker

LIMITS = Limits(characters=300, labels=4, waiting=8, documents=40, batch_characters=1000)
TEXT = "No fever 😀. Left knee pain."


@pytest.fixture(scope="module")
def extractor(tiny_folder: Path) -> Extractor:
    return Extractor(tiny_folder, batch_size=4, dtype="float32")  # near-ties are rare


@pytest.fixture(scope="module")
def client(extractor: Extractor) -> Iterator[TestClient]:
    with TestClient(create_app(extractor, LIMITS)) as client:
        yield client


def ask(client: TestClient, **body: Any) -> tuple[int, Any]:
    response = client.post("/predict", json={"text": TEXT, "labels": ["Disease"], **body})
    return response.status_code, response.json()


class Brief(Extractor):
    """Answers that do not run into the budgets of their texts: the model has learnt nothing."""

    def answering(self, task: Task, level: Level | str = Level.FAITHFUL, **rest: Any) -> Predictor:
        most = 40 if level == Level.FREE else 300 if "code" in task.formats[0].name else 150
        return super().answering(task, level, max_new_tokens=most, **rest)


@pytest.fixture(scope="module")
def brief(tiny_folder: Path) -> Iterator[TestClient]:
    extractor = Brief(tiny_folder, batch_size=4, dtype="float32")
    with TestClient(create_app(extractor, LIMITS)) as client:
        yield client


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(name: str, brief: TestClient) -> None:
    for level in Level:
        code, found = ask(
            brief, format=name, level=level, labels=["Disease", "Anatomy"], details=True
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
        ({"max_fragments": 2, "format": "multi_tag"}, 422, "multi_tag has no discontinuous"),
        ({"combine": "vote", "format": "multi_tag"}, 422, "there is multi_tag alone"),
        ({"min_confidence": 1.5}, 422, "less than or equal to 1"),
        ({"min_confidence": 0.5, "level": "free"}, 422, "min_confidence needs confidences"),
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
    both = {"Content-Type": "application/json", "Content-Length": "2"}
    both["Transfer-Encoding"] = "chunked"  # which counts
    assert client.post("/predict", content=b"{}", headers=both).status_code == 411


def test_broken_bodies(client: TestClient) -> None:
    lone = b'{"text": "x \\ud800", "labels": ["\\ud800"]}'
    typed = {"Content-Type": "application/json; charset=utf-8"}
    for path in ("/predict", "/predict/batch"):
        for data in (b"", b"{", b"\xff", b"[" * 10_000, lone):
            response = client.post(path, content=data, headers=typed)
            assert response.status_code in (400, 422), data[:20]
            assert response.json()["detail"]
        said = client.post(path, content=b'{"text": }', headers=typed)
        assert said.status_code == 400
        assert said.json()["detail"] == "the body is not JSON: Expecting value at offset 9"
        for kind in ("", "text/plain", "application/x-www-form-urlencoded"):
            response = client.post(path, content=b"text=x", headers={"Content-Type": kind})
            assert response.status_code == 415
            assert "expected Content-Type: application/json" in response.json()["detail"]


def test_health_version_and_page(client: TestClient) -> None:
    for path in ("/health", "/ready"):
        assert client.get(path).json() == {"status": "ok", "waiting": 0}
    versions = client.get("/version").json()
    assert versions["labels"] is None
    assert versions["format"] == "multi_term"
    assert versions["formats"] == list(FORMATS)
    assert versions["versions"]["constrained_ner"]
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "://" not in page.text  # nothing from elsewhere


def test_every_answer_says_what_made_it_and_is_not_kept(client: TestClient) -> None:
    for response in (client.get("/"), client.get("/nowhere"), client.post("/predict")):
        assert response.headers["CNER-Version"] == __version__
        assert response.headers["CNER-Model"]
        assert response.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]


def test_what_fails_inside_is_not_told_outside(
    extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise OSError("/secret/place")

    monkeypatch.setattr(extractor, "answering", broken)
    with TestClient(create_app(extractor, LIMITS), raise_server_exceptions=False) as client:
        code, answer = ask(client)
        headers = client.post("/predict", json={"text": "Knee pain."}).headers
    assert (code, answer) == (500, {"detail": "the server failed: its log says why"})
    assert headers["Cache-Control"] == "no-store"
    assert headers["CNER-Model"]


# ---- the docs


def test_the_docs_need_no_network(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert "://" not in page.text
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(addresses) == 3
    for address in addresses:
        assert client.get(address).status_code == 200
    assert client.get("/redoc").status_code == 404


def test_every_field_is_described(client: TestClient) -> None:
    contract = client.get("/openapi.json").json()
    told = contract["info"]["description"]
    for limit in ("300 characters", "4 labels", "40 documents", "1,000 characters", "8 requests"):
        assert limit in told
    for name, model in contract["components"]["schemas"].items():
        assert model["description"], name
        for field, schema in model.get("properties", {}).items():
            assert schema.get("description"), (name, field)


def test_the_examples_of_the_contract_can_be_run(scored_folder: Path) -> None:
    with TestClient(create_app(Extractor(scored_folder))) as client:
        contract = client.get("/openapi.json").json()
        for path, model in (("/predict", "Ask"), ("/predict/batch", "BatchAsk")):
            examples = contract["components"]["schemas"][model]["examples"]
            assert examples
            for example in examples:
                assert client.post(path, json=example).status_code == 200
        (record,) = contract["components"]["schemas"]["Found"]["examples"]
        prediction = Prediction.from_json(record)
        assert json.loads(line_of(prediction))["entities"] == record["entities"]
        assert prediction.text == contract["components"]["schemas"]["Ask"]["examples"][0]["text"]


# ---- batches


def test_a_batch_is_what_its_documents_are_alone(client: TestClient) -> None:
    texts = [f"{n}. {TEXT}" for n in range(5)]  # more than the model has rows
    settings = {"labels": ["Disease"], "format": "multi_tag"}
    body = {"documents": [{"text": text} for text in texts], **settings}
    results = client.post("/predict/batch", json=body).json()["results"]
    assert [result["id"] for result in results] == [str(n) for n in range(1, 6)]
    for text, result in list(zip(texts, results, strict=True))[::4]:
        alone = client.post("/predict", json={"text": text, **settings}).json()
        assert {**result, "id": "text"} == alone
    asked = {"Accept": "application/x-ndjson"}
    with client.stream("POST", "/predict/batch", json=body, headers=asked) as response:
        assert response.headers["content-type"] == "application/x-ndjson"
        assert [json.loads(line) for line in response.iter_lines()] == results
    assert client.get("/health").json()["waiting"] == 0


def test_a_bad_document_of_a_batch_loses_no_other(client: TestClient) -> None:
    documents = [
        {"id": "good", "text": TEXT},
        *({"id": 7, "text": " \n"}, {"text": "x" * 301}, {"id": "none"}, "a string", None),
        *({"id": "number", "text": 7}, {"text": "x", "more": 1}, {"id": "last", "text": TEXT}),
    ]
    lone = '{"id": "\\ud800", "text": "\\udc00"}'  # a half of a character is none
    body = json.dumps({"labels": ["Disease"], "documents": [*documents, "LONE"]})
    typed = {"Content-Type": "application/json"}
    for accept in ("application/json", "application/x-ndjson"):
        response = client.post(
            "/predict/batch",
            content=body.replace('"LONE"', lone),
            headers={**typed, "Accept": accept},
        )
        assert response.status_code == 200
        if accept == "application/json":
            results = response.json()["results"]
        else:
            results = [json.loads(line) for line in response.text.splitlines()]
        told = [(result["id"], result.get("error", "")) for result in results]
        assert [name for name, _ in told] == [
            *("good", "7", "3", "none", "5", "6", "number", "8", "last", "\\ud800"),
        ]
        errors = dict(told)
        assert errors["good"] == errors["last"] == ""
        for name, said in {
            "7": "the text is empty",
            "3": "301 characters: expected at most 300",
            "none": "text: Field required",
            "5": "valid dictionary",
            "6": "valid dictionary",
            "number": "text: Input should be a valid string",
            "8": "more: Extra inputs",
            "\\ud800": "lone surrogate",
        }.items():
            assert said in errors[name], name


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ({"documents": []}, 422, "at least 1 item"),
        ({}, 422, "Field required"),
        ({"documents": [{"text": "x"}] * 41}, 413, "41 documents: expected at most 40"),
        ({"documents": [{"text": "x" * 300}] * 4}, 413, "1200 characters together"),
        ({"documents": [{"text": "x" * 200_000}]}, 413, "bytes"),
        ({"documents": [{"text": "x"}], "format": "multi_xml"}, 422, "unknown format"),
        ({"documents": [{"text": "x"}], "text": "x"}, 422, "Extra inputs"),
        ({"documents": [{"text": "x"}], "labels": list("abcde")}, 422, "5 labels"),
    ],
)
def test_what_batches_are_refused(
    body: dict[str, Any], code: int, said: str, client: TestClient
) -> None:
    response = client.post("/predict/batch", json={"labels": ["Disease"], **body})
    assert response.status_code == code
    assert said in str(response.json()["detail"])


def test_a_failure_of_the_server_is_an_error_in_a_batch(
    extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Predictor.read

    def broken(self: Predictor, turn: Any, answer: Any) -> Any:
        if turn.document.id == "1":
            raise OSError("no such device")
        return whole(self, turn, answer)

    monkeypatch.setattr(Predictor, "read", broken)
    with TestClient(create_app(extractor, LIMITS)) as client:
        body = {"labels": ["Disease"], "documents": [{"text": TEXT}]}
        (result,) = client.post("/predict/batch", json=body).json()["results"]
        assert result == {"id": "1", "error": "the server failed: its log says why"}
        assert ask(client)[0] == 200  # the worker lives


# ---- confidence


def test_entities_below_a_confidence_are_left_out(client: TestClient) -> None:
    settings = {"format": "multi_tag", "labels": ["Disease", "Anatomy"]}
    _, every = ask(client, **settings)
    known = sorted(entity["confidence"] for entity in every["entities"])
    assert known
    least = known[len(known) // 2]
    for asked in (0.0, None, least, 1.0):
        _, found = ask(client, **settings, min_confidence=asked)
        # The record has four digits of what is compared.
        kept = [e for e in every["entities"] if e["confidence"] >= (asked or 0.0) + 1e-4]
        assert all(e in found["entities"] for e in kept)
        assert all(e["confidence"] >= (asked or 0.0) - 1e-4 for e in found["entities"])
        assert found["answers"] == every["answers"]


def test_a_text_of_one_mind(client: TestClient, extractor: Extractor) -> None:
    text = "Knee pain. No knee pain. Again knee pain, and a fever."
    settings = {"format": "multi_term", "labels": ["Disease", "Anatomy"], "consistent": True}
    _, found = ask(client, text=text, **settings, min_confidence=0)
    ours = extractor.extract(text, **settings, min_confidence=0).to_json()["entities"]
    assert ours
    assert [(e["label"], e["fragments"]) for e in found["entities"]] == [
        (e["label"], [list(span) for span in e["fragments"]]) for e in ours
    ]


# ---- notes


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
    app = create_app(extractor, replace(LIMITS, documents=3))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    results: list[Any] = list(schema.get_all_operations())
    operations = [result.ok() for result in results]
    assert {operation.label for operation in operations} == {
        *("POST /predict", "POST /predict/batch", "GET /health", "GET /ready", "GET /version"),
    }
    checks = [status_code_conformance, content_type_conformance, response_schema_conformance]
    with TestClient(app):  # the worker works as long as this lasts
        for operation in operations:
            if operation.method == "get" and mode is GenerationMode.NEGATIVE:
                continue  # nothing about them can be wrong

            @settings(
                max_examples=12,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def holds(case: Any) -> None:
                response = case.call(timeout=120)
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


def test_as_many_callers_as_there_may_be(extractor: Extractor) -> None:
    worker = Worker(2)
    predictor = extractor.predictor(["Disease"])
    outcomes = []
    with ExitStack() as callers:
        for _ in range(2):
            caller = callers.enter_context(worker.admit())
            outcomes += [caller.submit(predictor, Document("text", TEXT)) for _ in range(3)]
        with pytest.raises(BusyError, match="2 requests are being answered"):
            worker.admit()
        worker.close()
        assert all(outcome.result().text == TEXT for outcome in outcomes)
    assert not worker.alive
    with pytest.raises(StoppingError, match="the server is stopping"):
        worker.admit()


def test_a_full_server_says_so(extractor: Extractor) -> None:
    with TestClient(create_app(extractor, replace(LIMITS, waiting=1))) as client:
        app: Any = client.app
        with app.state.worker.admit():
            for path in ("/predict", "/predict/batch"):
                response = client.post(path, json={"text": TEXT})
                assert response.status_code == 429
                assert response.headers["Retry-After"] == "5"
            assert client.get("/ready").status_code == 503
            assert client.get("/health").status_code == 200
        assert client.get("/ready").status_code == 200
        app.state.worker.close()
        for path in ("/ready", "/health"):
            assert client.get(path).status_code == 503
        assert ask(client)[0] == 503


def test_bodies_that_are_on_their_way_are_counted(extractor: Extractor) -> None:
    """Each may be large, and take as long as its sender likes."""
    most, statuses, held = 2, [], []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        held.append(guard._inside)
        if len(held) < 4:
            await post()  # another one comes while this one is here
        await JSONResponse({})(scope, receive, send)

    async def post() -> None:
        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
        scope = {"type": "http", "path": "/predict", "method": "POST", "headers": headers}
        await guard({**scope, "app": server}, no_message, send)

    async def no_message() -> Message:
        return {"type": "http.disconnect"}

    server = FastAPI()
    server.state.worker = Worker(most)
    guard = Guard(app, {"/predict": 100}, {})
    try:
        asyncio.run(post())
        assert (held, statuses) == ([1, 2], [429, 200, 200])
        asyncio.run(post())
        assert held == [1, 2, 1, 2]
    finally:
        server.state.worker.close()


def test_a_body_that_does_not_come_gives_its_place_back(
    extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("constrained_ner.serve.guard.BODY_SECONDS", 0.2)
    app = create_app(extractor, replace(LIMITS, waiting=1))
    pieces = iter([{"type": "http.request", "body": b"{", "more_body": True}])
    sent: list[Message] = []

    async def stalled() -> Message:
        for piece in pieces:
            return piece
        await asyncio.sleep(60)
        raise AssertionError("nobody waits so long")

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"9")]
    scope = {"type": "http", "path": "/predict", "method": "POST", "headers": headers}
    with TestClient(app) as client:
        asyncio.run(app({**scope, "query_string": b"", "app": app}, stalled, send))
        assert sent[0]["status"] == 408
        assert b"not whole in 0.2 s" in sent[1]["body"]
        assert ask(client)[0] == 200  # there is a place again


class Panic(BaseException):
    """As pyo3 has it for libraries in Rust."""


@pytest.mark.parametrize(("error", "told"), [(OSError, OSError), (Panic, RuntimeError)])
def test_an_error_leaves_the_worker_alive(
    error: type[BaseException],
    told: type[Exception],
    extractor: Extractor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Worker(4)
    predictor = extractor.predictor(["Disease"])

    def broken(*_: Any) -> Any:
        raise error("no such device")

    with worker.admit() as caller:
        with monkeypatch.context() as patch:
            patch.setattr(Predictor, "turns", broken)
            failed = caller.submit(predictor, Document("a", TEXT))
            with pytest.raises(told, match="no such device"):
                failed.result(60)
        assert caller.submit(predictor, Document("b", TEXT)).result(60).text == TEXT
    worker.close()


def test_owners_take_turns(extractor: Extractor) -> None:
    """A caller with many documents does not keep a later one with a single one waiting."""
    predictor = extractor.predictor(["Disease"])
    jobs = [Job(predictor, Document(str(n), TEXT), owner="many") for n in range(16)]
    for owner, first, last in (("one", 1, 8), ("many", 12, 16)):
        other = Job(predictor, Document("other", TEXT), owner=owner)
        done: list[Job] = []

        def arriving(other: Job = other, done: list[Job] = done) -> Iterator[Job | None]:
            yield from jobs
            while not done:
                yield None
            yield other

        for job, prediction in answer_in_turns(arriving()):
            assert prediction.id == getattr(job.document, "id", None)
            done.append(job)
        assert sorted(map(id, done)) == sorted(map(id, [*jobs, other]))
        assert first <= done.index(other) <= last


def documents_of(method: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The documents that a method of predictors is called for, by and by."""
    found: list[str] = []
    original = getattr(Predictor, method)

    def counted(self: Predictor, about: Any) -> Any:
        found.append(getattr(about, "document", about).id)  # of a turn, or one itself
        return original(self, about)

    monkeypatch.setattr(Predictor, method, counted)
    return found


def test_what_is_abandoned_is_not_asked(
    extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = documents_of("request", monkeypatch)
    predictor = extractor.predictor(["Disease"])
    long = Job(predictor, Document("long", f"{TEXT} " * 40), owner="long")
    short = Job(predictor, Document("short", TEXT), owner="short")
    told = []
    for job, _ in answer_in_turns([long, short]):
        told.append(job)
        long.abandoned = True
    assert told == [short]
    assert asked.count("long") < 30  # of 80 sentences


def test_documents_are_cut_shortly_before_they_are_asked_about(
    extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = documents_of("turns", monkeypatch)
    predictor = extractor.predictor(["Disease"])
    texts = ["", f"{TEXT} " * 9, *[TEXT] * 30]
    jobs = [Job(predictor, Document(str(n), text), "many") for n, text in enumerate(texts)]
    known = [len(cut) for _ in answer_in_turns(jobs)]
    assert known[0] < 10
    assert sorted(cut) == sorted(str(n) for n in range(len(texts)))
    assert len(known) == len(jobs)
