"""Whole runs: stopped and gone on with, what ends them early, several processes, what is left."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count, groupby
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from huggingface_hub import ModelCard
from peft import LoraConfig, get_peft_model
from peft.utils import save_and_load
from safetensors.torch import load_file, save_file
from torch.torch_version import TorchVersion
from transformers import GPT2Config, GPT2LMHeadModel, TrainerCallback, pipeline

from constrained_ner.adapters import BASE_MODEL
from constrained_ner.atomic import LOCK
from constrained_ner.cli import main
from constrained_ner.corpora.fingerprints import FILE as FINGERPRINTS
from constrained_ner.corpora.fingerprints import fingerprint, load_fingerprints
from constrained_ner.engines import models as models_module
from constrained_ner.engines.models import LoadedModel, load_model, sources
from constrained_ner.errors import InputError, TrainingError
from constrained_ner.evaluation import Counts
from constrained_ner.formats import FORMATS
from constrained_ner.locks import held
from constrained_ner.pipeline.manifest import load_manifest
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.training import clock as clock_module
from constrained_ner.training import data as data_module
from constrained_ner.training import loop as loop_module
from constrained_ner.training.building import build
from constrained_ner.training.cache import load_examples
from constrained_ner.training.checkpoints import (
    ADAPTER,
    MARK,
    last_checkpoint,
    whole_checkpoints,
)
from constrained_ner.training.data import draw_examples
from constrained_ner.training.loop import train
from constrained_ner.training.recipe import CorpusFiles, Evaluation, Lora, Recipe
from constrained_ner.training.run import prepare, run
from constrained_ner.training.sampling import Sampling
from constrained_ner.training.saving import as_kept
from constrained_ner.training.scoring import score
from tests.support.training import TEN, silent, write_documents

ROOT = Path(__file__).parent.parent


def losses(log: list[dict[str, Any]]) -> list[tuple[int, float, float]]:
    return [(e["step"], e["loss"], e["grad_norm"]) for e in log if "loss" in e]


def scores(log: list[dict[str, Any]]) -> list[tuple[int, int, int, int]]:
    return [
        (e["step"], e["eval_gold"], e["eval_predicted"], e["eval_correct"])
        for e in log
        if "eval_f1" in e
    ]


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def weights(model: LoadedModel) -> dict[str, torch.Tensor]:
    bare: Any = model.steerable.model
    return {name: value.clone() for name, value in bare.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---- stopped, and gone on with ------------------------------------------------------------------


class Stop(BaseException):
    """No error that anything catches: as sudden as a test can be in its own process."""


class StopAt(TrainerCallback):
    """Stops at a step, before or after its checkpoint is marked as whole."""

    def __init__(self, step: int, event: str):
        self.step, self.event = step, event

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._at("step", state)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._at("save", state)

    def _at(self, event: str, state: Any) -> None:
        if (event, state.global_step) == (self.event, self.step):
            raise Stop


@pytest.fixture(scope="module", params=["all weights", "lora"])
def whole(
    request: pytest.FixtureRequest, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Recipe, LoadedModel, list[dict[str, Any]]]:
    """A run that nothing stopped. The adapter has dropout: chance has to be gone on with, too."""
    if request.param == "lora":
        recipe = replace(recipe, lora=Lora(rank=4, dropout=0.2))
    model, _, log = train(recipe, tmp_path_factory.mktemp("whole"))
    assert [step for step, *_ in scores(log)] == [2, 4, 6, 8, 10]
    assert [step for step, *_ in losses(log)] == [2, 4, 6, 8, 10]
    return recipe, model, log


@pytest.mark.parametrize(("step", "event"), [(1, "step"), (4, "save"), (9, "step")])
def test_a_stopped_run_comes_to_the_same_end(
    step: int, event: str, whole: tuple[Recipe, LoadedModel, list[Any]], tmp_path: Path
) -> None:
    recipe, model, log = whole
    with pytest.raises(Stop):
        train(recipe, tmp_path, callbacks=[StopAt(step, event)])
    found, _, again = train(recipe, tmp_path)
    assert losses(again) == losses(log)
    assert scores(again) == scores(log)
    assert same(weights(found), weights(model))
    assert losses(log_of(tmp_path)) == losses(log)
    assert scores(log_of(tmp_path)) == scores(log)


def test_a_run_that_is_stopped_again_and_again(
    whole: tuple[Recipe, LoadedModel, list[Any]], tmp_path: Path
) -> None:
    recipe, model, log = whole
    for step in (3, 5, 6, 8, 10):
        with pytest.raises(Stop):
            train(recipe, tmp_path, callbacks=[StopAt(step, "step")])
    found, _, again = train(recipe, tmp_path)
    assert losses(again) == losses(log) == losses(log_of(tmp_path))
    assert scores(again) == scores(log) == scores(log_of(tmp_path))
    assert same(weights(found), weights(model))
    # Nothing is left to do: called again, it gives the same model.
    found, _, again = train(recipe, tmp_path)
    assert losses(again) == losses(log)
    assert same(weights(found), weights(model))


def test_what_is_cut_off_is_passed_over(
    whole: tuple[Recipe, LoadedModel, list[Any]], tmp_path: Path
) -> None:
    recipe, model, log = whole
    with pytest.raises(Stop):
        train(recipe, tmp_path, callbacks=[StopAt(7, "step")])
    checkpoints = tmp_path / "checkpoints"
    assert whole_checkpoints(checkpoints)[-1] == checkpoints / "checkpoint-6"
    # One that was being written, one that was being removed, and a line of the log.
    shutil.copytree(checkpoints / "checkpoint-6", checkpoints / "checkpoint-8")
    (checkpoints / "checkpoint-8" / MARK).unlink()
    (checkpoints / "checkpoint-8" / "optimizer.pt").write_bytes(b"half")
    (checkpoints / "checkpoint-1").mkdir()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    assert last_checkpoint(checkpoints) == checkpoints / "checkpoint-6"
    assert not (checkpoints / "checkpoint-8").exists()
    found, _, again = train(recipe, tmp_path)
    assert losses(again) == losses(log) == losses(log_of(tmp_path))
    assert same(weights(found), weights(model))


@pytest.mark.parametrize("epochs", [0.5, 1.5])
def test_a_run_of_half_an_epoch_is_over_when_it_is_over(
    epochs: float, recipe: Recipe, tmp_path: Path
) -> None:
    half = replace(recipe, training=replace(recipe.training, epochs=epochs))
    model, _, log = train(half, tmp_path)
    before = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    again, _, after = train(half, tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == before
    assert scores(after) == scores(log)
    assert same(weights(again), weights(model))


def test_two_processes_do_not_write_one_run(recipe: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with held(folder):
        for begin in (run, prepare):
            with pytest.raises(InputError, match="another run is writing it"):
                begin(recipe, folder, silent)
    assert not folder.exists()
    # What a process that was killed has left locks nothing out.
    folder.mkdir()
    (folder / LOCK).touch()
    result = CliRunner().invoke(main, command(recipe, folder, "--epochs", "1"))
    assert result.exit_code == 0, result.output
    assert not (folder / LOCK).exists()


def test_the_time_of_a_run_is_that_of_all_its_parts(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        train(recipe, tmp_path, callbacks=[StopAt(4, "save")])
    before = max(entry["minutes"] for entry in log_of(tmp_path))
    train(recipe, tmp_path)
    minutes = [entry["minutes"] for entry in log_of(tmp_path) if "minutes" in entry]
    assert minutes == sorted(minutes)
    assert 0 < before < minutes[-1]


def test_checkpoints_that_are_kept(recipe: Recipe, tmp_path: Path) -> None:
    once = replace(recipe, training=replace(recipe.training, keep=1))
    _, _, log = train(once, tmp_path)
    best = max(scores(log), key=lambda s: (s[3], -s[0]))[0]
    found = {path.name for path in whole_checkpoints(tmp_path / "checkpoints")}
    assert found <= {"checkpoint-10", "checkpoint-8", f"checkpoint-{best}"}
    assert len(found) == 2
    for path in (tmp_path / "checkpoints").iterdir():
        assert (path / "model.safetensors").is_file()
        assert not list(path.glob("pytorch_model*"))
        # Who may read one file may read the others.
        assert len({file.stat().st_mode for file in path.iterdir()}) == 1


def test_the_best_weights_are_found_where_the_folder_is_now(recipe: Recipe, tmp_path: Path) -> None:
    model, _, _ = train(recipe, tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    found, _, _ = train(recipe, tmp_path / "there")
    assert same(weights(found), weights(model))


def test_patience(recipe: Recipe, tmp_path: Path) -> None:
    # A model that answers nothing never gets better than 0: the first evaluation stays the best.
    lazy = replace(
        recipe,
        training=replace(recipe.training, learning_rate=1e-9, patience=2),
        evaluation=Evaluation(max_new_tokens=1),
    )
    model, _, log = train(lazy, tmp_path)
    assert [step for step, *_ in scores(log)] == [2, 4, 6]
    again, _, after = train(lazy, tmp_path)
    assert scores(after) == scores(log)
    assert losses(after) == losses(log)
    assert same(weights(again), weights(model))


def command(recipe: Recipe, output: Path, *options: str) -> list[str]:
    """`cner train` with the recipe as a file, all splits of it the same."""
    (data,) = recipe.data
    tables: dict[str, dict[str, Any]] = {
        "examples": {"formats": list(recipe.examples.formats), "train": 10, "dev": 2, "test": 2},
        "training": {
            "learning_rate": 0.01,
            "batch_size": 1,
            "accumulation": 2,
            "evaluations": 2.0,
            "dtype": "float32",
        },
        "evaluation": {"max_new_tokens": 8},
        "[data]": {"name": "ten"} | {s: str(data.train) for s in ("train", "dev", "test")},
    }
    lines = [f"model = {json.dumps(recipe.model)}"]
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    path = output.with_suffix(".toml")
    path.write_text("\n".join(lines), encoding="utf-8")
    return ["train", str(path), "-o", str(output), *options]


def wait_for(process: subprocess.Popen[bytes], path: Path) -> None:
    until = monotonic() + 120
    while not path.exists():
        assert process.poll() is None, "the run came to its end before it could be killed"
        assert monotonic() < until
        sleep(0.002)


def test_a_killed_process(recipe: Recipe, tmp_path: Path) -> None:
    options = ("--epochs", "3", "--rank", "4")
    result = CliRunner().invoke(main, command(recipe, tmp_path / "whole", *options))
    assert result.exit_code == 0, result.output
    process = subprocess.Popen(
        [sys.executable, "-m", "constrained_ner", *command(recipe, tmp_path / "killed", *options)],
        cwd=ROOT,
    )
    wait_for(process, tmp_path / "killed" / "checkpoints" / "checkpoint-2" / MARK)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "cner.json").exists()
    result = CliRunner().invoke(main, command(recipe, tmp_path / "killed", *options))
    assert result.exit_code == 0, result.output
    logs = [log_of(tmp_path / name) for name in ("whole", "killed")]
    assert losses(logs[0]) == losses(logs[1])
    assert scores(logs[0]) == scores(logs[1])
    files = [
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "killed")
    ]
    assert same(*files)


def test_a_folder_holds_one_run(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        train(recipe, tmp_path, callbacks=[StopAt(3, "step")])
    other = replace(recipe, seed=1)
    with pytest.raises(TrainingError, match="holds a run with another 'seed': name another folder"):
        train(other, tmp_path)
    data = write_documents(tmp_path / "ten.jsonl", TEN[:9])
    other = replace(recipe, data=(replace(recipe.data[0], train=data),))
    with pytest.raises(TrainingError, match="another 'files'"):
        train(other, tmp_path)


def test_a_base_that_was_trained_anew_is_another_run(
    recipe: Recipe, tiny_folder: Path, tmp_path: Path
) -> None:
    base, folder = tmp_path / "base", tmp_path / "run"
    shutil.copytree(tiny_folder, base)
    own = replace(recipe, model=str(base))
    with pytest.raises(Stop):
        train(own, folder, callbacks=[StopAt(3, "step")])
    weights = load_file(base / "model.safetensors")
    name = min(weights)
    weights[name] = weights[name] + 1
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(TrainingError, match="another 'base'"):
        train(own, folder)


def test_files_beside_the_data_are_a_part_of_it(recipe: Recipe, tmp_path: Path) -> None:
    """brat's annotations lie in a file of their own, beside the one that is named."""
    data = tmp_path / "1.txt"
    data.write_text("Aspirin helped in gout.")
    data.with_suffix(".ann").write_text("T1\tDisease 18 22\tgout\nT2\tGene 0 7\tAspirin\n")
    own = replace(recipe, data=(CorpusFiles(train=data),))
    with pytest.raises(Stop):
        train(own, tmp_path / "run", callbacks=[StopAt(1, "step")])
    data.with_suffix(".ann").write_text("T1\tDisease 18 22\tgout\nT2\tGene 8 14\thelped\n")
    with pytest.raises(TrainingError, match="another 'drawn examples'"):
        train(own, tmp_path / "run")


def test_a_base_in_a_folder_is_found_from_elsewhere(
    recipe: Recipe, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_folder, tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    few = replace(recipe.training, epochs=1.0)
    own = replace(recipe, model="base", lora=Lora(2), training=few)
    run(own, tmp_path / "run", silent)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert sources(tmp_path / "run") == (str(tmp_path / "base"), [str(tmp_path / "run")])


def test_a_card_that_somebody_has_edited_is_left_as_it_is(
    recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = replace(recipe, training=replace(recipe.training, epochs=1.0))
    run(few, tmp_path, silent)
    card = (tmp_path / "README.md").read_text()
    run(few, tmp_path, silent)
    assert (tmp_path / "README.md").read_text() == card
    assert caplog.messages == []
    (tmp_path / "README.md").write_text(card + "\nOurs.\n")
    run(few, tmp_path, silent)
    assert (tmp_path / "README.md").read_text() == card + "\nOurs.\n"
    assert caplog.messages == [f"{tmp_path}/README.md: left as it is, since somebody has edited it"]


def test_a_folder_of_documents_is_trained_on(recipe: Recipe, tmp_path: Path) -> None:
    """What it holds is a part of what a run is, and what it held at the beginning is remembered."""
    data, model = tmp_path / "notes", tmp_path / "model"
    data.mkdir()
    for name, documents in (("a.jsonl", TEN[:6]), ("b.jsonl", TEN[6:])):
        write_documents(data / name, documents)
    folder = replace(
        recipe,
        data=(CorpusFiles(train=data),),
        training=replace(recipe.training, epochs=1.0),
        default_labels=("Gene",),
        synonyms=(("Gene", "Disease"),),
    )
    outcome = run(folder, model, silent)
    assert outcome.drawn.corpora[0].documents == TEN
    said = load_manifest(model)
    assert said is not None
    assert (said.default_labels, said.synonyms) == (("Gene",), (("Gene", "Disease"),))
    (dataset,) = said.datasets
    lines = [
        f"{hashlib.sha256((data / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("a.jsonl", "b.jsonl")
    ]
    assert dataset.fingerprint == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert dataset.name == "notes"
    train(folder, model)
    (data / "b.jsonl").rename(data / "c.jsonl")
    with pytest.raises(TrainingError, match="another 'files'"):
        train(folder, model)
    inside = ["train", "--train", str(data), "--model", recipe.model, "-o", str(data / "model")]
    result = CliRunner().invoke(main, inside)
    assert (result.exit_code, (data / "model").exists()) == (1, False)
    assert "lies in the input folder" in result.output


def test_data_may_be_gone_when_a_run_is_over(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has been read is not asked for again after hours of training."""
    path = write_documents(tmp_path / "ten.jsonl")
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    short = replace(
        recipe,
        data=(CorpusFiles(train=path),),
        training=replace(recipe.training, epochs=1.0),
    )

    def then_remove(*arguments: Any, **options: Any) -> Any:
        trained = train(*arguments, **options)
        path.unlink()
        return trained

    monkeypatch.setattr("constrained_ner.training.run.train", then_remove)
    run(short, tmp_path / "model", silent)
    said = load_manifest(tmp_path / "model")
    assert said is not None
    assert said.datasets[0].fingerprint == checksum


# ---- what ends a run early ----------------------------------------------------------------------


def test_a_loss_that_is_no_number(recipe: Recipe, tmp_path: Path) -> None:
    wild = replace(recipe, training=replace(recipe.training, learning_rate=1e30, max_grad_norm=0.0))
    with pytest.raises(TrainingError, match=r"the (loss|grad_norm) is (nan|inf) at step \d+"):
        train(wild, tmp_path)
    for path in whole_checkpoints(tmp_path / "checkpoints"):
        tensors = load_file(path / "model.safetensors")
        assert all(tensor.isfinite().all() for tensor in tensors.values())


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Writing more fails with an error of the system, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("whole", "share"),
    [("all weights", 0.3), ("lora", 1.5)],
    indirect=["whole"],
    ids=["weights", "optimiser"],
)
def test_a_disk_that_is_full(
    share: float, whole: tuple[Recipe, LoadedModel, list[Any]], tmp_path: Path
) -> None:
    recipe, model, log = whole
    bare: Any = model.steerable.model
    trained = [p for p in bare.parameters() if p.requires_grad]
    size = sum(p.numel() * p.element_size() for p in trained)
    with (
        files_no_larger_than(int(share * size)),
        pytest.raises(TrainingError, match=r"cannot be written: .*; the run goes on from"),
    ):
        train(recipe, tmp_path)
    assert whole_checkpoints(tmp_path / "checkpoints") == []
    _, _, again = train(recipe, tmp_path)
    assert losses(again) == losses(log)


def test_a_disk_that_is_full_in_the_end(recipe: Recipe, tmp_path: Path) -> None:
    plain = replace(recipe, lora=Lora(rank=2))
    train(plain, tmp_path)
    with files_no_larger_than(1000), pytest.raises(TrainingError, match="cannot be written"):
        run(plain, tmp_path, silent)
    assert not (tmp_path / "adapter_model.safetensors").exists()
    run(plain, tmp_path, silent)
    assert load_manifest(tmp_path) is not None
    assert not (tmp_path / ".model").exists()


def test_a_disk_that_is_too_small_to_begin_with(recipe: Recipe, tmp_path: Path) -> None:
    greedy = replace(recipe, training=replace(recipe.training, keep=10**9))
    with pytest.raises(TrainingError, match=r"GB are free, and the run takes \d+"):
        train(greedy, tmp_path)


def test_layers_are_compiled_wherever_a_model_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **_: seen.append(type(self).__name__)
    )
    tiny = GPT2Config(vocab_size=9, n_positions=8, n_embd=4, n_layer=3, n_head=1)
    loop_module._compile_layers(GPT2LMHeadModel(tiny))
    assert seen == ["GPT2Block"] * 3
    seen.clear()
    adapted = get_peft_model(
        GPT2LMHeadModel(tiny), LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True)
    )
    loop_module._compile_layers(adapted)
    assert seen == ["GPT2Block"] * 3
    other: Any = torch.nn.Linear(2, 2)
    other.config = GPT2Config(n_layer=3)
    with pytest.raises(TrainingError, match=r"training\.compile: a gpt2 has no list of 3 layers"):
        loop_module._compile_layers(other)


def test_targets_that_are_not_there(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"lora\.targets: .*nowhere"):
        train(replace(recipe, lora=Lora(targets=("nowhere",))), tmp_path)


def test_the_command_says_what_is_wrong(recipe: Recipe, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["train", "-o", str(tmp_path)])
    assert "expected either a RECIPE or --train DATA" in result.output
    data, output = str(recipe.data[0].train), str(tmp_path / "run")
    result = CliRunner().invoke(main, ["train", data, "-o", output])
    assert "expected a recipe: documents to train on go with --train" in result.output
    words = ["train", "--train", data, "--labels", "Protein", "--model", recipe.model, "-o", output]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert "the label 'Protein' occurs nowhere: there are Disease, Gene" in result.output
    assert not (tmp_path / "run" / "checkpoints").exists()


# ---- adapters, all weights, and checkpointing of activations ------------------------------------


@pytest.mark.parametrize("lora", [None, Lora(4), Lora(2, targets=("q_proj", "v_proj"))])
def test_activations_computed_twice_change_nothing(
    lora: Lora | None, recipe: Recipe, tmp_path: Path
) -> None:
    plain = replace(recipe, lora=lora)
    twice = replace(plain, training=replace(plain.training, gradient_checkpointing=True))
    before = weights(load_model(recipe.model))
    model, _, log = train(plain, tmp_path / "plain")
    other, _, again = train(twice, tmp_path / "twice")
    assert [step for step, *_ in losses(again)] == [step for step, *_ in losses(log)]
    for a, b in zip(losses(log), losses(again), strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    assert scores(log) == scores(again)
    found, expected = weights(other), weights(model)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-4)
    changed = {n for n, p in model.steerable.model.named_parameters() if p.requires_grad}
    if lora is None:
        assert any(not torch.equal(before[name], expected[name]) for name in before)
        assert all("lora" not in name for name in expected)
    else:
        assert all("lora" in name for name in changed)
        kinds = {name.split(".lora_")[0].rpartition(".")[2] for name in changed}
        everything = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
        assert kinds == (everything if lora.targets == "all-linear" else set(lora.targets))
        ranks = {expected[n].shape[0] for n in changed if "lora_A" in n}
        assert ranks == {lora.rank}


def test_frozen_weights_are_bfloat16_while_an_adapter_is_trained(
    recipe: Recipe, tmp_path: Path
) -> None:
    """And what they were, to the bit, afterwards."""
    seen: set[tuple[torch.dtype, bool]] = set()

    class Look(TrainerCallback):
        def on_step_end(self, *_: Any, model: Any = None, **__: Any) -> None:
            seen.update((weight.dtype, weight.requires_grad) for weight in model.parameters())

    chosen = replace(
        recipe, lora=Lora(4), training=replace(recipe.training, dtype="bfloat16", epochs=1.0)
    )
    model, _, _ = train(chosen, tmp_path, callbacks=[Look()])
    assert seen == {(torch.bfloat16, False), (torch.float32, True)}
    base: Any = load_model(recipe.model, device="cpu", dtype="float32").steerable.model
    plain = dict(base.named_parameters())
    trained: Any = model.steerable.model
    frozen = [(name, w) for name, w in trained.named_parameters() if not w.requires_grad]
    assert len(frozen) == len(plain)
    for name, weight in frozen:
        own = name.removeprefix("base_model.model.").replace(".base_layer", "")
        assert torch.equal(weight, plain[own])


# ---- packed rows, the clock ---------------------------------------------------------------------


@pytest.mark.parametrize("lora", [None, Lora(4)])
def test_packed_rows_are_learnt_like_batches(
    lora: Lora | None, recipe: Recipe, tmp_path: Path
) -> None:
    """One step on all examples: the same loss, gradient and weights, however they are laid out."""
    steps = replace(
        recipe.training, epochs=1.0, batch_size=10, accumulation=1, scheduler="constant"
    )
    plain = replace(recipe, lora=lora, training=steps)
    rows = replace(steps, row_tokens=10_000, batch_size=1)
    model, _, log = train(plain, tmp_path / "plain")
    other, _, again = train(replace(plain, training=rows), tmp_path / "packed")
    for key in ("loss", "grad_norm"):
        (a,), (b,) = ([entry[key] for entry in of if key in entry] for of in (log, again))
        assert a == pytest.approx(b, rel=1e-4)
    found, expected = weights(other), weights(model)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-4)


def test_packed_rows_are_gone_on_with(recipe: Recipe, tmp_path: Path) -> None:
    rows = replace(recipe.training, row_tokens=200, batch_size=1, accumulation=1)
    packed = replace(recipe, training=rows)
    model, _, log = train(packed, tmp_path / "whole")
    with pytest.raises(Stop):
        train(packed, tmp_path / "stopped", callbacks=[StopAt(losses(log)[-1][0] - 1, "step")])
    found, _, again = train(packed, tmp_path / "stopped")
    assert losses(again) == losses(log)
    assert same(weights(found), weights(model))


@pytest.mark.parametrize("row_tokens", [0, 200])
def test_what_a_run_came_to_is_told(
    row_tokens: int, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the examples drawn a run that ends early has learnt those of its steps."""

    class Ends(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = state.global_step == 2

    batches: list[list[tuple[int, ...]]] = []
    name = "collate_packed" if row_tokens else "collate"
    collated = getattr(loop_module, name)

    def watched(items: Any, *given: Any, **rest: Any) -> Any:
        rows = items if row_tokens else [items]
        batches.append([tuple(item["input_ids"]) for row in rows for item in row])
        return collated(items, *given, **rest)

    monkeypatch.setattr(loop_module, name, watched)
    steps = replace(recipe.training, row_tokens=row_tokens, batch_size=2, accumulation=1)
    data = (replace(recipe.data[0], dev=None),)
    early = replace(recipe, data=data, training=steps)
    _, drawn, log = train(early, tmp_path, callbacks=[Ends()])
    assert max(entry["step"] for entry in log) == 2
    assert [example.tokens for example in drawn.train] == batches[0] + batches[1]


@pytest.mark.parametrize("scheduler", ["linear", "cosine"])
def test_the_rate_goes_by_the_clock(
    scheduler: str, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run ends when its time is over, with a rate near zero; what was spent is remembered."""
    minutes, ticks = 0.1, count()
    monkeypatch.setattr(clock_module, "perf_counter", lambda: 0.1 * next(ticks))  # about 60 steps
    chosen = replace(
        recipe.training, epochs=10_000.0, minutes=minutes, scheduler=scheduler, evaluations=0.01
    )
    timed = replace(recipe, training=chosen, examples=replace(recipe.examples, dev=1))
    found, _, log = train(timed, tmp_path)
    entries = [entry for entry in log if "learning_rate" in entry]
    rates = [entry["learning_rate"] for entry in entries]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0.5 * chosen.learning_rate
    assert rates[-1] < 0.1 * chosen.learning_rate
    spent = [entry["minutes"] for entry in entries]
    assert spent == sorted(spent)
    assert minutes <= spent[-1] < 2 * minutes
    steps = max(entry["step"] for entry in log)
    # The last weights are among those to choose from, and the same command gives what was chosen.
    assert any("eval_f1" in entry for entry in log if entry["step"] == steps)
    again, _, log = train(timed, tmp_path)
    assert max(entry["step"] for entry in log) == steps
    assert same(weights(again), weights(found))


# ---- what is left -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lora",
    [None, Lora(4), Lora(4, dtype="bfloat16"), Lora(8, keep_rank=4)],
    ids=["all weights", "lora", "lora in bfloat16", "lora that is cut"],
)
def test_what_is_saved_is_enough(lora: Lora | None, recipe: Recipe, tmp_path: Path) -> None:
    data = replace(
        recipe.data[0],
        test=recipe.data[0].train,
        guideline="As they are.",
        guidelines={"Gene": "names of genes"},
    )
    chosen = replace(
        recipe,
        data=(data,),
        lora=lora,
        seed=3,
        examples=replace(recipe.examples, test=3),
        evaluation=Evaluation(max_new_tokens=30),
    )
    outcome = run(chosen, tmp_path, silent)
    names = {path.name for path in tmp_path.iterdir()}
    kept = "model.safetensors" if lora is None else "adapter_model.safetensors"
    assert {kept, "tokenizer.json", "cner.json", "README.md", "log.jsonl"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert (tmp_path / kept).stat().st_mode == (tmp_path / "README.md").stat().st_mode
    # The weights that gave the best score, and the tokenizer.
    loaded = load_model(tmp_path, dtype="float32")
    trained, _, _ = train(chosen, tmp_path)
    as_kept(trained, chosen)
    bare: Any = trained.steerable.model
    if lora is not None:
        # In an order that is the same in each process: other files would be another model.
        targets = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
        assert targets == sorted(targets)
        types = {str(weight.dtype) for weight in load_file(tmp_path / kept).values()}
        assert types == {f"torch.{lora.dtype}"}
        bare = bare.merge_and_unload()
    ids = torch.tensor([[5, 6, 7, 300]])
    with torch.no_grad():
        torch.testing.assert_close(loaded.steerable.model(ids).logits, bare(ids).logits)
        generator: Any = pipeline("text-generation", model=str(tmp_path))  # as others load it
        torch.testing.assert_close(generator.model(ids).logits, bare(ids).logits)
    drawn = outcome.drawn
    chat = drawn.train[0].question.chat()
    assert loaded.encode(chat) == trained.encode(chat)
    assert loaded.vocabulary.ends == trained.vocabulary.ends
    assert loaded.context == 1024
    # What the model says of itself.
    said = load_manifest(tmp_path)
    assert said is not None
    assert said.base == recipe.model
    assert said.formats == ("multi_triple", "single_term")
    assert said.labels == ("Disease", "Gene")
    assert said.seed == 3
    (dataset,) = said.datasets
    assert dataset.fingerprint == hashlib.sha256(recipe.data[0].train.read_bytes()).hexdigest()
    assert (dataset.name, dataset.guideline) == ("ten", "As they are.")
    assert dataset.guidelines == {"Gene": "names of genes"}
    assert (dataset.documents, dataset.examples) == (10, 10)
    assert load_fingerprints(tmp_path) == frozenset(map(fingerprint, TEN))
    assert "{text}" in said.prompt
    assert {"torch", "transformers", "llguidance", "constrained_ner"} <= set(said.versions)
    assert said.recipe == chosen.to_json()
    best = max(scores(log_of(tmp_path)), key=lambda s: (s[3], -s[0]))
    assert said.metrics["eval_f1"] == max(e["eval_f1"] for e in log_of(tmp_path) if "eval_f1" in e)
    assert said.metrics["eval_correct"] == best[3]
    # The test split, both ways.
    assert set(outcome.results) == {
        ("ten", name, level) for name in chosen.examples.formats for level in ("free", "faithful")
    }
    results = ModelCard.load(tmp_path / "README.md").data.eval_results
    assert results is not None
    assert len(results) == 4
    (prediction,) = Predictor(
        loaded, FORMATS["multi_triple"], said.targets(), max_new_tokens=40
    ).predict(TEN[:1])
    assert prediction.error is None


def test_a_packaged_base_is_named_and_not_asked_for(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: Any, **__: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(models_module, "packaged_model", lambda: Path(recipe.model))
    monkeypatch.setattr(save_and_load, "check_file_exists_on_hf_hub", asked)
    run(replace(recipe, model=BASE_MODEL, lora=Lora(rank=2)), tmp_path, silent)
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == BASE_MODEL
    assert load_model(tmp_path).context == 1024


def test_the_best_checkpoint_is_what_is_saved(recipe: Recipe, tmp_path: Path) -> None:
    """The score of the saved weights is the best one of the log."""
    learning = replace(
        recipe,
        training=replace(recipe.training, epochs=12.0, evaluations=0.5),
        evaluation=Evaluation(level="faithful"),
        examples=Sampling(("single_term",), dev=10),
    )
    outcome = run(learning, tmp_path, silent)
    counts = score(load_model(tmp_path), outcome.drawn.dev, learning)["single_term"]
    best = outcome.metrics
    assert counts.scores.f1 == pytest.approx(best["eval_f1"])
    assert (counts.gold, counts.predicted, counts.correct) == (
        *(best["eval_gold"], best["eval_predicted"], best["eval_correct"]),
    )
    assert counts.correct > 0


def test_training_that_begins_with_an_adapter(recipe: Recipe, tmp_path: Path) -> None:
    first = replace(recipe, lora=Lora(rank=4))
    run(first, tmp_path / "first", silent)
    began = Lora(rank=4, start=tmp_path / "first")
    still = replace(recipe.training, learning_rate=1e-12)
    _, _, log = train(replace(recipe, lora=began, training=still), tmp_path / "still")
    before, _, _ = train(first, tmp_path / "first")
    after = load_model(
        recipe.model, last_checkpoint(tmp_path / "still" / "checkpoints"), dtype="float32"
    )
    bare: Any = before.steerable.model
    ids = torch.tensor([[5, 6, 7, 300]])
    with torch.no_grad():
        logits = bare.merge_and_unload()(ids).logits
        torch.testing.assert_close(after.steerable.model(ids).logits, logits)
    # Which it was is remembered, and it is part of what a run is.
    run(replace(recipe, lora=began), tmp_path / "second", silent)
    said = load_manifest(tmp_path / "second")
    assert said is not None
    assert said.recipe["lora"]["start"] == "first"
    assert losses(log)[-1][1] < losses(log_of(tmp_path / "first"))[0][1]
    # What the first has learnt, the second has; where it is not known, it is of neither.
    assert load_fingerprints(tmp_path / "second") == frozenset(map(fingerprint, TEN))
    (tmp_path / "first" / FINGERPRINTS).unlink()
    run(replace(recipe, lora=began), tmp_path / "third", silent)
    assert load_fingerprints(tmp_path / "third") is None
    shutil.copy(tmp_path / "second" / ADAPTER, tmp_path / "first" / ADAPTER)
    with pytest.raises(TrainingError, match="another 'files'"):
        train(replace(recipe, lora=began), tmp_path / "second")


def test_rows_that_a_model_would_mix_are_refused(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "reads_alike", lambda *_, packed: not packed)
    rows = replace(recipe.training, row_tokens=1000)
    with pytest.raises(TrainingError, match=r"row_tokens: a llama does not keep the examples"):
        train(replace(recipe, training=rows), tmp_path)
    train(recipe, tmp_path)


def test_every_answer_weighs_the_same_in_a_step(recipe: Recipe, tmp_path: Path) -> None:
    """The loss of a step is the mean over its answers, however many tokens they have."""
    steps = replace(recipe.training, objective="answers", epochs=1.0, batch_size=5, accumulation=2)
    _, drawn, log = train(replace(recipe, training=steps), tmp_path / "run")
    untrained: Any = load_model(recipe.model, device="cpu", dtype="float32").steerable.model
    means = []
    with torch.no_grad():
        for example in drawn.train:
            logs = untrained(torch.tensor([example.tokens])).logits[0].log_softmax(-1)
            for on, group in groupby(range(len(example.mask)), key=lambda i: example.mask[i]):
                if on:
                    each = [-float(logs[i - 1, example.tokens[i]]) for i in group]
                    means.append(sum(each) / len(each))
    assert len(drawn.train) == 10
    assert losses(log)[0][1] == pytest.approx(sum(means) / len(means), rel=1e-3)


def test_what_a_model_has_learnt_before_is_known_or_nothing_is(
    recipe: Recipe, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    small = replace(recipe, examples=replace(recipe.examples, train=4))
    run(small, first, silent)
    other = replace(small, model=str(first), seed=1)
    run(other, second, silent)
    known, more = load_fingerprints(first), load_fingerprints(second)
    assert known is not None
    assert more is not None
    assert known <= more
    (first / FINGERPRINTS).unlink()
    run(other, tmp_path / "third", silent)
    assert load_fingerprints(tmp_path / "third") is None


def test_an_adapter_that_training_cannot_begin_with(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be read"):
        train(replace(recipe, lora=Lora(rank=4, start=tmp_path)), tmp_path / "run")
    run(replace(recipe, lora=Lora(rank=4)), tmp_path / "first", silent)
    for other in (Lora(rank=2), Lora(rank=4, targets=("q_proj",))):
        with pytest.raises(TrainingError, match="another kind of adapter"):
            train(replace(recipe, lora=replace(other, start=tmp_path / "first")), tmp_path / "run")
    # One of a narrower model has as many layers, and the same names.
    weights = load_file(tmp_path / "first" / ADAPTER)
    narrow = {
        name: weight[:, : weight.shape[1] // 2].contiguous() if "lora_A" in name else weight
        for name, weight in weights.items()
    }
    save_file(narrow, tmp_path / "first" / ADAPTER)
    with pytest.raises(TrainingError, match="another kind of adapter"):
        train(replace(recipe, lora=Lora(rank=4, start=tmp_path / "first")), tmp_path / "run")


def test_an_adapter_of_a_higher_rank_begins_where_a_lower_one_ended(
    recipe: Recipe, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    run(replace(recipe, lora=Lora(rank=2, alpha=4)), first, silent)
    still = replace(recipe.training, learning_rate=1e-12)
    grown = Lora(rank=8, alpha=8, start=first)
    run(replace(recipe, lora=grown, training=still), tmp_path / "second", silent)
    ids = torch.tensor([[5, 6, 7, 300]])
    one, two = (
        load_model(tmp_path / name, dtype="float32").steerable.model for name in ("first", "second")
    )
    with torch.no_grad():
        torch.testing.assert_close(two(ids).logits, one(ids).logits)


def test_an_adapter_is_cut_to_the_nearest_one_of_its_rank(recipe: Recipe, tmp_path: Path) -> None:
    first = replace(recipe, lora=Lora(rank=8, alpha=16))

    def products(lora: Lora) -> dict[str, torch.Tensor]:
        trained, _, _ = train(first, tmp_path)
        as_kept(trained, replace(recipe, lora=lora))
        bare: Any = trained.steerable.model
        assert bare.peft_config["default"].r == (lora.keep_rank or 8)
        return {
            name: layer.get_delta_weight("default").detach()
            for name, layer in bare.named_modules()
            if hasattr(layer, "get_delta_weight")
        }

    whole = products(Lora(rank=8, alpha=16))
    for rank in (8, 3):
        cut = products(Lora(rank=8, alpha=16, keep_rank=rank))
        assert cut.keys() == whole.keys() != set()
        for name, weight in whole.items():
            values = torch.linalg.svdvals(weight)
            assert torch.linalg.matrix_rank(cut[name], rtol=1e-4) <= rank
            lost = torch.linalg.matrix_norm(cut[name] - weight)
            expected = values[rank:].square().sum().sqrt()
            torch.testing.assert_close(lost, expected, atol=1e-5 * float(values[0]), rtol=1e-3)


# ---- several processes --------------------------------------------------------------------------


def test_two_processes(recipe: Recipe, tmp_path: Path) -> None:
    words = command(recipe, tmp_path / "two", "--epochs", "4", "--level", "faithful")
    words += ["--dev-examples", "5"]
    process = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--master-port", str(20000 + os.getpid() % 4000), "-m", "constrained_ner", *words),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr
    # One of them speaks and writes.
    assert process.stdout.count("written to") == 1
    log = log_of(tmp_path / "two")
    steps = [step for step, *_ in losses(log)]
    assert steps == sorted(set(steps))
    assert max(steps) == 4 * 3  # ten documents, two at a time, in two processes
    assert whole_checkpoints(tmp_path / "two" / "checkpoints")
    # Together they count what one counts on the same weights.
    model, said = load_model(tmp_path / "two"), load_manifest(tmp_path / "two")
    assert said is not None
    data = CorpusFiles(train=recipe.data[0].train, dev=recipe.data[0].train, name="ten")
    one = Recipe(
        (data,),
        model=recipe.model,
        examples=replace(recipe.examples, dev=5),
        evaluation=Evaluation(level="faithful"),
    )
    drawn = draw_examples(one, model)
    counts = sum(score(model, drawn.dev, one).values(), Counts())
    assert (counts.gold, counts.predicted, counts.correct) == tuple(
        said.metrics[f"eval_{what}"] for what in ("gold", "predicted", "correct")
    )
    assert counts.predicted > 0


# accelerate shards models on GPUs only: on a CPU it takes the same configuration for DDP.
_SHARDING_ON_CPU = """
import accelerate.state
from accelerate.utils import DistributedType

AcceleratorState = accelerate.state.AcceleratorState
plain = AcceleratorState.__init__

def sharding(self, *arguments, fsdp_plugin=None, **options):
    first = not AcceleratorState._shared_state
    plain(self, *arguments, fsdp_plugin=fsdp_plugin, **options)
    if first and fsdp_plugin is not None:
        self.fsdp_plugin, self.distributed_type = fsdp_plugin, DistributedType.FSDP
        accelerate.state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP

AcceleratorState.__init__ = sharding

from constrained_ner.engines import models as models_module
from constrained_ner.cli import main
main()
"""


# The file above makes accelerate shard on a CPU; torch 2.6 has no streams there, and fails in FSDP.
@pytest.mark.skipif(
    torch.__version__ < TorchVersion("2.7"), reason="torch before 2.7 shards on GPUs only"
)
@pytest.mark.parametrize("rank", ["0", "4"])
def test_weights_that_are_spread_over_processes(rank: str, recipe: Recipe, tmp_path: Path) -> None:
    """FSDP comes to the same losses, scores and weights as DDP, also when it was stopped."""
    script = tmp_path / "sharding.py"
    script.write_text(_SHARDING_ON_CPU)

    def launched(config: str) -> Path:
        folder = tmp_path / config
        port = 25000 + os.getpid() % 4000 + int(rank) + (config == "fsdp")
        process = subprocess.run(
            [
                *(sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2"),
                *("--config_file", str(ROOT / "training" / f"{config}.yaml")),
                *("--main_process_port", str(port), str(script)),
                *command(recipe, folder, "--rank", rank, "--level", "faithful"),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert process.returncode == 0, process.stderr
        return folder

    plain, spread = launched("ddp"), launched("fsdp")
    last = last_checkpoint(spread / "checkpoints")
    assert last is not None
    assert (last / "pytorch_model_fsdp.bin").exists()
    if rank == "4":
        (last / MARK).unlink()
        launched("fsdp")
    a, b = log_of(plain), log_of(spread)
    assert len(losses(a)) > 2
    for one, other in zip(losses(a), losses(b), strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    assert scores(a) == scores(b)
    ids = torch.tensor([[5, 6, 7, 300]])
    with torch.no_grad():
        logits = [load_model(folder).steerable.model(ids).logits for folder in (plain, spread)]
    torch.testing.assert_close(*logits, rtol=1e-3, atol=1e-3)


def test_examples_are_built_once(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on takes them from its folder; others, and damaged ones, are built anew."""
    built: list[int] = []

    def count(questions: Any, *given: Any, **rest: Any) -> Any:
        built.append(len(questions))
        return build(questions, *given, **rest)

    monkeypatch.setattr(data_module, "build", count)
    _, drawn, log = train(recipe, tmp_path / "run")
    file = tmp_path / "run" / "examples.npz"
    again = train(recipe, tmp_path / "run")
    assert len(built) == 1
    assert again[1].train == drawn.train
    shutil.copytree(tmp_path / "run", tmp_path / "other", ignore=lambda *_: ["checkpoints"])
    (tmp_path / "other" / "run.json").unlink()
    train(replace(recipe, seed=5), tmp_path / "other")
    assert len(built) == 2
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    assert losses(train(recipe, tmp_path / "run")[2]) == losses(log)
    assert len(built) == 3
    questions = [example.question for example in drawn.train]
    for at in range(0, len(whole), 7):  # no byte that is another is a traceback
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        load_examples(questions, drawn.fingerprint, file)


@pytest.mark.parametrize(
    ("epochs", "minutes", "warning"),
    [
        (1.0, 50.0, "of its 50 minutes: it ended before the rate was let down"),
        (99.0, 1e-5, "for 1 steps: little or nothing was learnt"),
    ],
)
def test_a_clock_that_does_not_fit_is_told_of(
    epochs: float,
    minutes: float,
    warning: str,
    recipe: Recipe,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    chosen = replace(recipe.training, epochs=epochs, minutes=minutes, scheduler="cosine")
    train(replace(recipe, training=chosen), tmp_path)
    (told,) = [one.message for one in caplog.records if "training took" in one.message]
    assert warning in told


def test_the_log_of_a_finished_run_stays(recipe: Recipe, tmp_path: Path) -> None:
    train(recipe, tmp_path)
    before = (tmp_path / "log.jsonl").read_bytes()
    assert b"train_runtime" in before
    train(recipe, tmp_path)
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_what_cannot_be_trained_is_said_before_examples_are_built(
    recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="nowhere"):
        prepare(replace(recipe, lora=Lora(targets=("nowhere",))), tmp_path / "here", silent)
    assert not (tmp_path / "here").exists()
    result = CliRunner().invoke(main, ["train", "--train", str(recipe.data[0].train), "-o", ""])
    assert result.exit_code == 2
    assert "expected a folder" in result.output


def test_examples_are_prepared_and_nothing_is_learnt(recipe: Recipe, tmp_path: Path) -> None:
    outcome = prepare(recipe, tmp_path / "here", silent)
    assert f"{len(outcome.drawn.train)} examples" in outcome.lines()[0]
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"run.json", "examples.npz"}
    shutil.move(tmp_path / "here", tmp_path / "there")
    stamp = (tmp_path / "there" / "examples.npz").stat().st_mtime_ns
    _, drawn, _ = train(recipe, tmp_path / "there")
    assert drawn.train == outcome.drawn.train
    assert (tmp_path / "there" / "examples.npz").stat().st_mtime_ns == stamp
