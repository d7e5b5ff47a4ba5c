"""`cner export` and `cner import`: other systems answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from constrained_ner.engines.models import LoadedModel
from constrained_ner.formats import FORMATS
from tests.support.commands import cner
from tests.support.loopback import Loopback

TEXTS = ["left knee pain", "CD28 of \N{GREEK SMALL LETTER BETA}-cells; a gene", "left knee pain"]


class Exchange:
    """A folder with texts, and the commands on them."""

    def __init__(self, folder: Path, model: LoadedModel, name: Path):
        self.folder, self.model = folder, model
        lines = [json.dumps({"id": str(i), "text": text}) for i, text in enumerate(TEXTS)]
        (folder / "texts.jsonl").write_text("\n".join(lines))
        self.asked = [str(folder / "texts.jsonl"), "--labels", "finding,gene", "--model", str(name)]
        self.asked += ["--max-new-tokens", "200"]

    def run(self, command: str, *options: str, expect: int = 0) -> str:
        result = cner(command, *self.asked, *options)
        assert result.exit_code == expect, result.output
        return result.output

    def exported(self, *options: str) -> list[dict[str, Any]]:
        path = self.folder / "requests.jsonl"
        self.run("export", "-o", str(path), "--overwrite", *options)
        return [json.loads(line) for line in path.read_text().splitlines()]

    def answered(self, requests: list[dict[str, Any]], limit: int = 10_000) -> list[dict[str, Any]]:
        """What a system says that applies grammars."""
        written = Loopback(self.model).written
        found = []
        for request in requests:
            most = min(limit, request["max_tokens"])
            tokens, _, reason = written(request["tokens"], request["grammar"], most)
            text = self.model.vocabulary.text_of(tokens)
            found.append({"id": request["id"], "text": text, "finish_reason": reason})
        return found

    def imported(
        self, answers: list[Any], *options: str, expect: int = 0
    ) -> tuple[list[dict[str, Any]], str]:
        path, output = self.folder / "answers.jsonl", self.folder / "out.jsonl"
        lines = [one if isinstance(one, str) else json.dumps(one) for one in answers]
        path.write_text("\n".join(lines) + "\n")
        said = self.run(
            "import", "--answers", str(path), "-o", str(output), "--overwrite", *options,
            expect=expect,
        )  # fmt: skip
        return [json.loads(line) for line in output.read_text().splitlines()], said


@pytest.fixture
def exchange(tmp_path: Path, tiny_model: LoadedModel, tiny_folder: Path) -> Exchange:
    return Exchange(tmp_path, tiny_model, tiny_folder)


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "conv_term"])
def test_there_and_back(exchange: Exchange, format: str) -> None:
    options = "--format", format
    requests = exchange.exported(*options)
    assert {"id", "messages", "prompt", "tokens", "grammar", "max_tokens"} <= set(requests[0])
    # The same sentence is asked about once.
    assert {request["document"] for request in requests} == {"0", "1"}
    records, _ = exchange.imported(exchange.answered(requests), *options)
    output = exchange.folder / "ours.jsonl"
    asked = "predict", "--engine", "reference", "--dtype", "float32", "--no-confidence"
    exchange.run(*asked, "-o", str(output), *options)
    ours = [json.loads(line) for line in output.read_text().splitlines()]
    for one, other in zip(records, ours, strict=True):
        assert "error" not in one
        for answer, same in zip(one["answers"], other["answers"], strict=True):
            assert answer["parses"]
            if not answer["forced"] and not same["forced"]:
                assert answer["answer"] == same["answer"]


def test_a_conversation_of_one_turn(exchange: Exchange) -> None:
    options = "--format", "conv_term", "--labels", "gene"
    records, _ = exchange.imported(exchange.answered(exchange.exported(*options)), *options)
    assert all(answer["parses"] for record in records for answer in record["answers"])
    assert not any("error" in record for record in records)


@pytest.mark.parametrize("limit", [1, 4, 12])
def test_what_was_cut_is_finished(exchange: Exchange, limit: int) -> None:
    options = "--format", "multi_brat,multi_tag,single_span", "--combine", "vote"
    answers = exchange.answered(exchange.exported(*options), limit)
    assert any(answer["finish_reason"] == "length" for answer in answers)
    for record in exchange.imported(answers, *options)[0]:
        assert "error" not in record
        assert all(answer["parses"] for answer in record["answers"])


def test_what_cannot_end_within_its_budget_is_not_asked(exchange: Exchange) -> None:
    budget = "--format", "multi_tag", "--max-new-tokens", "3"
    path = exchange.folder / "requests.jsonl"
    said = exchange.run("export", "-o", str(path), *budget, expect=1)
    assert "a budget of 3 tokens is smaller than the shortest multi_tag answer" in said
    assert path.read_text() == ""
    # Room is left to end an answer that is cut.
    requests = exchange.exported("--max-new-tokens", "60")
    assert all(0 < request["max_tokens"] < 60 for request in requests)
    for record in exchange.imported(exchange.answered(requests, 12), "--max-new-tokens", "60")[0]:
        assert all(answer["tokens"] <= 60 for answer in record["answers"])


def test_answers_go_wherever_predictions_go(exchange: Exchange) -> None:
    answers = exchange.folder / "answers.jsonl"
    notes = exchange.folder / "notes"
    notes.mkdir()
    texts = notes / "texts.jsonl"
    texts.write_bytes(Path(exchange.asked[0]).read_bytes())
    exchange.asked[0] = str(notes)
    exchange.imported(exchange.answered(exchange.exported()))
    page, brat = notes / "page.html", exchange.folder / "standoff"
    brat.mkdir()  # an empty folder is as good as none
    for output in (page, brat):
        exchange.run("import", "--answers", str(answers), "-o", str(output))
    assert "<html" in page.read_text()
    assert len(list(brat.glob("*.ann"))) == 3


def test_bad_answers_cost_their_documents(exchange: Exchange) -> None:
    first, second = exchange.answered(exchange.exported())
    free = {**second, "text": "Here are the entities: CD28"}
    records, said = exchange.imported([first, free, "{", {"text": "a"}], expect=1)
    assert [("error" in record) for record in records] == [False, True, False]
    assert "did not apply the grammar" in records[1]["error"]
    assert "answers.jsonl:3: not JSON" in said
    assert "answers.jsonl:4" in said
    records, _ = exchange.imported([first, free], "--unmasked", "lenient")
    problems = [kind for kind, _ in records[1]["answers"][0]["problems"]]
    assert "written without its grammar" in problems
    records, _ = exchange.imported([second], expect=1)
    assert "there is no answer to it" in records[0]["error"]
    # Answers to other questions are none.
    records, said = exchange.imported([first, second], "--format", "multi_tag", expect=1)
    assert "2 of 2 answers belong to no question" in said
    assert "tokens/s" not in said  # nothing was decoded here
    assert all("there is no answer to it" in record["error"] for record in records)
    records, _ = exchange.imported([first, second], "--format", "single_tag", expect=1)
    assert all(record["error"].endswith("(and 1 more of its questions)") for record in records)
    # Of two answers to one question the first counts; white space around one does no harm.
    spaced = {**second, "text": f" {second['text']}\n"}
    records, said = exchange.imported([first, spaced, free], expect=1)
    assert not any("error" in record for record in records)
    assert "answers.jsonl:3: another answer to" in said
    # The suffix says what is made of the answers, as of those of `cner predict`.
    table = exchange.folder / "out.csv"
    path = exchange.folder / "answers.jsonl"
    exchange.run("import", "--answers", str(path), "-o", str(table), expect=1)
    assert table.read_text().startswith("document,start,end,label,surface")
    again = cner("import", *exchange.asked, "--answers", str(path), "-o", str(table))
    assert again.exit_code == 1
    assert "is there already: --overwrite replaces it" in again.output
    assert "--resume" not in again.output
    # A try that failed is none.
    failed = {"custom_id": second["id"], "error": {"message": "timeout"}}
    records, said = exchange.imported([failed, first, second, failed])
    assert not any("error" in record for record in records)
    assert "another answer" not in said
    exchange.imported([], expect=1)


@pytest.mark.parametrize(
    "record",
    [
        {"custom_id": "x", "response": {"body": {"choices": ["t"]}}},
        {"custom_id": "x", "response": {"body": {"choices": [None]}}},
        {"id": "x", "text": "a", "token_ids": 5},
        {"id": "x", "text": "a", "token_ids": [True]},
    ],
)
def test_records_that_are_no_answers(exchange: Exchange, record: dict[str, Any]) -> None:
    first, second = exchange.answered(exchange.exported())
    records, said = exchange.imported([first, record, second], expect=1)
    assert not any("error" in record for record in records)
    assert "answers.jsonl:2: " in said


def test_batches(exchange: Exchange) -> None:
    plain = exchange.exported()
    for kind, url in (("completions", "/v1/completions"), ("chat", "/v1/chat/completions")):
        lines = exchange.exported("--batch", kind, "--served-model", "m")
        assert [line["custom_id"] for line in lines] == [request["id"] for request in plain]
        for line, request in zip(lines, plain, strict=True):
            assert (line["url"], line["method"]) == (url, "POST")
            assert line["body"]["structured_outputs"]["grammar"] == request["grammar"]
            assert line["body"]["model"] == "m"
    answers = [
        {
            "custom_id": one["id"],
            "response": {"status_code": 200, "body": {"choices": [{**one, "index": 0}]}},
        }
        for one in exchange.answered(plain)
    ]
    answers[1] = {"custom_id": answers[1]["custom_id"], "error": {"message": "too late"}}
    records, _ = exchange.imported(answers, expect=1)
    assert [("error" in record) for record in records] == [False, True, False]
    assert "too late" in records[1]["error"]


def test_what_cannot_be_exchanged(exchange: Exchange) -> None:
    for options, message in (
        (("--format", "conv_term"), "asks for finding, gene in turns"),
        (("--format", "multi_tag,multi_term"), "--combine vote"),
        (("--precision", "0.9"), "No such option"),
    ):
        path = str(exchange.folder / "requests.jsonl")
        assert message in " ".join(exchange.run("export", "-o", path, *options, expect=2).split())
    exchange.exported()
    said = exchange.run("export", "-o", str(exchange.folder / "requests.jsonl"), expect=1)
    assert "--overwrite" in said
