"""Checkpoints that are whole or not there, and the folder that holds a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import TrainerCallback

from constrained_ner.adapters import digest_of
from constrained_ner.atomic import ordinary_permissions, write_json
from constrained_ner.corpora.files import sha256_of
from constrained_ner.engines.models import LoadedModel
from constrained_ner.errors import TrainingError

from .processes import wait
from .recipe import Recipe

MARK = "complete"  # stands in a checkpoint once it is whole
STATE = "trainer_state.json"  # transformers' name for it
ADAPTER = "adapter_model.safetensors"  # peft's name for it
RUN = "run.json"  # what is trained on what: a run is not gone on with by another recipe


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Tell a disk that is full from other errors, whichever library met it.

    Raises
    ------
    TrainingError: something could not be written.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        # so torch's own writer says that it could not write
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [repr(error)])[0]
        place = getattr(error, "filename", None) or folder
        raise TrainingError(
            f"{place}: cannot be written: {reason}; the run goes on from its last checkpoint when "
            "it is called again"
        ) from error


def check_same(recipe: Recipe, folder: Path, examples: str | None = None) -> None:
    """See that a folder holds this run, or make it that of this run.

    With another recipe, another model or other data it would not go on.

    Parameters
    ----------
    examples: the fingerprint of those that are drawn, where it is known: a file of data may have
        others beside it.
    """
    # what is reported, and where, may change
    values = {key: value for key, value in recipe.to_json().items() if key != "report"}
    files = [[data.train, data.dev, data.test] for data in recipe.data]
    if recipe.lora and recipe.lora.start:
        files.append([recipe.lora.start / ADAPTER])
    run = {
        **values,
        "base": digest_of(recipe.model),
        "files": [[path and sha256_of(path) for path in paths] for paths in files],
        **({"drawn examples": examples} if examples is not None else {}),
    }
    path = folder / RUN
    if not path.exists():
        write_json(run, path)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TrainingError(f"{path}: damaged: {error}") from None
    for key, value in run.items():
        if before.get(key) != value:
            raise TrainingError(
                f"{folder} holds a run with another {key!r}: name another folder, or remove it"
            )


def check_disk(model: LoadedModel, recipe: Recipe, folder: Path) -> None:
    """A checkpoint is the trained weights and twice as much of optimiser state."""
    parameters = [p for p in model.steerable.model.parameters() if p.requires_grad]
    size = sum(p.numel() * p.element_size() for p in parameters)
    # besides those that are kept: the best one, one that is being written, and the model in the end
    more = max(1, recipe.training.keep + 2 - len(whole_checkpoints(folder)))
    needed = (3 * more + 1) * size
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise TrainingError(
            f"{folder}: {free / 1e9:.1f} GB are free, and the run takes {needed / 1e9:.1f}"
        )


class Checkpoints(TrainerCallback):
    """Marks what is written as whole, and only then removes what is older."""

    def __init__(self, keep: int):
        self.keep = keep

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        wait()  # each process writes a file of its own
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir)
        written = folder / f"checkpoint-{state.global_step}"
        ordinary_permissions(written)
        (written / MARK).touch()
        best = f"checkpoint-{state.best_global_step}"
        others = [path for path in whole_checkpoints(folder) if path.name != best]
        for path in others[: -self.keep]:
            remove_checkpoint(path)


def whole_checkpoints(folder: Path) -> list[Path]:
    """Those that were written to their end, the oldest first."""
    return [path for path in _checkpoints(folder) if (path / MARK).exists()]


def _checkpoints(folder: Path) -> list[Path]:
    found = {
        int(step): path
        for path in folder.glob("checkpoint-*")
        if (step := path.name.removeprefix("checkpoint-")).isdecimal()
    }
    return [found[step] for step in sorted(found)]


def remove_checkpoint(folder: Path) -> None:
    """The mark goes first: what is half removed is not whole."""
    (folder / MARK).unlink(missing_ok=True)
    shutil.rmtree(folder)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; those that were cut off while being written are removed."""
    complete = whole_checkpoints(folder)
    for path in set(_checkpoints(folder)) - set(complete):
        remove_checkpoint(path)
    if not complete:
        return None
    # the folder may have been moved since
    path = complete[-1] / STATE
    state = json.loads(path.read_text(encoding="utf-8"))
    best = folder / f"checkpoint-{state['best_global_step']}"
    if state["best_model_checkpoint"] not in (None, str(best)):
        write_json({**state, "best_model_checkpoint": str(best)}, path)
    return complete[-1]
