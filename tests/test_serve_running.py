"""The server as it runs: sockets, readers who go away, the end; and its page in a browser."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from fastapi.responses import HTMLResponse

from constrained_ner import Extractor
from constrained_ner.errors import InputError
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.serve.app import create_app
from constrained_ner.serve.running import Server, bind
from tests.support.browser import browser, probe, told_by
from tests.support.commands import cner

TEXT = "No fever. Left knee pain. "
ASKED = {"text": TEXT, "labels": ["Disease"]}
NDJSON = {"Accept": "application/x-ndjson"}


@pytest.fixture(scope="module")
def extractor(tiny_folder: Path) -> Extractor:
    return Extractor(tiny_folder, batch_size=4)


@contextmanager
def running(extractor: Extractor, grace: float = 60) -> Iterator[tuple[Server, httpx.Client]]:
    """A server, and a client that speaks to it."""
    place = bind("127.0.0.1", 0)
    server = Server(create_app(extractor), grace)
    thread = Thread(target=server.run, kwargs={"sockets": [place]})
    thread.start()
    wait_for(lambda: server.started)
    base = f"http://127.0.0.1:{place.getsockname()[1]}"
    try:
        with httpx.Client(base_url=base, timeout=120) as client:
            yield server, client
    finally:
        server.should_exit = True
        thread.join()


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)


def test_readers_who_go_away_are_not_answered(
    extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    request = Predictor.request

    def counted(self: Predictor, turn: Any) -> Any:
        asked.append(turn)
        return request(self, turn)

    monkeypatch.setattr(Predictor, "request", counted)
    with running(extractor) as (server, client):
        worker = server.app.state.worker
        long = {**ASKED, "text": TEXT * 700}
        batch = {"labels": ["Disease"], "documents": [{"text": TEXT * 10}] * 100}
        for path, body in (("/predict", long), ("/predict/batch", batch)):
            with pytest.raises(httpx.ReadTimeout):
                client.post(path, json=body, timeout=0.5)
            wait_for(lambda: worker.callers == 0)
        assert len(asked) < 1400  # of 1,400 and 2,000 sentences
        with client.stream("POST", "/predict/batch", json=batch, headers=NDJSON) as response:
            lines = response.iter_lines()
            assert json.loads(next(lines))["id"] == "1"
            assert client.get("/health").json()["waiting"] == 1
        wait_for(lambda: worker.callers == 0)
        assert client.post("/predict", json=ASKED).status_code == 200


def test_a_batch_does_not_keep_others_waiting(extractor: Extractor) -> None:
    with running(extractor) as (_, client), ThreadPoolExecutor(1) as pool:
        batch = {"labels": ["Disease"], "documents": [{"text": TEXT}] * 60}
        whole = pool.submit(client.post, "/predict/batch", json=batch)
        wait_for(lambda: client.get("/health").json()["waiting"] == 1)
        for _ in range(3):
            assert client.post("/predict", json=ASKED).status_code == 200
        assert not whole.done()
        assert len(whole.result().json()["results"]) == 60


def test_the_end_waits_for_answers(extractor: Extractor) -> None:
    with running(extractor) as (server, client), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.post, "/predict", json={**ASKED, "text": TEXT * 4})
        wait_for(lambda: server.app.state.worker.callers == 1)
        server.should_exit = True
        assert asked.result().status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(client.base_url)


def test_the_end_does_not_wait_for_ever(extractor: Extractor) -> None:
    with running(extractor, grace=0.2) as (server, client), ThreadPoolExecutor(2) as pool:
        alone = pool.submit(client.post, "/predict", json={**ASKED, "text": TEXT * 300})
        batch = {"labels": ["Disease"], "documents": [{"text": TEXT * 2}] * 200}
        many = pool.submit(client.post, "/predict/batch", json=batch)
        wait_for(lambda: server.app.state.worker.callers == 2)
        time.sleep(0.5)
        server.should_exit = True
        refused = alone.result()
        assert refused.status_code == 503
        assert refused.json() == {"detail": "the server is stopping"}
        assert refused.headers["Retry-After"]
        results = many.result().json()["results"]
        assert len(results) == 200
        assert results[-1] == {"id": "200", "error": "the server is stopping"}


def test_bodies_that_are_too_long_or_come_in_part(extractor: Extractor) -> None:
    with running(extractor) as (_, client):
        typed = {"Content-Type": "application/json"}
        response = client.post("/predict", content=b" " * 30_000_000, headers=typed)
        assert response.status_code == 413
        assert response.json() == {"detail": "expected at most 340000 bytes"}
        place = client.base_url.host, client.base_url.port or 0
        with socket.create_connection(place) as half:
            half.sendall(
                b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
                b'Content-Length: 100\r\n\r\n{"text"'
            )
            assert client.post("/predict", json=ASKED).status_code == 200
        assert client.get("/health").json()["waiting"] == 0


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen at 127.0.0.1:{port}: Address already"):
            bind("127.0.0.1", port)
        # Before the model is loaded: there is none.
        done = cner("serve", "--model", tmp_path / "nothing", "--port", str(port))
        assert done.exit_code == 1
        assert f"cannot listen at 127.0.0.1:{port}" in done.output
    assert (
        "cannot listen at nowhere.invalid:80"
        in cner(*("serve", "--host", "nowhere.invalid", "--port", "80")).output
    )
    assert "cannot listen at a..b:80: " in cner("serve", "--host", "a..b", "--port", "80").output


def test_the_command(tiny_folder: Path) -> None:
    """It says where it is, answers, and ends by SIGTERM with what it was asked before answered."""
    command = [sys.executable, "-m", "constrained_ner", "serve", "--port", "0", "--quiet"]
    with subprocess.Popen(
        [*command, "--model", str(tiny_folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            found = re.match(r"(http://127\.0\.0\.1:\d+) ", process.stdout.readline())
            assert found
            with httpx.Client(base_url=found[1], timeout=120) as client:
                assert client.get("/ready").status_code == 200
                with ThreadPoolExecutor(1) as pool:
                    asked = pool.submit(client.post, "/predict", json=ASKED)
                    wait_for(lambda: client.get("/health").json()["waiting"] == 1)
                    process.send_signal(signal.SIGTERM)
                    assert asked.result().status_code == 200
            assert process.wait(60) in (0, -signal.SIGTERM)
            assert process.stdout.read() == ""  # no line for each request
        finally:
            process.kill()


# ---- the page


def seen(extractor: Extractor, script: str) -> Any:
    """What a script finds on the page of a server, once what it promises has come."""
    helpers = """
    const until = async (condition) => {
      while (!condition()) await new Promise((go) => setTimeout(go, 50));
    };
    const ask = (fields) => {
      for (const [id, value] of Object.entries(fields)) byId(id).value = value;
      byId("ask").requestSubmit();
    };
    const idle = () => !byId("extract").disabled;
    const shown = (what) => [...byId("found").querySelectorAll(what)];
    """
    with running(extractor) as (server, client):
        page = client.get("/").text + f"<script>{helpers}</script>" + probe(script)
        server.app.add_api_route("/probe", lambda: HTMLResponse(page))
        return told_by(f"{client.base_url}/probe", milliseconds=60_000)


@browser
def test_a_second_click_shows_nothing_twice(extractor: Extractor) -> None:
    script = """(async () => {
      ask({ wanted: "Disease", text: "<b>Left</b> knee pain." });
      const busy = [byId("extract").disabled, byId("cancel").hidden];
      byId("extract").click();
      byId("ask").requestSubmit();
      await until(idle);
      await new Promise((go) => setTimeout(go, 500));
      const once = shown(".text").length;
      ask({});
      await until(idle);
      const details = document.querySelector("details");
      details.open = true;
      await until(() => details.childElementCount > 1);
      return {
        busy, once, twice: shown(".text").length, words: byId("state").textContent,
        text: shown(".text")[0].textContent,
        answers: details.querySelectorAll("h2").length,
        hidden: byId("cancel").hidden,
      };
    })()"""
    told = seen(extractor, script)
    assert re.fullmatch(r"\d+ entit(y|ies) in \d+\.\d s", told.pop("words"))
    assert told == {
        "busy": [True, False],
        "once": 1,
        "twice": 1,
        "text": "<b>Left</b> knee pain.",
        "answers": 1,
        "hidden": True,
    }


@browser
def test_the_page_tells_what_is_wrong(extractor: Extractor) -> None:
    script = """(async () => {
      const told = [];
      for (const fields of [
        { wanted: "Disease", text: " " },
        { wanted: "a, a", text: "x" },
        { wanted: "a".repeat(101) },
        { wanted: "Disease", text: "Left knee pain. ".repeat(900) },
      ]) {
        ask(fields);
        if (fields.text?.length > 100) byId("cancel").click();
        await until(idle);
        const { textContent, className } = byId("state");
        told.push([textContent, className, byId("found").childElementCount]);
      }
      return told;
    })()"""
    empty, twice, long, cancelled = seen(extractor, script)
    assert empty == ["the text is empty: expected something to read", "error", 0]
    assert "asked for twice" in twice[0]
    assert long[0] == "labels 0: String should have at most 100 characters"
    assert cancelled == ["Cancelled", "error", 0]


@browser
def test_the_page_leaves_out_what_is_not_sure(extractor: Extractor) -> None:
    script = """(async () => {
      ask({ wanted: "Disease, Anatomy", text: "Left knee pain. No fever. Alpha cells." });
      await until(idle);
      const rows = () => shown("td:last-child").map((e) => Number(e.textContent));
      const all = rows();
      byId("least").value = "0.5";
      byId("least").dispatchEvent(new Event("input"));
      return [all, rows(), shown(".text .tag").length];
    })()"""
    every, some, tags = seen(extractor, script)
    assert every
    assert some == [sure for sure in every if sure >= 0.5]
    assert tags <= len(some)
