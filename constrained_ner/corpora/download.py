"""Fetching a file whose size and checksum are known, over as many connections as it takes."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from importlib.metadata import version
from pathlib import Path
from typing import cast
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from constrained_ner.corpora.files import sha256_of
from constrained_ner.errors import InputError

TRIES = 4  # in a row that bring nothing
TIMEOUT = 60.0  # seconds
CHUNK = 2**16  # bytes

# What the network does, other than the disk; HTTPError is a URLError.
_CUT = (URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


def download(
    url: str,
    path: Path,
    sha256: str,
    size: int,
    progress: Callable[[int], None] = lambda done: None,
    wait: float = 1.0,
) -> None:
    """Fetch `url` as `path`, unless it is there already.

    What has come is kept in `NAME.part` beside it, where the next try or the next call goes on
    (HTTP Range). The file gets its name when its checksum is right.

    Parameters
    ----------
    size: in bytes.
    progress: is called with the number of bytes that have come.
    wait: seconds before the second try; each further wait is twice as long.

    Raises
    ------
    InputError: the server refuses, has another file, or cannot be reached; the file on disk is
        another one or cannot be written.
    """
    if path.exists():
        if sha256_of(path) != sha256:
            raise InputError(f"is there with another checksum than {sha256}: remove it", path)
        progress(size)
        return
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        resumed = part.exists()
        _complete(url, part, size, progress, wait)
        if resumed and sha256_of(part) != sha256:  # perhaps the beginning was of something else
            part.unlink()
            _complete(url, part, size, progress, wait)
        found = sha256_of(part)
        if found != sha256:
            part.unlink()
            raise InputError(f"{url}: wrong checksum {found}: expected {sha256}", path)
        part.replace(path)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", path) from None


def _have(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _complete(
    url: str, part: Path, size: int, progress: Callable[[int], None], wait: float
) -> None:
    """Add to `part` until it has `size` bytes."""
    most = _have(part)
    if most > size:
        part.unlink()
        most = 0
    failures = 0
    while _have(part) != size:
        reason = "the connection ended"
        try:
            _add(url, part, size, progress)
        except HTTPError as error:
            error.close()
            reason = f"{error.code} {error.reason}"
            if error.code == 416:  # it has nothing after what is there
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code != 429:
                raise InputError(f"{url}: {reason}", part.with_suffix("")) from None
        except _CUT as error:
            reason = str(error.reason if isinstance(error, URLError) else error) or reason
        now = _have(part)
        failures = 0 if now > most else failures + 1
        most = max(most, now)
        if failures == TRIES:
            raise InputError(
                f"{url}: {reason} ({now} of {size} bytes are kept: try again to go on)",
                part.with_suffix(""),
            )
        if failures:
            time.sleep(wait * 2 ** (failures - 1))


def _add(url: str, part: Path, size: int, progress: Callable[[int], None]) -> None:
    """One request: what comes is added to `part`, or replaces it if it begins at the beginning."""
    have = _have(part)
    headers = {"User-Agent": f"constrained_ner/{version('constrained_ner')}"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with cast(HTTPResponse, urlopen(Request(url, headers=headers), timeout=TIMEOUT)) as response:
        if response.status == 206:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                part.unlink()  # not what was asked for: begin again
                return
        else:
            have = 0
        stated = response.headers.get("Content-Length")
        done = have
        if stated is None or have + int(stated) == size:
            with part.open("ab" if have else "wb") as file:
                while done <= size and (data := response.read(CHUNK)):
                    file.write(data)
                    done += len(data)
                    progress(done)
        if done > size or (stated is not None and have + int(stated) != size):
            part.unlink(missing_ok=True)
            found = f"more than {size}" if stated is None else str(have + int(stated))
            raise InputError(f"{url}: it has {found} bytes: expected {size}", part.with_suffix(""))
