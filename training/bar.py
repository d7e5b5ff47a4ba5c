"""A progress bar of a training run, on a terminal."""

from __future__ import annotations

import sys
from time import perf_counter
from typing import Any

from transformers import TrainerCallback


class Bar(TrainerCallback):
    """Steps, loss, score, tokens a second and time left; nothing where there is no terminal."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.task: Any = None
        self.fields = {"loss": "", "f1": "", "speed": ""}
        self.started = 0.0
        self.before = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not (sys.stderr.isatty() and state.is_world_process_zero):
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.bar = Progress(
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("loss {task.fields[loss]} F1 {task.fields[f1]} {task.fields[speed]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.bar.start()
        done = state.global_step
        self.task = self.bar.add_task("", total=state.max_steps, completed=done, **self.fields)
        self.started = perf_counter()
        self.before = state.num_input_tokens_seen

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.bar:
            self.bar.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if not self.bar or not logs:
            return
        if "loss" in logs:
            self.fields["loss"] = f"{logs['loss']:.3f}"
            seen = state.num_input_tokens_seen - self.before
            if seen:
                self.fields["speed"] = f"{seen / (perf_counter() - self.started):.0f} tokens/s"
        if "eval_f1" in logs:
            self.fields["f1"] = f"{100 * logs['eval_f1']:.1f}"
        self.bar.update(self.task, **self.fields)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None
