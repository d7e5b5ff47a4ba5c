"""Outputs that are a folder of files, and runs whose documents go to workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from constrained_ner.cli.running import Running
from constrained_ner.corpora import read
from constrained_ner.documents import Document
from constrained_ner.locks import locked
from constrained_ner.pipeline.runs import CHUNK
from tests.support.commands import cner

DOCUMENTS = 2 * CHUNK + 7


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    records = [{"id": f"d{i}", "text": f"knee pain {i}"} for i in range(DOCUMENTS)]
    records[5]["text"] = ""  # an error, which stays one
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def predict(texts: Path, tiny_folder: Path) -> Any:
    def run(output: Path, *options: str | Path) -> Result:
        return cner(
            *("predict", texts, "--model", tiny_folder, "--labels", "finding"),
            *("--max-new-tokens", "12", "--dtype", "float32", "-o", output, *options),
        )

    return run


def lines_of(folder: Path) -> list[str]:
    return [
        line
        for path in sorted(folder.glob("part-*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def test_shards_hold_what_one_file_holds(predict: Any, tmp_path: Path) -> None:
    whole, folder = tmp_path / "whole.jsonl", tmp_path / "shards"
    assert predict(whole).exit_code == 1
    result = predict(folder, "--shard-size", "50")
    assert result.exit_code == 1, result.output
    assert "document 'd5': the text is empty" in result.output
    assert [path.name for path in sorted(folder.glob("part-*"))] == [
        f"part-0000{i}.jsonl" for i in range(3)
    ]
    ids = [json.loads(line)["id"] for line in lines_of(folder)]
    assert ids == [f"d{i}" for i in range(DOCUMENTS)]
    # Chunks are others, and with them which answers share a batch; no more than that may differ.
    first = folder / "part-00000.jsonl"
    assert first.read_text().splitlines()[:50] == whole.read_text().splitlines()[:50]


def test_going_on_passes_over_finished_shards(
    predict: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shards"
    predict(folder, "--shard-size", "50")
    before = lines_of(folder)
    assert "holds shards: --resume goes on" in predict(folder, "--shard-size", "50").output

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was loaded")

    with monkeypatch.context() as patched:
        patched.setattr(Running, "answers", never)
        result = predict(folder, "--shard-size", "50", "--resume")
    assert f"0 documents (and {DOCUMENTS} done before)" in result.output
    assert "document 'd5': the text is empty" in result.output
    # The last one is begun, and none behind the first is known to be finished.
    journal = folder / ".shards.jsonl"
    head = "".join(journal.read_text().splitlines(keepends=True)[:2])
    journal.write_text(head + '{"shard": "part-0')
    last = folder / "part-00002.jsonl"
    last.write_text(last.read_text()[:300])
    result = predict(folder, "--shard-size", "50", "--resume")
    assert lines_of(folder) == before
    other = predict(folder, "--shard-size", "50", "--resume", "--level", "syntax")
    assert "is of other documents or settings" in other.output
    other = predict(folder, "--shard-size", "49", "--resume")
    assert "'shard size': 49} was asked for" in other.output
    assert predict(folder, "--shard-size", "100", "--overwrite").exit_code == 1
    assert len(list(folder.glob("part-*"))) == 2


def test_nothing_of_others_is_replaced(
    predict: Any, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "part-00000.jsonl").write_text("mine")
    for more in ([], ["--resume"], ["--overwrite"]):
        result = predict(folder, "--shard-size", "50", *more)
        assert "'part-00000.jsonl', and no shards: expected a new or an empty" in result.output
    assert [path.name for path in folder.iterdir()] == ["part-00000.jsonl"]
    (folder / "part-00000.jsonl").unlink()
    predict(folder, "--shard-size", "50", "--limit", "100")
    foreign = ["part-00000.gz", "part-00001.jsonl.bak", "notes.txt", "part-00007.jsonl.d"]
    for name in foreign[:3]:
        (folder / name).write_text("mine")
    (folder / foreign[3]).mkdir()
    before = lines_of(folder)
    # Nothing is gone before there is something that replaces it.
    result = predict(folder, "--shard-size", "60", "--overwrite", "--model", tmp_path / "none")
    assert result.exit_code == 1
    assert lines_of(folder) == before
    assert predict(folder, "--shard-size", "60", "--overwrite", "--limit", "100").exit_code == 1
    assert len(lines_of(folder)) == 100
    assert all((folder / name).exists() for name in foreign)
    assert not (folder / ".shards.lock").exists()
    with locked(folder / "shards"):
        for again in ("--resume", "--overwrite"):
            result = predict(folder, "--shard-size", "60", "--limit", "100", again)
            assert f"{folder}: another run is writing it" in result.output
    result = predict(folder, "--shard-size", "60", "--resume", "--output-format", "csv")
    assert "holds shards of" in result.output
    result = cner("predict", folder / "part-00000.jsonl", "-o", folder, "--shard-size", "5")
    assert "holds the input" in result.output


@pytest.mark.parametrize("journal", ["", '{"kind": "rec'])
def test_a_run_that_was_killed_before_it_began_is_begun(
    predict: Any, tmp_path: Path, journal: str
) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / ".shards.jsonl").write_text(journal)
    assert predict(folder, "--shard-size", "3", "--limit", "4", "--resume").exit_code == 0
    assert len(lines_of(folder)) == 4
    assert len((folder / ".shards.jsonl").read_text().splitlines()) == 3


def test_a_new_folder_without_a_model_stays_empty(predict: Any, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    assert predict(folder, "--shard-size", "3", "--model", tmp_path / "none").exit_code == 1
    assert list(folder.iterdir()) == []


def test_what_is_replaced_goes_with_what_a_killed_run_left_beside_it(
    predict: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "shards"
    predict(folder, "--shard-size", "3", "--limit", "3")
    beside = ("run", "lock", "0a1b2c3d.part", "run.0a1b2c3d.part")
    left = [f".part-00001.jsonl.{name}" for name in beside]
    for name in left:
        (folder / name).write_text("left")
    predict(folder, "--shard-size", "3", "--limit", "3", "--overwrite")
    assert {path.name for path in folder.iterdir()} == {".shards.jsonl", "part-00000.jsonl"}


def test_shards_are_evaluated_as_one_file(predict: Any, texts: Path, tmp_path: Path) -> None:
    whole, folder = tmp_path / "whole.jsonl", tmp_path / "shards"
    predict(whole, "--limit", "70")
    predict(folder, "--shard-size", "64", "--limit", "70")  # the same chunks
    gold = tmp_path / "gold.jsonl"
    gold.write_text("".join(texts.read_text().splitlines(keepends=True)[:70]))
    one, many = (cner("evaluate", gold, path).output for path in (whole, folder))
    assert one.replace(str(whole), "") == many.replace(str(folder), "")
    assert "failed: 1" in many


def test_shards_of_a_table(predict: Any, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="an extra")
    folder = tmp_path / "shards"
    result = predict(folder, "--shard-size", "60", "--output-format", "parquet", "--limit", "70")
    assert result.exit_code == 1, result.output
    assert [path.name for path in sorted(folder.glob("part-*"))] == [
        "part-00000.parquet",
        "part-00001.parquet",
    ]
    again = predict(
        folder, "--shard-size", "60", "--output-format", "parquet", "--limit", "70", "--resume"
    )
    assert "0 documents (and 70 done before)" in again.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard-size", "5", "--output-format", "brat"], "not for brat"),
        (["--shard-size", "5", "--output-format", "html"], "not for html"),
        (["--workers", "3"], "--workers goes with --engine ray"),
        (["--vllm-option", "a=1"], "--vllm-option goes with --engine vllm"),
        (["--engine", "vllm", "--device", "cpu"], "CUDA_VISIBLE_DEVICES"),
        (["--engine", "vllm", "--vllm-option", "a"], "expected NAME=VALUE"),
    ],
)
def test_options_that_do_not_go_together(
    predict: Any, tmp_path: Path, options: list[str], message: str
) -> None:
    result = predict(tmp_path / "out", *options)
    assert result.exit_code != 0
    assert message in result.output


def test_shards_can_be_read_as_one_corpus(predict: Any, tmp_path: Path) -> None:
    predict(tmp_path / "shards", "--shard-size", "50")
    found = [one for one in read(tmp_path / "shards") if isinstance(one, Document)]
    assert len(found) == DOCUMENTS - 1


def test_ray_writes_the_file_that_one_process_writes(
    predict: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="an extra")
    one, many = tmp_path / "one.jsonl", tmp_path / "many.jsonl"
    predict(one)
    try:
        result = predict(many, "--engine", "ray", "--workers", "2", "--worker-cpus", "1")
    finally:
        ray.shutdown()
    assert result.exit_code == 1, result.output
    assert many.read_bytes() == one.read_bytes()
    # Whoever began it, the other can go on.
    many.write_bytes(many.read_bytes()[:-500])
    predict(many, "--resume")
    assert many.read_bytes() == one.read_bytes()


def test_ray_needs_a_file(texts: Path, tiny_folder: Path) -> None:
    result = cner("predict", texts, "--engine", "ray")
    assert "needs an --output that is a file" in result.output
