"""What the readers share: bytes to text, numbered lines, the log channel."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from constrained_ner.errors import InputError

LOGGER = logging.getLogger("constrained_ner.corpora")
BOM = "\ufeff"


def clean_name(name: str) -> str:
    """A file name as a document id: what cannot be encoded as UTF-8 becomes `?`."""
    return name.encode(errors="replace").decode()


def failure(error: BaseException, path: str | Path) -> InputError:
    """The `InputError` for a file that the system or a library cannot read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InputError(f"cannot be read: {reason or type(error).__name__}", path)


def read_bytes(path: str | Path) -> bytes:
    """Raises `InputError` if the file cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise failure(error, path) from None


def decode(data: bytes, path: str | Path, line: int | None = None, start: int = 0) -> str:
    """`data` as UTF-8, nothing translated and nothing dropped.

    Parameters
    ----------
    line: its line number in `path`; by default it is counted in `data`.
    start: the byte offset of `data` in `path`.

    Raises
    ------
    InputError: not UTF-8; the message gives the byte offset in the file.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        bad = error.start
        raise InputError(
            f"not UTF-8: byte 0x{data[bad]:02x} at byte offset {start + bad}",
            path,
            line or data.count(b"\n", 0, bad) + 1,
        ) from None


def numbered_lines(path: str | Path) -> Iterator[tuple[int, str | InputError]]:
    r"""Each line's 1-based number, and its text or, if it is not UTF-8, an `InputError`.

    Lines end at `\n` only (a text may hold U+2028); the line end `\n` or `\r\n` and a byte order
    mark are dropped.

    Raises
    ------
    InputError: the file cannot be opened, or begins with a UTF-16 byte order mark.
    """
    offset = 0
    try:
        with open(path, "rb") as file:
            for number, data in enumerate(file, 1):
                if number == 1 and data.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise InputError("not UTF-8: it begins with a UTF-16 byte order mark", path)
                try:
                    line = decode(data, path, number, offset)
                except InputError as error:
                    yield number, error
                else:
                    line = line.removeprefix(BOM) if number == 1 else line
                    yield number, line.removesuffix("\n").removesuffix("\r")
                offset += len(data)
    except OSError as error:
        raise failure(error, path) from None
