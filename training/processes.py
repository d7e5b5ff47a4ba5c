"""The processes that train together, as `accelerate launch` or `torchrun` start them."""

from __future__ import annotations

import os
from typing import Any

import torch


def is_main() -> bool:
    """Whether this is the process that writes and reports, of those that train together."""
    return os.environ.get("RANK", "0") == "0"


def wait() -> None:
    """Until all processes have come here."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def gather(model: Any, copy: Any) -> None:
    """Give `copy` the weights of a model of which each process holds a part (FSDP).

    All processes have to call this together.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    copy.load_state_dict(
        get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    )
