"""Processes that work side by side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from constrained_ner.errors import ModelError
from constrained_ner.process_pool import process_pool

# Its one process says who it is, and would go on; then it is killed itself.
_KILLED = """
import os, signal, time
from constrained_ner.process_pool import process_pool

if __name__ == "__main__":
    with process_pool(1, print, ("begun",)) as pool:
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
    ran = subprocess.run(  # until nobody is left who could write
        [sys.executable, "-c", _KILLED], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == -signal.SIGKILL
    told = ran.stdout.split()
    (process,) = filter(str.isdigit, told)
    for _ in range(100):
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return
        if zombie(int(process)):
            return
        time.sleep(0.1)
    os.kill(int(process), signal.SIGKILL)
    raise AssertionError("it goes on")


def zombie(process: int) -> bool:
    """Whether it has ended, and nobody has asked."""
    with open(f"/proc/{process}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"
