"""Runs over many documents: whole texts, files that are gone on with, memory that ends."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from rich.console import Console, Group
from rich.text import Text
from safetensors.torch import load_file, save_file

from constrained_ner.cli import main
from constrained_ner.cli.reading import coloured
from constrained_ner.corpora import read
from constrained_ner.documents import Document, Entity, Passage
from constrained_ner.engines.kv_cache import RaggedKVCache
from constrained_ner.engines.models import LoadedModel, wrap
from constrained_ner.errors import InputError, ModelError, UnknownNameError
from constrained_ner.formats import FORMATS, Options, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.prediction import Prediction, Summary
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.prompts import Target
from constrained_ner.pipeline.runs import CHUNK, Run
from tests.conftest import SAMPLES
from tests.support.commands import cner
from tests.support.models import tiny_llama

LABELS = ("Disease", "Anatomy")
NOTE = "No fever. Left knee pain.\r\n\r\n😀 Asthma, e.g. in the lung.\n"


def predictor_of(model: LoadedModel, format: str = "multi_term", **settings: Any) -> Predictor:
    given = {"max_new_tokens": 40, "record": True, "segment": "sentence", **settings}
    return Predictor(model, FORMATS[format], [Target(LABELS)], **given)


# ---- whole documents


@pytest.mark.parametrize("engine", ["speculative", "reference"])
def test_entities_come_back_with_offsets_into_the_document(
    engine: str, tiny_model: LoadedModel
) -> None:
    predictor = predictor_of(tiny_model, "multi_tag", engine=engine, max_new_tokens=None)
    (prediction,) = predictor.predict([Document("n", NOTE, passages=(Passage("a", 0, 9),))])
    asked = [NOTE[slice(*reply.segment)] for reply in prediction.replies]
    assert asked == ["No fever.", "Left knee pain.", "😀 Asthma, e.g. in the lung."]
    for reply in prediction.replies:
        start, end = reply.segment
        alone = FORMATS["multi_tag"].settle(reply.answer, NOTE[start:end], LABELS)
        for entity, inside in zip(reply.entities, alone.entities, strict=True):
            assert entity.surface(NOTE) == inside.surface(NOTE[start:end])
            assert start <= entity.start < entity.end <= end
    record = prediction.to_json()
    assert record["passages"] == [{"type": "a", "start": 0, "end": 9}]
    assert [answer["segment"] for answer in record["answers"]] == [
        reply.segment for reply in prediction.replies
    ]


@pytest.mark.parametrize("name", ["multi_term", "conv_term", "single_span"])
def test_what_is_too_long_is_cut_at_white_space_and_answered(name: str) -> None:
    model = wrap("short", *tiny_llama(context=700))
    text = " ".join(f"word{i}" for i in range(400))
    for segment in ("sentence", "window"):
        predictor = predictor_of(model, name, segment=segment)
        (prediction,) = predictor.predict([Document("n", text)])
        assert prediction.error is None
        assert not prediction.left_out
        parts = sorted({reply.segment for reply in prediction.replies})
        assert len(parts) > 1
        assert " ".join(text[start:end] for start, end in parts) == text
        assert all(reply.parses for reply in prediction.replies)
    (prediction,) = predictor_of(model, name, segment="none").predict([Document("n", text)])
    assert "too long" in str(prediction.error)


def test_windows_are_texts_that_have_a_grammar() -> None:
    """Also where the model has room for more."""
    model = wrap("long", *tiny_llama(context=1_000_000))
    format = get_format("multi_term", Options(max_fragments=4))
    predictor = Predictor(model, format, [Target(LABELS)], segment="window")
    text = " ".join(f"word{i}" for i in range(2000))
    turns = predictor.turns(Document("n", text))
    assert " ".join(turn.text for turn in turns) == text
    assert [format.text_obstacle(turn.text) for turn in turns] == [None] * 3


def test_a_part_that_cannot_be_answered_leaves_the_others() -> None:
    model = wrap("short", *tiny_llama(context=700))
    text = f"Knee pain. {'x' * 3000} No fever."
    summary = Summary()
    (prediction,) = predictor_of(model).predict([Document("n", text)])
    summary.add(prediction)
    assert prediction.error is None
    ((start, end), why), *others = prediction.left_out
    assert not others
    assert (text[start:end], "too long" in why) == ("x" * 3000, True)
    assert [text[slice(*r.segment)] for r in prediction.replies] == ["Knee pain.", "No fever."]
    assert prediction.to_json()["left_out"] == [(start, end, why)]
    assert len(summary.partly) == 1
    # Where nothing else is left it is the document that failed.
    (prediction,) = predictor_of(model).predict([Document("n", "x" * 3000)])
    assert "too long" in str(prediction.error)


def test_segments_are_checked(tiny_model: LoadedModel) -> None:
    with pytest.raises(UnknownNameError, match="'line': expected one of none, sentence, window"):
        predictor_of(tiny_model, segment="line")


# ---- confidence


@pytest.mark.parametrize("name", FORMATS)
def test_confidence_is_the_probability_of_the_tokens(name: str, tiny_model: LoadedModel) -> None:
    """By both engines, and as a product of what was recorded of the tokens that say it."""
    document = Document("n", "Left knee pain and a flu.")
    budget = 500 if "code" in name else 120
    found: list[Prediction] = []
    for engine in ("speculative", "reference"):
        predictor = predictor_of(tiny_model, name, engine=engine, max_new_tokens=budget)
        found += predictor.predict([document])
    for one, other in zip(found[0].replies, found[1].replies, strict=True):
        assert one.answer == other.answer
        assert len(one.confidences) == len(one.entities)
        assert one.confidences == pytest.approx(other.confidences, abs=1e-4)
        assert all(0 <= value <= 1 for value in one.confidences)
    for entity in found[0].to_json()["entities"]:
        assert 0 <= entity["confidence"] <= 1


def test_places_are_what_an_answer_says_of_an_entity(samples: list[Document]) -> None:
    for name, format in FORMATS.items():
        for document in samples:
            for labels in format.questions(("Disease", "Gene")):
                kept, _ = format.expressible(document, labels)
                answer = format.encode(replace(document, entities=kept), labels)
                settled = format.settle(answer, document.text, labels)
                assert set(settled.entities) <= set(settled.places), name
                for entity, places in settled.places.items():
                    said = [answer[start:end] for start, end in places]
                    assert said, (name, entity)
                    assert all(said), (name, entity)
                    if "term" in name or name in ("multi_triple", "multi_brat"):
                        inside = json.dumps(entity.surface(document.text), ensure_ascii=False)
                        assert inside[1:-1] in said[-1], name


def test_without_a_record_there_is_no_confidence(tiny_model: LoadedModel) -> None:
    for settings in ({"record": False}, {"level": Level.FREE}):
        (prediction,) = predictor_of(tiny_model, **settings).predict([Document("n", NOTE)])
        assert not prediction.confidences
        assert all("confidence" not in entity for entity in prediction.to_json()["entities"])


# ---- memory


class Short:
    """A device with room for so many rows."""

    def __init__(self, rows: int):
        self.rows, self.calls = rows, 0
        self.plain: Any = RaggedKVCache.call

    def call(self, blocks: Any, tokens: Any, *rest: Any) -> Any:
        if len(tokens) > self.rows:
            self.calls += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.plain(blocks, tokens, *rest)


def test_where_memory_ends_there_are_fewer_rows(
    tiny_model: LoadedModel, samples: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = predictor_of(tiny_model, record=False, batch_size=8)
    expected = [p.to_json() for p in predictor.predict(samples[:9])]
    short = Short(3)
    monkeypatch.setattr(RaggedKVCache, "call", lambda *given: short.call(*given))
    assert [p.to_json() for p in predictor.predict(samples[:9])] == expected
    assert short.calls == 2  # eight rows, four, two
    short.rows = 0
    for prediction in predictor.predict(samples[:2]):
        assert "out of memory" in str(prediction.error)
    short.rows, short.plain = 9, None
    with pytest.raises(TypeError):  # what is no matter of memory is not hidden
        list(predictor.predict(samples[:2]))


@pytest.mark.parametrize(
    ("engine", "level"), [("reference", Level.FAITHFUL), ("outlines_core", Level.SYNTAX)]
)
def test_the_reference_engine_halves_its_batches(
    engine: str,
    level: Level,
    tiny_model: LoadedModel,
    samples: list[Document],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictor = predictor_of(tiny_model, record=False, engine=engine, level=level)
    expected = [p.to_json() for p in predictor.predict(samples[:5])]
    plain = type(tiny_model.steerable).generate_batch

    def generate(self: Any, prompts: Any, *given: Any, **options: Any) -> Any:
        if len(prompts) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return plain(self, prompts, *given, **options)

    monkeypatch.setattr(type(tiny_model.steerable), "generate_batch", generate)
    assert [p.to_json() for p in predictor.predict(samples[:5])] == expected


# ---- runs

SETTINGS = {"format": "multi_term", "labels": ["Disease"]}


def answered(
    model: LoadedModel,
    documents: list[Document | InputError],
    path: Path,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> list[Prediction]:
    """What a run answers, and writes to a file."""
    run = Run(documents, path, SETTINGS if settings is None else settings, **options)
    return list(run.answer(lambda: predictor_of(model, record=False, max_new_tokens=12)))


@pytest.fixture(scope="module")
def many(samples: list[Document]) -> list[Document | InputError]:
    """Two chunks and a half, one record broken."""
    found: list[Document | InputError] = [
        Document(f"d{i}", samples[i % 40].text[:60]) for i in range(2 * CHUNK + CHUNK // 2)
    ]
    found[7] = InputError("not JSON", "notes.jsonl", 8)
    return found


@pytest.fixture(scope="module")
def whole(
    tiny_model: LoadedModel,
    many: list[Document | InputError],
    tmp_path_factory: pytest.TempPathFactory,
) -> bytes:
    """What an uninterrupted run writes."""
    path = tmp_path_factory.mktemp("whole") / "out.jsonl"
    assert len(answered(tiny_model, many, path)) == len(many)
    assert not path.with_name(".out.jsonl.run").exists()
    return path.read_bytes()


def cut_off(whole: bytes, at: int, path: Path) -> None:
    """A file as a run leaves it that was killed after so many bytes."""
    path.write_bytes(whole[:at])
    path.with_name(f".{path.name}.run").write_text(json.dumps(SETTINGS))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.41, 0.8, 0.999, 1.0])
def test_a_stopped_run_ends_with_the_same_bytes(
    share: float,
    whole: bytes,
    many: list[Document | InputError],
    tiny_model: LoadedModel,
    tmp_path: Path,
) -> None:
    path = tmp_path / "out.jsonl"
    cut_off(whole, int(share * len(whole)), path)
    summary = Summary()
    for prediction in answered(tiny_model, many, path, resume=True, summary=summary):
        summary.add(prediction)
    assert path.read_bytes() == whole
    assert summary.documents + summary.before == len(many)
    assert summary.failed == ["notes.jsonl:8: not JSON"]
    assert summary.before % CHUNK == 0 or summary.before == len(many)
    assert os.listdir(tmp_path) == ["out.jsonl"]


def test_a_finished_run_is_left_alone_or_grows(
    whole: bytes, many: list[Document | InputError], tiny_model: LoadedModel, tmp_path: Path
) -> None:
    path = tmp_path / "out.jsonl"
    answered(tiny_model, many[:100], path)
    assert answered(tiny_model, many, path, resume=True)[-1].id == "d159"
    assert path.read_bytes() == whole

    def never() -> Predictor:
        raise AssertionError("there is nothing to answer")

    changed = path.stat().st_mtime_ns
    assert list(Run(many, path, SETTINGS, resume=True).answer(never)) == []
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (whole, changed)


class Failing:
    """An engine that fails after so many answers."""

    def __init__(self, predictor: Predictor, after: int):
        self.predictor, self.after = predictor, after

    def predict_chunks(self, chunks: Any) -> Any:
        for chunk in chunks:
            yield self._answers(chunk)

    def _answers(self, chunk: Any) -> Any:
        for number, prediction in enumerate(self.predictor.predict(chunk)):
            if number == self.after:
                raise ModelError("gone")
            yield prediction


@pytest.mark.parametrize("after", [0, 3])
def test_a_failure_costs_no_record_that_was_there(
    after: int, many: list[Document | InputError], tiny_model: LoadedModel, tmp_path: Path
) -> None:
    """A chunk that has grown is asked about again; its records stay until there are as many."""
    path = tmp_path / "out.jsonl"
    answered(tiny_model, many[:10], path)
    before = path.read_bytes()
    predictor = predictor_of(tiny_model, record=False, max_new_tokens=12)
    run = Run(many[:11], path, SETTINGS, resume=True)
    with pytest.raises(ModelError, match="gone"):
        list(run.answer(lambda: Failing(predictor, after)))
    assert path.read_bytes() == before
    answered(tiny_model, many[:11], path, resume=True)
    again = tmp_path / "again.jsonl"
    answered(tiny_model, many[:11], again)
    assert path.read_bytes() == again.read_bytes()


def test_records_stay_until_there_are_as_many_new_ones(
    many: list[Document | InputError], tiny_model: LoadedModel, tmp_path: Path
) -> None:
    """However a run may end that makes a finished file grow."""
    path = tmp_path / "out.jsonl"
    answered(tiny_model, many[:10], path)
    before = path.read_bytes()
    predictor = predictor_of(tiny_model, record=False, max_new_tokens=12)
    sizes = []
    for _ in Run(many[:11], path, SETTINGS, resume=True).answer(lambda: predictor):
        assert path.read_bytes().startswith(before)
        sizes.append(path.stat().st_size)
    assert sizes[8] == len(before) < sizes[-1]


@pytest.mark.parametrize("unfinished", [False, True])
def test_records_are_kept_only_if_they_would_be_made_again(
    unfinished: bool,
    whole: bytes,
    many: list[Document | InputError],
    tiny_model: LoadedModel,
    tmp_path: Path,
) -> None:
    """Whether the run before was finished or not; else its file is as it was."""
    path = tmp_path / "out.jsonl"
    before = whole
    if unfinished:
        before = whole[: whole.index(b'{"id": "d75"')]
        cut_off(before, len(before), path)
    path.write_bytes(before)
    first, broken = many[0], many[7]
    assert isinstance(first, Document)
    assert isinstance(broken, InputError)
    named = r" \(labels\)" if unfinished else ""
    cases: list[tuple[list[Document | InputError], dict[str, Any], str]] = [
        (many, {**SETTINGS, "labels": ["Gene"]}, rf"out.jsonl:1: made with other settings{named}:"),
        (many[1:], SETTINGS, "out.jsonl:1: the record of 'd0', where 'd1' was expected"),
        ([replace(first, text="Flu."), *many[1:]], SETTINGS, "the record of 'd0' is of another"),
        ([replace(first, passages=(Passage("a", 0, 3),)), *many[1:]], SETTINGS, "out.jsonl:1: "),
        ([*many[:7], InputError("not UTF-8"), *many[8:]], SETTINGS, "out.jsonl:8: "),
        (many[:3], SETTINGS, "holds records of more than the 3 documents"),
        (many[:CHUNK], SETTINGS, "holds records of more than the 64 documents"),
    ]
    for documents, settings, message in cases:
        with pytest.raises(InputError, match=message):
            answered(tiny_model, documents, path, settings, resume=True)
        assert path.read_bytes() == before


def test_a_run_that_cannot_be_gone_on_with(
    whole: bytes, many: list[Document | InputError], tiny_model: LoadedModel, tmp_path: Path
) -> None:
    path = tmp_path / "out.jsonl"
    cut_off(whole, len(whole) // 2, path)
    with pytest.raises(InputError, match="unfinished run: --resume it"):
        answered(tiny_model, many, path)
    assert path.read_bytes() == whole[: len(whole) // 2]
    path.write_text("{}\n")
    with pytest.raises(InputError, match=r"out.jsonl:1: not a record of a run"):
        answered(tiny_model, many, path, resume=True)
    path.write_text('{"id": "d0", "text": "No fever."}\n')
    with pytest.raises(InputError, match="does not say with which settings it was made"):
        answered(tiny_model, many, path, resume=True)
    path.write_text('{"id": "mine"}')  # a line that has no end, and is nobody's half record
    with pytest.raises(InputError, match="holds no whole line, and no beginning"):
        answered(tiny_model, many, path, resume=True)
    assert path.read_text() == '{"id": "mine"}'
    with pytest.raises(InputError, match="cannot be written"):
        answered(tiny_model, many, tmp_path / "nowhere" / "out.jsonl")


def test_a_killed_process_is_gone_on_with(tiny_folder: Path, tmp_path: Path) -> None:
    """At a moment that chance chooses."""
    data = tmp_path / "notes.txt"
    data.write_text("\n".join(f"Case {i}: left knee pain, no fever." for i in range(150)))
    settings = ["predict", str(data), "--input-format", "lines", "--labels", "Disease"]
    settings += ["--model", str(tiny_folder), "--max-new-tokens", "12", "--resume"]

    assert cner(*settings, "-o", tmp_path / "whole.jsonl").exit_code == 0
    whole = (tmp_path / "whole.jsonl").read_bytes()
    path = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "constrained_ner", *settings, "-o", str(path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    enough = random.Random(0).randrange(1, len(whole) // 3)
    while process.poll() is None:
        if path.exists() and path.stat().st_size > enough:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    assert process.wait() == -signal.SIGKILL
    assert cner(*settings, "-o", path).exit_code == 0
    assert path.read_bytes() == whole
    assert sorted(p for p in os.listdir(tmp_path) if p.startswith(".")) == []


# ---- from Python and from the command line


def test_the_format_is_the_models_best_and_others_are_warned_of(scored_folder: Path) -> None:
    def asked(*arguments: str) -> tuple[str, str]:
        text, model = ("-t", "Knee pain."), ("--model", scored_folder, "--max-new-tokens", "60")
        done = cner("predict", *text, *model, "-o", "-", *arguments)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)["format"], done.stderr

    name, said = asked()
    assert name == "multi_tag"
    assert "warning" not in said
    name, said = asked("--format", "multi_term", "--labels", "Gene,Dose")
    assert name == "multi_term"
    assert said.count("warning: answers in multi_term are not to be trusted") == 1
    assert said.count("0.20, that of multi_tag, the model's best, 0.60\n") == 1
    assert said.count("warning: the model was never asked for Dose in training") == 1
    assert "best at on dev" in " ".join(cner("predict", "--help").output.split())


def test_a_run_keeps_its_format(scored_folder: Path, tmp_path: Path) -> None:
    """Also where the model is found to be better at another one before the run goes on."""
    folder, out = tmp_path / "model", tmp_path / "out.jsonl"
    shutil.copytree(scored_folder, folder)
    asked = ("predict", SAMPLES / "sentences.jsonl", "--limit", "2", "--max-new-tokens", "60")
    arguments = (*asked, "--model", folder, "-o", out, "--resume")
    assert cner(*arguments).exit_code == 0
    before = out.read_bytes()
    assert json.loads(before.splitlines()[0])["format"] == "multi_tag"
    done = cner(*arguments)
    assert done.exit_code == 0
    assert "0 documents (and 2 done before)" in done.stderr
    cner_json = folder / "cner.json"
    cner_json.write_text(cner_json.read_text().replace("0.2,", "0.9,"))
    done = cner(*arguments)
    assert (done.exit_code, out.read_bytes()) == (1, before)
    assert "made with other settings: expected those of that run" in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--limit", "3"], "holds records of more than the 3 documents"),
        (["--labels", "Gene"], "made with other settings"),
        (["--format", "multi_tag"], "made with other settings"),
        (["--index"], "made with other settings"),
        (["--examples", str(SAMPLES / "sentences.jsonl")], "made with other settings"),
    ],
)
def test_a_finished_file_is_resumed_by_the_same_command_only(
    change: list[str], message: str, tiny_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    arguments = ["predict", str(SAMPLES / "sentences.jsonl"), "--model", str(tiny_folder)]
    arguments += ["--labels", "Disease", "--limit", "4", "--max-new-tokens", "9", "-o", str(out)]
    assert cner(*arguments).exit_code == 0
    before = out.read_bytes()
    done = cner(*arguments, "--resume", *change)
    assert (done.exit_code, out.read_bytes()) == (1, before)
    assert message in done.stderr
    assert os.listdir(tmp_path) == ["out.jsonl"]
    grown = cner(*arguments, "--resume", "--limit", "6")
    assert grown.exit_code == 0
    assert len(out.read_text().splitlines()) == 6


def test_a_file_of_other_weights_is_not_resumed(tiny_folder: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "model", tmp_path / "out.jsonl"
    shutil.copytree(tiny_folder, folder)
    arguments = ("predict", SAMPLES / "sentences.jsonl", "--labels", "Disease", "--limit", "2")
    more = ("--max-new-tokens", "9", "--model", folder, "-o", out)
    assert cner(*arguments, *more).exit_code == 0
    before = out.read_bytes()
    assert cner(*arguments, *more, "--resume").exit_code == 0
    weights = load_file(folder / "model.safetensors")
    save_file({name: weight + 1 for name, weight in weights.items()}, folder / "model.safetensors")
    done = cner(*arguments, *more, "--resume")
    assert (done.exit_code, out.read_bytes()) == (1, before)
    assert "made with other settings" in done.stderr


OUTPUTS: dict[str, Callable[[Path], int]] = {
    "out.jsonl": lambda path: len(path.read_text().splitlines()),
    "out.html": lambda path: path.read_text().count('"answers":'),
    "out.conll": lambda path: len(list(read(path))),
    "out.pubtator": lambda path: len(list(read(path))),
    "out.xml": lambda path: len(list(read(path))),
    "out": lambda path: len(list(read(path))),
}


def test_own_keys_come_through(tiny_folder: Path, tmp_path: Path) -> None:
    """Also those of a document that fails; a run over others is not gone on with."""
    data, out = tmp_path / "notes.jsonl", tmp_path / "out.jsonl"
    own = [{"date": "2020-01-02", "text": "t"}, {"format": "pdf"}]
    texts = ["Knee pain.", " "]
    records = [
        {"id": n, "text": text, "meta": meta}
        for n, (text, meta) in enumerate(zip(texts, own, strict=True))
    ]
    data.write_text("\n".join(map(json.dumps, records)))
    model = ("--model", tiny_folder, "--labels", "Disease", "--max-new-tokens", "60")
    assert cner("predict", data, *model, "-o", out).exit_code == 1
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["meta"] for record in written] == own
    assert [record["id"] for record in written] == ["0", "1"]
    assert ["error" in record for record in written] == [False, True]
    again = [Prediction.from_json(record) for record in written]
    assert [prediction.to_json()["meta"] for prediction in again] == own
    before = out.read_bytes()
    records[0]["meta"] = {"date": "2021"}
    data.write_text("\n".join(map(json.dumps, records)))
    result = cner("predict", data, *model, "-o", out, "--resume")
    assert (result.exit_code, out.read_bytes()) == (1, before)
    assert "the record of '0' has other keys of its own: expected those of the run" in result.stderr


def test_a_lone_surrogate_among_own_keys_is_written_as_it_was(
    tiny_folder: Path, tmp_path: Path
) -> None:
    data, out = tmp_path / "notes.jsonl", tmp_path / "out.jsonl"
    data.write_text('{"text": "Knee pain.", "ward": "\\ud800"}\n')
    model = ("--model", tiny_folder, "--labels", "Disease", "--max-new-tokens", "60")
    assert cner("predict", data, *model, "-o", out).exit_code == 0
    assert json.loads(out.read_text())["meta"] == {"ward": "\ud800"}


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_suffix_decides_what_is_written(name: str, tiny_folder: Path, tmp_path: Path) -> None:
    data = SAMPLES / "sentences.jsonl"
    arguments = ("predict", data, "--limit", "3", "--labels", "Disease,Gene")
    model = ("--model", tiny_folder, "--max-new-tokens", "60")
    done = cner(*arguments, *model, "-o", tmp_path / name)
    assert done.exit_code == 0, done.output
    assert OUTPUTS[name](tmp_path / name) == 3
    assert os.listdir(tmp_path) == [name]
    # What the format does not hold of the records themselves is one line.
    said = [line for line in done.stderr.splitlines() if line.startswith("not kept: ")]
    beside = [line for line in said if "cner predict" in line]
    assert len(beside) == (name not in ("out.jsonl", "out.html"))
    assert not [line for line in said if "values of the" in line]


@pytest.mark.parametrize("sharded", [False, True])
def test_the_tokens_of_columns_stay_as_they_are(
    sharded: bool, tiny_folder: Path, tmp_path: Path
) -> None:
    """Of other texts they are made: finer ones."""
    data, out = tmp_path / "data.conll", tmp_path / "out"
    data.write_text("IL-2(+)\tO\nknee.\tO\n\n")
    options = ("--labels", "finding", "--model", tiny_folder, "--max-new-tokens", "60")
    more = ("--output-format", "conll", *(("--shard-size", "1") if sharded else ()))
    done = cner("predict", data, *options, "-o", out, *more)
    assert done.exit_code == 0, done.output
    (written,) = out.glob("part-*.conll") if sharded else [out]
    rows = [line.split("\t")[0] for line in written.read_text().splitlines() if line]
    assert rows == ["-DOCSTART-", "IL-2(+)", "knee."]


def test_answers_are_kept_until_the_output_is_made_of_them(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """Where a run ended after its last answer, because the disk was full, say."""
    arguments = ("predict", SAMPLES / "sentences.jsonl", "--limit", "3", "--labels", "Disease")
    model = ("--model", tiny_folder, "--max-new-tokens", "9")
    out, records = tmp_path / "out.conll", tmp_path / ".out.conll.records"
    assert cner(*arguments, *model, "-o", tmp_path / "out.jsonl").exit_code == 0
    (tmp_path / "out.jsonl").rename(records)
    before = records.read_bytes()
    done = cner(*arguments, *model, "-o", out)
    assert (done.exit_code, records.read_bytes(), out.exists()) == (1, before, False)
    assert f"{records}: holds answers, of which '{out}' was not made" in done.stderr
    done = cner(*arguments, *model, "-o", out, "--resume")
    assert done.exit_code == 0, done.output
    assert "0 documents (and 3 done before)" in done.stderr
    assert os.listdir(tmp_path) == ["out.conll"]


def test_texts_from_the_command_line_and_from_a_pipe(tiny_folder: Path, tmp_path: Path) -> None:
    model = ["--model", str(tiny_folder), "--max-new-tokens", "40", "--labels", "Disease"]
    done = cner("predict", "-t", "Knee pain. Flu.", *model)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("text: Knee pain. Flu.\n")
    command = ["predict", "-", "-o", "-", *model]
    piped = subprocess.run(
        [sys.executable, "-m", "constrained_ner", *command],
        input="\ufeffKnee pain.\r\nFièvre.".encode(),
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert json.loads(piped.stdout)["text"] == "Knee pain.\r\nFièvre."
    broken = CliRunner().invoke(main, command, input=b"Knee \xff")
    assert "standard input:1: not UTF-8: byte 0xff at byte offset 5" in broken.stderr
    latin = CliRunner().invoke(main, [*command, "--encoding", "cp1252"], input=b"Fi\xe8vre.")
    assert json.loads(latin.stdout)["text"] == "Fièvre."
    for wrong in (["predict", *model], ["predict", "-t", "x", str(SAMPLES), *model]):
        assert "expected either INPUT or --text" in cner(*wrong).output
    alone = cner("predict", "-t", "x", "--resume", *model)
    assert "go with an --output that is a file" in alone.output


def on_a_terminal(command: list[str], stdout: int | None = None) -> tuple[str, bytes]:
    """What a terminal gets to see, which errors go to, and what goes to a standard output that is
    another thing than the terminal."""
    reads, shows = os.openpty()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=shows if stdout is None else stdout,
        stderr=shows,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as process:
        os.close(shows)
        seen = b""
        with contextlib.suppress(OSError):  # the terminal is gone once nobody writes to it
            while part := os.read(reads, 4096):
                seen += part
        os.close(reads)
        written = process.stdout.read() if process.stdout else b""
    assert process.returncode == 0, seen
    return seen.decode(), written


def test_a_bar_on_a_terminal_leaves_the_output_alone(tiny_folder: Path) -> None:
    command = [sys.executable, "-m", "constrained_ner", "predict", "-t", "Knee pain."]
    command += ["--model", str(tiny_folder), "--max-new-tokens", "40", "--labels", "Disease"]
    seen, written = on_a_terminal(command, subprocess.PIPE)
    assert written.decode().startswith("text: Knee pain.\n")
    assert "Knee pain" not in seen
    assert "1 documents" in seen
    # Nothing of the bar stays in the line of the first thing that is printed.
    seen, _ = on_a_terminal([*command, "-o", "-"])
    lines = re.split(r"[\r\n]|\x1b\[2K", seen)
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in lines]
    assert [line for line in lines if line.startswith('{"id": "text", "text": "Knee')]


def test_a_terminal_shows_what_a_document_says_and_obeys_none_of_it() -> None:
    text = "\x1b[2JDenies\r\nleft \x07knee\x9b31m pain, flu"
    places = [(text.index(s), text.index(s) + len(s)) for s in ("left", "knee\x9b31m", "flu")]
    pain, flu = Entity("Disease", tuple(places[:2])), Entity("Dis\x1bease", tuple(places[2:]))
    prediction = Prediction(
        "a\x1bb", text, (pain, flu), formats=(FORMATS["multi_term"],), level=Level.FAITHFUL
    )
    shown = coloured(prediction, ["Disease"])
    assert isinstance(shown, Group)
    marked = shown.renderables[1]
    assert isinstance(marked, Text)
    assert [marked.plain[span.start : span.end] for span in marked.spans] == [
        *("left", "knee\ufffd31m", "flu"),
    ]
    file = io.StringIO()
    console = Console(file=file, width=100)
    console.print(shown)
    written = file.getvalue()
    assert not [c for c in written if unicodedata.category(c) == "Cc" and c != "\n"]
    assert "␛[2JDenies \nleft ␇knee" in written
    assert "Dis␛ease" in written
    failed = replace(prediction, error="no\x1b[2J")
    console.print(coloured(failed, []))
    assert "no␛[2J" in file.getvalue()


def test_confidence_can_be_left_out(tiny_folder: Path) -> None:
    arguments = ("predict", "-t", "Knee pain, knee pain.", "--labels", "Disease", "-o", "-")
    model = ("--model", tiny_folder, "--format", "multi_tag")
    records = [
        json.loads(cner(*arguments, *model, *extra).stdout) for extra in ([], ["--no-confidence"])
    ]
    asked_for = (*arguments[:-2], *model, "--output-format", "records")  # without -o
    assert json.loads(cner(*asked_for).stdout) == records[0]
    assert [e["label"] for e in records[0]["entities"]] == [
        e["label"] for e in records[1]["entities"]
    ]
    assert all(math.isfinite(e["confidence"]) for e in records[0]["entities"])
    assert not any("confidence" in e for e in records[1]["entities"])
    assert "allowed_mass" not in records[1]["answers"][0]


# ---- records


@pytest.mark.parametrize("level", list(Level))
def test_a_record_that_is_read_is_the_record(
    level: Level, tiny_model: LoadedModel, samples: list[Document]
) -> None:
    """Whatever the format; documents that failed, and parts that were left out, too."""
    given: list[Document | InputError] = [
        *samples[:3],
        Document("empty", " "),
        Document("passages", "Knee pain. None.", passages=(Passage("title", 0, 10),)),
        InputError("not JSON", "notes.jsonl", 8),
    ]
    for name in ("multi_brat", "conv_term", "single_tag"):
        predictor = predictor_of(tiny_model, name, level=level, max_new_tokens=80)
        for prediction in predictor.predict(given):
            record = json.loads(json.dumps(prediction.to_json()))
            again = Prediction.from_json(record)
            assert again.to_json() == prediction.to_json()
            assert again.entities == prediction.entities
            assert len(again.replies) == len(prediction.replies)


@pytest.mark.parametrize("damage", ["", "{", "[]"])
def test_a_damaged_mark_does_no_harm(damage: str, tiny_model: LoadedModel, tmp_path: Path) -> None:
    """The records say themselves what they were made from."""
    path, mark = tmp_path / "out.jsonl", tmp_path / ".out.jsonl.run"
    documents: list[Document | InputError] = [Document(str(i), "Knee pain.") for i in range(3)]
    next(Run(documents, path, SETTINGS).answer(lambda: predictor_of(tiny_model)))
    mark.write_text(damage)
    with pytest.raises(InputError, match="made with other settings: "):
        answered(tiny_model, documents, path, {}, resume=True)
    assert len(answered(tiny_model, documents, path, resume=True)) == 3
    assert not mark.exists()


def test_going_on_does_not_touch_the_mark(tiny_model: LoadedModel, tmp_path: Path) -> None:
    """A disk that is full then cannot take it away."""
    path, mark = tmp_path / "out.jsonl", tmp_path / ".out.jsonl.run"
    documents: list[Document | InputError] = [Document(str(i), "Knee pain.") for i in range(3)]
    next(Run(documents, path, SETTINGS).answer(lambda: predictor_of(tiny_model)))
    before = mark.stat()
    again = Run(documents, path, SETTINGS, resume=True)
    next(again.answer(lambda: predictor_of(tiny_model)))
    assert (mark.stat().st_mtime_ns, mark.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


@pytest.mark.parametrize("bad", [{"left_out": 3}, {"left_out": [[1, 2]]}, {"error": 3}])
def test_foreign_records_are_refused(bad: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(json.dumps({"id": "0", **bad}) + "\n")
    with pytest.raises(InputError, match="not a record of a run"):
        Run([Document("0", "Pain.")], path, resume=True)


def test_two_runs_do_not_write_one_file(
    many: list[Document | InputError], tiny_model: LoadedModel, tmp_path: Path
) -> None:
    path = tmp_path / "out.jsonl"
    first = Run(many[:2], path)
    with pytest.raises(InputError, match=r"out.jsonl: another run is writing it"):
        Run(many[:2], path, resume=True, overwrite=True)
    predictor = Predictor(tiny_model, FORMATS["multi_term"], [Target(LABELS)], max_new_tokens=40)
    assert len(list(first.answer(lambda: predictor))) == 2
    assert os.listdir(tmp_path) == ["out.jsonl"]
    Run(many[:2], path, resume=True)
