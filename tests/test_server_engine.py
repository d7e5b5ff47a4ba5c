"""The engine `openai`: a server is given the grammar, and what it writes is held to it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from constrained_ner.documents import Document, Entity
from constrained_ner.engines.base import Chosen
from constrained_ner.engines.models import LoadedModel
from constrained_ner.engines.server import Connection, Server, connect
from constrained_ner.errors import ModelError
from constrained_ner.formats import FORMATS, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.prediction import Prediction
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.prompts import Target
from tests.support.commands import cner
from tests.support.loopback import Loopback, serving

TEXTS = (
    "left knee pain",
    "CD28 of the colon \N{GREEK SMALL LETTER BETA}-cells <end> is; a \\ gene",
)
LABELS = ("finding", "gene")


def connected(server: Loopback, **settings: Any) -> Connection:
    given: dict[str, Any] = {"timeout": 60.0, "retries": 2, **settings}
    return connect(Server(server.url, **given))


def answered(
    model: LoadedModel,
    engine: str | Chosen,
    formats: tuple[str, ...] = tuple(FORMATS),
    **settings: Any,
) -> list[Prediction]:
    found: list[Prediction] = []
    for name in formats:
        format, target = get_format(name), Target(LABELS, "d")
        given: dict[str, Any] = {"record": True, "max_new_tokens": 200, **settings}
        predictor = Predictor(model, format, [target], engine=engine, **given)
        found += predictor.predict([Document(str(i), text) for i, text in enumerate(TEXTS)])
    return found


def _broken_off(reason: str) -> bytes:
    return json.dumps({"choices": [{"text": "", "finish_reason": reason}]}).encode()


def told(prediction: Prediction) -> tuple[list[str], tuple[Entity, ...]]:
    return [reply.answer for reply in prediction.replies], prediction.entities


def test_the_answers_of_a_server_are_those_of_our_own_engine(tiny_model: LoadedModel) -> None:
    with serving(Loopback(tiny_model)) as server:
        connection = connected(server)
        assert connection.tokens
        assert connection.log_probabilities
        found = answered(tiny_model, connection.engine)
    ours = answered(tiny_model, "reference")
    assert not any(prediction.error for prediction in found)
    # Where the budget cuts in, our engine chooses a shorter way before the end, and a server's
    # answer is finished behind it.
    whole = [
        (one, other)
        for one, other in zip(found, ours, strict=True)
        if not any(reply.forced for reply in (*one.replies, *other.replies))
    ]
    assert len(whole) >= 6
    for one, other in whole:
        assert told(one) == told(other)
    for prediction in found:
        for reply in prediction.replies:
            assert reply.parses
            assert all(0 <= c <= 1 for c in reply.confidences)


def test_probabilities_without_their_tokens_are_none(tiny_model: LoadedModel) -> None:
    class NoTokens(Loopback):
        def answer(self, path: str, body: Any) -> Any:
            found = super().answer(path, body)
            for choice in (found or {}).get("choices", ()):
                choice.pop("token_ids", None)
            return found

    with serving(NoTokens(tiny_model)) as server:
        assert not connected(server).log_probabilities


@pytest.mark.parametrize(("cuts", "tells"), [(1, True), (3, False), (10, True), (40, False)])
def test_what_is_cut_is_closed(tiny_model: LoadedModel, cuts: int, tells: bool) -> None:
    with serving(Loopback(tiny_model, tells=tells)) as server:
        connection = connected(server)
        assert connection.log_probabilities == tells
        server.cuts = cuts
        for prediction in answered(tiny_model, connection.engine):
            assert prediction.error is None
            for reply in prediction.replies:
                assert reply.parses
                assert reply.ended
                # The strict parser of the format agrees.
                format = get_format(reply.format)
                format.decode(reply.answer, prediction.text, reply.labels)


@pytest.mark.parametrize("field", ["structured_outputs", "grammar", "ebnf"])
@pytest.mark.parametrize("chat", [False, True])
def test_each_way_to_take_a_grammar_is_found(
    tiny_model: LoadedModel, field: str, chat: bool
) -> None:
    with serving(Loopback(tiny_model, field, chat)) as server:
        connection = connected(server)
        assert connection.way is not None
        assert (connection.way.name, connection.tokens) == (field, not chat)
        found = answered(tiny_model, connection.engine, ("multi_term", "multi_tag"))
    assert all(reply.parses for prediction in found for reply in prediction.replies)
    assert not any(prediction.error for prediction in found)


def test_a_server_that_applies_no_grammar_is_found_out(tiny_model: LoadedModel) -> None:
    message = r"applies no grammar.*--grammar-backend llguidance"
    with (
        serving(Loopback(tiny_model, ignores=True)) as server,
        pytest.raises(ModelError, match=message),
    ):
        connected(server)


def test_one_that_stops_to_apply_it_is_named_or_read_leniently(tiny_model: LoadedModel) -> None:
    with serving(Loopback(tiny_model)) as server:
        strict, lenient = connected(server), connected(server, lenient=True)
        server.ignores = True
        for prediction in answered(tiny_model, strict.engine, ("multi_term",)):
            assert prediction.error is not None
            assert "did not apply the grammar" in prediction.error
            assert server.url in prediction.error
        for prediction in answered(tiny_model, lenient.engine, ("multi_term",), record=False):
            assert prediction.error is None
            kinds = [problem.kind for reply in prediction.replies for problem in reply.problems]
            assert "written without its grammar" in kinds
            assert not any(reply.parses for reply in prediction.replies)


def test_requests_are_tried_again(tiny_model: LoadedModel) -> None:
    with serving(Loopback(tiny_model)) as server:
        connection = connected(server)
        server.failures = [429, 500]
        (one, other) = answered(tiny_model, connection.engine, ("multi_term",), batch_size=1)
        assert one.error is None
        assert other.error is None
        assert not server.failures


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"failures": [500] * 3}, "not now"),
        ({"failures": [400]}, "not now"),
        ({"garbage": b"no JSON"}, ""),
        ({"garbage": b"{}"}, "does not answer as"),
        ({"garbage": b'{"choices": [{"text": null}]}'}, "does not answer as"),
        ({"garbage": _broken_off("abort")}, "given up ('abort')"),
        ({"garbage": _broken_off("stop")}, "ends before it may"),
        ({"delay": 3.0}, "did not answer within"),
    ],
)
def test_a_fault_costs_one_document(
    tiny_model: LoadedModel, fault: dict[str, object], message: str
) -> None:
    with serving(Loopback(tiny_model)) as server:
        late = "delay" in fault
        connection = connected(server, **({"timeout": 0.5, "retries": 0} if late else {}))
        for name, value in fault.items():
            setattr(server, name, value)
        (one, other) = answered(tiny_model, connection.engine, ("multi_term",), batch_size=1)
        assert one.error is not None
        assert message in one.error
        assert server.url in one.error
        if "failures" in fault:
            assert other.error is None


def test_one_that_is_gone_ends_the_run(tiny_model: LoadedModel) -> None:
    with serving(Loopback(tiny_model)) as server:
        connection = connected(server, retries=0)
    with pytest.raises(ModelError, match="cannot be reached any more"):
        answered(tiny_model, connection.engine, ("multi_term",))
    with pytest.raises(ModelError, match=r"127\.0\.0\.1"):
        connected(server, retries=0)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_without_a_server_ends_the_run(tiny_model: LoadedModel, status: int) -> None:
    """Else all documents would be errors, which `--resume` keeps."""
    with serving(Loopback(tiny_model)) as server:
        connection = connected(server, retries=0)
        server.failures = [status]
        with pytest.raises(ModelError, match="is gone"):
            answered(tiny_model, connection.engine, ("multi_term",))


@pytest.mark.parametrize("url", ["http://gpu:80a0/v1", "http://[::1/v1"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ModelError, match="--base-url"):
        connect(Server(url))


def test_refused_keys_end_the_run(tiny_model: LoadedModel) -> None:
    with serving(Loopback(tiny_model)) as server:
        connection = connected(server)
        server.failures = [401]
        with pytest.raises(ModelError, match="not now"):
            answered(tiny_model, connection.engine, ("multi_term",))


def test_predict_asks_a_server(
    tiny_model: LoadedModel,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("CNER_API_KEY", "very-secret")
    (tmp_path / "texts.txt").write_text("left knee pain\n")
    command = [
        "predict",
        str(tmp_path / "texts.txt"),
        "--labels",
        "finding",
        "--format",
        "multi_tag",
    ]
    command += ["--model", str(tiny_folder), "-o", str(tmp_path / "out.jsonl"), "-v"]
    with serving(Loopback(tiny_model)) as server:
        result = cner(*command, "--engine", "openai", "--base-url", server.url)
        assert {body["key"] for body in server.asked} == {"Bearer very-secret"}
    assert result.exit_code == 0, result.output
    (record,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert record["answers"][0]["parses"]
    assert "grammars in structured_outputs, prompts as tokens" in result.output + caplog.text
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"very-secret" not in path.read_bytes()
    assert "very-secret" not in result.output + caplog.text


def test_a_server_that_is_killed_ends_the_run_and_resume_goes_on(
    tiny_model: LoadedModel, tiny_folder: Path, tmp_path: Path
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"knee pain {i}\n" for i in range(80)))
    command = ["predict", str(texts), "--labels", "finding", "--model", str(tiny_folder)]
    command += ["--input-format", "lines", "--max-new-tokens", "12"]
    command += ["--engine", "openai", "--retries", "0"]
    out, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    with serving(Loopback(tiny_model)) as server:
        command += ["--base-url", server.url, "-o"]
        server.lives = 71  # one is the trial
        result = cner(*command, str(out))
        assert result.exit_code == 1
        assert "cannot be reached any more" in result.output
        assert 0 < len(out.read_bytes().splitlines()) < 80
        server.lives = None
        assert "--resume" in cner(*command, str(out)).output
        result = cner(*command, str(out), "--resume")
        assert result.exit_code == 0, result.output
        cner(*command, str(whole))
    assert out.read_bytes() == whole.read_bytes()


def test_options_of_servers_go_with_the_engine() -> None:
    assert "--base-url goes with" in cner("predict", "-t", "a", "--base-url", "http://x").output
    assert "needs --base-url" in cner("predict", "-t", "a", "--engine", "openai").output


def test_free_answers_of_a_server(tiny_model: LoadedModel) -> None:
    with serving(Loopback(tiny_model)) as server:
        connection = connected(server)
        found = answered(tiny_model, connection.engine, ("multi_term",), level=Level.FREE)
    ours = answered(tiny_model, "reference", ("multi_term",), level=Level.FREE)
    assert [[r.answer for r in p.replies] for p in found] == [
        [r.answer for r in p.replies] for p in ours
    ]
