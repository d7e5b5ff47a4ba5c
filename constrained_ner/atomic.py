"""Writing files: whole or not at all, where that is possible, and with ordinary permissions."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from constrained_ner.errors import InputError

# What a rename says where a volume is mounted.
_MOUNTED = (errno.EBUSY, errno.EXDEV)
LOCK = ".run.lock"  # in a folder that a process writes to: see `locks.held`


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which is renamed to it at the end.

    So no half-written file ever has the name, and of two processes that write it at a time the last
    one counts. Where the block fails, `path` is left as it was. A link stays one: the file that it
    leads to is written. What replaces a file may be read by those that might read that one.
    """
    target = Path(os.path.realpath(path))
    part = _part(target.parent, target.name)
    try:
        yield part
        if target.exists():
            shutil.copymode(target, part)
        try:
            os.replace(part, target)
        except OSError as error:
            if error.errno not in _MOUNTED:
                raise
            shutil.copyfile(part, target)
    except OSError as error:
        _rename(error, part, path)
        raise
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """The same for a folder, which is new or empty.

    Raises
    ------
    InputError: another process has filled it meanwhile.
    """
    target = Path(os.path.realpath(path))  # of the working folder, too
    inside = target.is_dir() and _is_apart(target)
    part = _part(target if inside else target.parent, target.name)
    try:
        part.mkdir(parents=True)
        yield part
        if target.is_dir():  # it stays the one that it is
            check_new_folder(path, part.name)
            for one in part.iterdir():
                one.rename(target / one.name)
        else:
            part.rename(target)
    except OSError as error:
        _rename(error, part, path)
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _part(folder: Path, name: str) -> Path:
    """A name that nobody else has."""
    return folder / f".{name}.{secrets.token_hex(4)}.part"


def _is_apart(folder: Path) -> bool:
    """Whether nothing can be moved into a folder from beside it, as where a volume is mounted."""
    beside = folder.parent
    return folder.stat().st_dev != beside.stat().st_dev or not os.access(beside, os.W_OK)


def _rename(error: OSError, part: Path, path: Path) -> None:
    """Let an error speak of the path that a user has given."""
    name = str(error.filename or part)
    error.filename = name.replace(str(part), str(path), 1)


def write_text(text: str, path: Path) -> None:
    """Write a text as a file, whole or not at all.

    Half of a character, as a file name may have it, is escaped as JSON does it.
    """
    with whole(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_json(value: object, path: Path) -> None:
    """Write a value as a file of JSON for people to read, whole or not at all."""
    write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", path)


def whole_lines(path: Path) -> list[str]:
    """The lines of a file that work adds to as it goes; none where there is no file.

    A last line that was cut off, as a kill does it, is removed from the file.
    """
    if not path.exists():
        return []
    data = path.read_bytes()
    kept = data.rfind(b"\n") + 1
    if kept < len(data):
        os.truncate(path, kept)
    try:
        return data[:kept].decode("utf-8").split("\n")[:-1]
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"is damaged: line {line} is not UTF-8", path) from None


def check_writable(path: Path) -> None:
    """See that a file can be written here, before there is anything to write.

    Raises
    ------
    InputError: its folder does not exist or may not be written to, or a folder, a pipe or a device
        has its name.
    """
    _check_named(path)
    if not path.parent.is_dir():
        raise InputError(f"cannot be written: there is no folder {str(path.parent)!r}", path)
    if path.is_dir():
        raise InputError("cannot be written: a folder has this name", path)
    if path.exists() and not path.is_file():
        raise InputError("cannot be written: it is a pipe or a device: expected a file", path)
    real = Path(os.path.realpath(path))
    # What is not whole yet stands beside it.
    if not all(os.access(one, os.W_OK) for one in (real.parent, real) if one.exists()):
        raise InputError("cannot be written: permission denied", path)


def _check_named(path: Path) -> None:
    if str(path) == "-":
        raise InputError("cannot be written: expected a path, not standard output", path)


def check_new_folder(folder: Path, *ours: str) -> None:
    """See that a folder can be filled here.

    Parameters
    ----------
    ours: names of what may be in it, beside a lock.

    Raises
    ------
    InputError: it exists and is not empty, or is a file.
    """
    _check_named(folder)
    if folder.exists() and (
        not folder.is_dir() or any(path.name not in (LOCK, *ours) for path in folder.iterdir())
    ):
        raise InputError("exists: expected a new or an empty folder", folder)


def ordinary_permissions(path: Path) -> None:
    """Give a file, or a folder and all files in it, the permissions that new ones usually get.

    safetensors and `tempfile` let nobody but the owner read what they write, whatever the umask.
    """
    umask = os.umask(0o077)  # the only way to read it is to set it
    os.umask(umask)
    for each in (path, *path.rglob("*")):
        each.chmod((0o777 if each.is_dir() else 0o666) & ~umask)
