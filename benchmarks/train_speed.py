"""How fast is training, beside the loops that other people use?

    python -m benchmarks.train_speed --corpora corpora -o benchmarks/results/train_speed.json

The same examples of five corpora, the same LoRA adapter on the default base model, one epoch each:
our loop (on a CPU in one process and in one for each core, on a GPU in packed rows), transformers'
`Trainer` with padded batches of like length as its collator makes them, and TRL's `SFTTrainer` with
packing where it is installed. Each runs by itself; what is timed are its steps, not the loading.
The share of what the machine can do is that of the largest matrix product that it is seen to make.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import torch

from constrained_ner.atomic import write_json
from constrained_ner.engines.models import (
    computes_in_bfloat16,
    default_device,
    device_name,
    load_model,
)
from constrained_ner.training.cache import FILE
from constrained_ner.training.data import Drawn, draw_examples
from constrained_ner.training.loop import with_lora
from constrained_ner.training.recipe import CorpusFiles, Lora, Optimisation, Recipe
from constrained_ner.training.sampling import Sampling

from .machine import circumstances

CORPORA = ("ncbi-disease", "bc5cdr", "bc2gm", "anatem", "genia")
ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "train_speed.json"


def recipe_of(corpora: Path, examples: int, batch: int) -> Recipe:
    """Examples in all formats, divided among the corpora, once each."""
    rows = 16_384 if torch.cuda.is_available() else 0
    steps = Optimisation(
        epochs=1.0,
        learning_rate=1e-3,
        batch_size=1 if rows else batch,
        accumulation=1,
        row_tokens=rows,
        evaluations=1,
    )
    return Recipe(
        tuple(CorpusFiles(train=corpora / name / "train.jsonl", name=name) for name in CORPORA),
        lora=Lora(16, 32),
        examples=Sampling(train=examples // len(CORPORA), shuffle_labels=False),
        training=steps,
    )


def watched(command: Sequence[str], processes: int) -> tuple[str, float]:
    """What a command prints, and the most memory that it took, in GB.

    That is memory of the GPU; without one, that of the largest of its processes, or of this one
    where it is larger, since a process that was forked counts what it had before it began.
    """
    environment = threads(processes)
    with tempfile.TemporaryFile("w+") as printed:
        free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=printed)
        most = 0
        if torch.cuda.is_available():
            while process.poll() is None:
                most = max(most, free - torch.cuda.mem_get_info()[0])
                sleep(0.2)
            code = process.returncode
        else:
            _, status, usage = os.wait4(process.pid, 0)
            code, most = os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024
            process.returncode = code  # it was waited for
        if code:
            raise subprocess.CalledProcessError(code, command)
        printed.seek(0)
        return printed.read(), most / 1e9


def ours(recipe: Recipe, folder: Path, processes: int) -> tuple[float, float]:
    """Seconds of all steps of `cner train`, and memory."""
    lines = [
        f"model = {json.dumps(recipe.model)}",
        f"[lora]\nrank = {recipe.lora.rank if recipe.lora else 0}\nalpha = 32",
        f"[examples]\ntrain = {recipe.examples.train}\nshuffle_labels = false",
        "[training]",
        *(f"{key} = {getattr(recipe.training, key)}" for key in ("epochs", "learning_rate")),
        *(f"{key} = {getattr(recipe.training, key)}" for key in ("batch_size", "accumulation")),
        f"row_tokens = {recipe.training.row_tokens}",
        "evaluations = 1",
        *(f"[[data]]\nname = '{data.name}'\ntrain = '{data.train}'" for data in recipe.data),
    ]
    file = folder / "recipe.toml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    many = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    command = [
        *(sys.executable, *(many if processes > 1 else [])),
        *("-m", "constrained_ner", "train", str(file), "-o", str(folder)),
    ]
    _, memory = watched(command, processes)
    last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    return float(last["train_runtime"]), memory


def threads(processes: int) -> dict[str, str]:
    """The environment of processes that share the cores."""
    return {**os.environ, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}


def others(recipe: Recipe, folder: Path, way: str) -> float:
    """Seconds of all steps of another loop; to be called in a process of its own."""
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    model = load_model(recipe.model, device="cpu", dtype="float32")
    drawn = draw_examples(recipe, model, cache=folder / FILE)
    rows = [
        {
            "input_ids": list(example.tokens),
            "labels": [
                token if on else -100
                for token, on in zip(example.tokens, example.mask, strict=True)
            ],
        }
        for example in drawn.train
    ]
    adapted: Any = with_lora(recipe, model).steerable.model
    batch = 32 if torch.cuda.is_available() else recipe.training.batch_size
    options: dict[str, Any] = {
        "output_dir": str(folder / "other"),
        "per_device_train_batch_size": batch,
        "learning_rate": 1e-3,
        "num_train_epochs": 1.0,
        "bf16": computes_in_bfloat16(default_device()),
        "use_cpu": not torch.cuda.is_available(),
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_steps": 1000,
    }
    trainer: Any
    if way == "trl":
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        length = 16_384 if torch.cuda.is_available() else 1024
        options |= {"per_device_train_batch_size": 1, "packing": True, "max_length": length}
        options |= {"gradient_checkpointing": False}  # as in the other ways
        trainer = SFTTrainer(adapted, SFTConfig(**options), train_dataset=Dataset.from_list(rows))
    else:
        options |= {"train_sampling_strategy": "group_by_length"}
        collator = DataCollatorForSeq2Seq(model.tokenizer)
        trainer = Trainer(
            adapted,
            TrainingArguments(**options),
            train_dataset=rows,
            data_collator=collator,
        )
    return float(trainer.train().metrics["train_runtime"])


def peak_flops() -> float:
    """Operations a second of a large product in bfloat16."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in "ab")
    best = float("inf")
    for _ in range(8):
        started = perf_counter()
        _ = (a @ b).sum().item()
        best = min(best, perf_counter() - started)
    return 2 * size**3 / best


def measured(
    way: str, drawn: Drawn, seconds: float, memory: float, peak: float, size: int
) -> dict[str, Any]:
    tokens = sum(len(example.tokens) for example in drawn.train)
    # An adapter's step multiplies with each weight twice: forward, and backward by the inputs.
    return {
        "way": way,
        "seconds": seconds,
        "examples_per_second": len(drawn.train) / seconds,
        "tokens_per_second": tokens / seconds,
        "share_of_peak": 4 * size * tokens / seconds / peak,
        "memory_gb": round(memory, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpora", type=Path, default=Path("corpora"))
    parser.add_argument("--examples", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--way", help="for this script's own use")
    parser.add_argument("--folder", type=Path, help="for this script's own use")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    corpora = arguments.corpora.resolve()
    recipe = recipe_of(corpora, arguments.examples, arguments.batch_size)
    if arguments.way:
        print(f"seconds {others(recipe, arguments.folder, arguments.way)}")
        return

    model = load_model(recipe.model, device="cpu", dtype="float32")
    bare: Any = model.steerable.model
    size = sum(weight.numel() for name, weight in bare.named_parameters() if "embed" not in name)
    drawn = draw_examples(recipe, model)
    peak = peak_flops()
    cores = 1 if torch.cuda.is_available() else os.cpu_count() or 1
    ways = ["ours", *([f"ours, {cores} processes"] if cores > 1 else []), "transformers"]
    ways += ["trl"] if find_spec("trl") else []
    found = []
    for way in ways:
        with tempfile.TemporaryDirectory() as folder:
            if way.startswith("ours"):
                seconds, memory = ours(recipe, Path(folder), cores if "," in way else 1)
            else:
                command = [sys.executable, "-m", "benchmarks.train_speed", "--way", way]
                command += ["--corpora", str(corpora), "--examples", str(arguments.examples)]
                command += ["--batch-size", str(arguments.batch_size), "--folder", folder]
                out, memory = watched(command, 1)
                seconds = float(re.findall(r"^seconds (\S+)$", out, re.MULTILINE)[-1])
        found.append(measured(way, drawn, seconds, memory, peak, size))
        print(json.dumps(found[-1]), flush=True)
    packages = ["torch", "transformers", "peft", *(["trl"] if "trl" in ways else [])]
    results = {
        "examples": len(drawn.train),
        "tokens": sum(len(example.tokens) for example in drawn.train),
        "batch_size": arguments.batch_size,
        "seed": recipe.seed,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else device_name(model),
        "peak_tflops": peak / 1e12,
        **circumstances(packages),
        "ways": found,
    }
    write_json(results, arguments.output)


if __name__ == "__main__":
    main()
