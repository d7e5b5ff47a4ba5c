"""Outputs that no two processes write at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from constrained_ner.atomic import LOCK, check_writable
from constrained_ner.errors import InputError


def locked(path: Path) -> FileLock:
    """The lock of a file, `.NAME.lock`, which ends with the process at the latest.

    Raises
    ------
    InputError: the file cannot be written, or another process has the lock.
    """
    check_writable(path)  # a lock would make the folder
    return _locked(path.with_name(f".{path.name}.lock"), path)


def locked_in(folder: Path, name: str) -> FileLock:
    """The same for what a folder holds: `.NAME.lock` in it."""
    return _locked(folder / f".{name}.lock", folder)


def unlock(lock: FileLock) -> None:
    """Leave an output to others."""
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder, which is made, as long as this lasts.

    The lock lies in the folder, since the one around it need not be writable. What a process that
    was killed leaves of it is nobody's.

    Raises
    ------
    InputError: see `locked`.
    """
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", folder) from None
    lock = _locked(folder / LOCK, folder)
    try:
        yield
    finally:
        unlock(lock)
        if made and not any(folder.iterdir()):
            folder.rmdir()


def _locked(file: Path, output: Path) -> FileLock:
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError("another run is writing it: expected another output", output) from None
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", output) from None
    return lock
