"""The processes that train together, as `accelerate launch` or `torchrun` start them."""

from __future__ import annotations

import ctypes
import os
import sys
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


def keep_memory() -> None:
    """Let the C library keep the memory that tensors give back, where it is glibc.

    By default each large tensor is mapped anew, page by page: a sixth of a step's time on a CPU.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, top_pad, mmap_max = -1, -2, -4
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(top_pad, 2**28)
