"""Processes that work side by side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from constrained_ner.errors import ModelError
from constrained_ner.process_pool import process_pool

# It has a process that would go on, and is killed itself.
_KILLED = """
import os, signal, time
from constrained_ner.process_pool import process_pool

if __name__ == "__main__":
    with process_pool(1, int, ()) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def begin(*_: object) -> None:
    pass


def test_a_process_that_is_killed_is_an_error() -> None:
    with (
        pytest.raises(ModelError, match="one of 2 processes was killed"),
        process_pool(2, begin, ()) as pool,
    ):
        pool.submit(os.kill, pool.submit(os.getpid).result(), signal.SIGKILL).result()


def test_nobody_outlives_the_one_that_started_them() -> None:
    """Who waits for its output waits for all that could still write it: here ten minutes, else."""
    ran = subprocess.run(
        [sys.executable, "-c", _KILLED], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == -signal.SIGKILL
    assert ran.stdout.strip().isdigit()
