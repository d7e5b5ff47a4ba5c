"""Training by the clock: the rate is let down to zero by the time that is left."""

from __future__ import annotations

import logging
import math
from time import perf_counter
from typing import Any

import torch
from transformers import TrainerCallback

_log = logging.getLogger(__name__)
NEAR_THE_END = 0.9  # the share of the time from which on the rate is low
FEW = 10  # steps in which a rate can neither rise nor fall


def factor(share: float, scheduler: str, warmup: float) -> float:
    """What the rate is multiplied by, as transformers' scheduler of that name has it by steps.

    Parameters
    ----------
    share: of the time that is over. `warmup`: of it in which the rate rises.
    """
    if scheduler == "constant":
        return 1.0
    if share < warmup:
        return share / warmup
    if scheduler == "constant_with_warmup":
        return 1.0
    rest = min(1.0, (share - warmup) / (1 - warmup)) if warmup < 1 else 1.0
    return 1 - rest if scheduler == "linear" else 0.5 * (1 + math.cos(math.pi * rest))


class Clock(TrainerCallback):
    """Ends training when its time is over; a run that was stopped has what it had left.

    Attributes
    ----------
    share: of the time that is over, the same in all processes.
    """

    def __init__(self, minutes: float, spent: float):
        self.minutes, self.spent = minutes, spent
        self.share = spent / minutes
        self.started = perf_counter()

    @property
    def so_far(self) -> float:
        """Minutes, those before the run was stopped included."""
        return self.share * self.minutes

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.started = perf_counter()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # Before the rate of the next step is set.
        minutes = torch.tensor(
            [self.spent + (perf_counter() - self.started) / 60],
            dtype=torch.float32,
            device=args.device,
        )
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.broadcast(minutes, 0)
        self.share = minutes.item() / self.minutes

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.share >= 1:
            control.should_training_stop = control.should_save = control.should_log = True
            # The last weights, of which the rate was let down, are the ones to choose.
            control.should_evaluate = args.eval_strategy != "no"

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        took = f"training took {self.so_far:.2f} of its {self.minutes:g} minutes"
        if self.share < NEAR_THE_END:
            _log.warning("%s: it ended before the rate was let down (more epochs?)", took)
        elif state.global_step < FEW:
            _log.warning("%s for %d steps: little or nothing was learnt", took, state.global_step)
