"""Processes that work side by side, and end with the one that started them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any

from constrained_ner.errors import ModelError


@contextmanager
def process_pool(
    processes: int, begin: Callable[..., None], given: tuple[Any, ...]
) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes, each of which first calls `begin` with what is given.

    They are spawned, not forked: libraries that have threads do not survive a fork.

    Raises
    ------
    ModelError: one of them was killed.
    """
    with ProcessPoolExecutor(processes, get_context("spawn"), _begin, (begin, given)) as pool:
        try:
            yield pool
        except BrokenProcessPool:
            raise ModelError(
                f"one of {processes} processes was killed, as happens where memory is short: fewer "
                "processes need less"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(begin: Callable[..., None], given: tuple[Any, ...]) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    begin(*given)


def _end_with_parent() -> None:
    """A killed process cannot end those that it started, and they would go on writing."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
