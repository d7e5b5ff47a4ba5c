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

from constrained_ner import Extractor
from constrained_ner.errors import InputError
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.serve.app import create_app
from constrained_ner.serve.running import Server, bind
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


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
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


def test_the_command(tiny_folder: Path) -> None:
    """It says where it is, answers, and ends by SIGTERM with what it was asked before answered."""
    command = [sys.executable, "-m", "constrained_ner", "serve", "--port", "0"]
    with subprocess.Popen(
        [*command, "--model", str(tiny_folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            found = re.match(r"(http://127\.0\.0\.1:\d+) ", process.stdout.readline())
            assert found
            with httpx.Client(base_url=found[1], timeout=120) as client:

                def up() -> bool:
                    try:
                        return client.get("/ready").status_code == 200
                    except httpx.ConnectError:
                        return False

                wait_for(up)
                with ThreadPoolExecutor(1) as pool:
                    asked = pool.submit(client.post, "/predict", json=ASKED)
                    wait_for(lambda: client.get("/health").json()["waiting"] == 1)
                    process.send_signal(signal.SIGTERM)
                    assert asked.result().status_code == 200
            assert process.wait(60) in (0, -signal.SIGTERM)
        finally:
            process.kill()
