"""Downloads from a server on this machine that has Range, or has not, and fails in many ways."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from constrained_ner.corpora.download import TRIES, download
from constrained_ner.errors import InputError

DATA = random.Random(0).randbytes(300_000)


@dataclass
class Server:
    """What it has by path, how it behaves, and what it was asked for.

    Attributes
    ----------
    ranges: whether it knows Range. `shift`: how far off the part is that it sends instead.
    stated: whether it says how long an answer is.
    failures: the statuses of its first answers. `cuts`: after how many bytes it ends the others,
        one by one.
    asked: the Range of each request.
    """

    files: dict[str, bytes] = field(default_factory=lambda: {"/file": DATA})
    url: str = ""
    ranges: bool = True
    shift: int = 0
    stated: bool = True
    failures: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)


@contextmanager
def served(server: Server) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.asked.append(asked)
            data = server.files.get(self.path)
            if server.failures or data is None:
                self.send_error(server.failures.pop(0) if server.failures else 404)
                return
            start, whole = 0, len(data)
            if asked and server.ranges:
                match = re.fullmatch(r"bytes=(\d+)-", asked)
                assert match
                start = int(match[1]) + server.shift
                if start >= whole:
                    self.send_error(416)
                    return
            self.send_response(206 if asked and server.ranges else 200)
            if asked and server.ranges:
                self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
            if server.stated:
                self.send_header("Content-Length", str(whole - start))
            self.end_headers()
            cut = server.cuts.pop(0) if server.cuts else whole
            self.wfile.write(data[start : start + cut])

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        server.url = f"http://127.0.0.1:{listening.server_address[1]}"
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with served(Server()) as started:
        yield started


def fetch(server: Server, folder: Path, bar_goes_back: bool = False) -> list[int]:
    """Download `/file`, which is expected to be `DATA`; the progress that was told."""
    told: list[int] = []
    sha256 = hashlib.sha256(DATA).hexdigest()
    download(f"{server.url}/file", folder / "file", sha256, len(DATA), told.append, wait=0)
    assert (folder / "file").read_bytes() == DATA
    assert not (folder / "file.part").exists()
    assert told[-1] == len(DATA)
    assert (told != sorted(told)) == bar_goes_back
    return told


def test_whole(server: Server, tmp_path: Path) -> None:
    assert len(fetch(server, tmp_path / "new" / "folder")) > 1
    assert server.asked == [None]


def test_what_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    assert fetch(server, tmp_path) == [len(DATA)]
    assert server.asked == []


def test_another_file_is_not_overwritten(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"file: is there with another checksum .*: remove it"):
        fetch(server, tmp_path)
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert server.asked == []


@pytest.mark.parametrize("have", [1, 1000, len(DATA) - 1])
def test_goes_on_where_it_ended(server: Server, tmp_path: Path, have: int) -> None:
    (tmp_path / "file.part").write_bytes(DATA[:have])
    told = fetch(server, tmp_path)
    assert server.asked == [f"bytes={have}-"]
    assert told[0] > have


@pytest.mark.parametrize("cuts", [[1], [100_000, 100_000], [0, 0, 5, 0, 0, 70_000, 1], [299_999]])
def test_cut_connections(server: Server, tmp_path: Path, cuts: list[int]) -> None:
    server.cuts = list(cuts)
    fetch(server, tmp_path)
    ends = [sum(cuts[: i + 1]) for i in range(len(cuts))]
    assert server.asked == [None, *(f"bytes={end}-" if end else None for end in ends)]


@pytest.mark.parametrize("stated", [True, False])
def test_a_server_without_range(server: Server, tmp_path: Path, stated: bool) -> None:
    server.ranges, server.cuts, server.stated = False, [100_000, 50_000], stated
    (tmp_path / "file.part").write_bytes(b"the beginning of something else")
    fetch(server, tmp_path, bar_goes_back=True)
    assert server.asked == ["bytes=31-", "bytes=100000-", "bytes=50000-"]


def test_another_part_than_was_asked_for(server: Server, tmp_path: Path) -> None:
    server.shift = 1
    (tmp_path / "file.part").write_bytes(DATA[:10])
    fetch(server, tmp_path)
    assert server.asked == ["bytes=10-", None]


def test_part_of_another_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(b"something else")
    fetch(server, tmp_path, bar_goes_back=True)
    assert server.asked == ["bytes=14-", None]


def test_part_that_is_whole_or_too_long(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(DATA + b"more")
    fetch(server, tmp_path)
    assert server.asked == [None]


def test_part_that_only_lacks_its_name(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(DATA)
    download(f"{server.url}/file", tmp_path / "file", hashlib.sha256(DATA).hexdigest(), len(DATA))
    assert (tmp_path / "file").read_bytes() == DATA
    assert server.asked == []


@pytest.mark.parametrize("have", [0, 1000])
def test_wrong_checksum(server: Server, tmp_path: Path, have: int) -> None:
    server.files["/file"] = DATA[:-1] + bytes([DATA[-1] ^ 1])
    if have:
        (tmp_path / "file.part").write_bytes(DATA[:have])
    with pytest.raises(InputError, match=r"/file: wrong checksum [0-9a-f]{64}: expected [0-9a-f]"):
        fetch(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"a page that says sorry", DATA + b"more"])
@pytest.mark.parametrize("have", [0, 10])
def test_a_file_of_another_size(server: Server, tmp_path: Path, data: bytes, have: int) -> None:
    server.files["/file"] = data
    (tmp_path / "file.part").write_bytes(DATA[:have])
    with pytest.raises(InputError, match=f"it has {len(data)} bytes: expected {len(DATA)}"):
        fetch(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_longer_file_of_unknown_size(server: Server, tmp_path: Path) -> None:
    server.files["/file"], server.stated = DATA * 3, False
    with pytest.raises(InputError, match=f"it has more than {len(DATA)} bytes"):
        fetch(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [403, 404, 410])
def test_refused(server: Server, tmp_path: Path, status: int) -> None:
    server.failures = [status]
    with pytest.raises(InputError, match=f"/file: {status} "):
        fetch(server, tmp_path)
    assert len(server.asked) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failures", [[500], [503, 502, 429], [416]])
def test_tries_again(server: Server, tmp_path: Path, failures: list[int]) -> None:
    server.failures = list(failures)
    fetch(server, tmp_path)
    assert len(server.asked) == len(failures) + 1


def test_gives_up_and_goes_on_later(server: Server, tmp_path: Path) -> None:
    server.cuts = [1000] + [0] * TRIES
    with pytest.raises(
        InputError, match=rf"the connection ended \(1000 of {len(DATA)} bytes are kept: try again"
    ):
        fetch(server, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file.part"]
    assert len(server.asked) == 1 + TRIES
    fetch(server, tmp_path)
    assert server.asked[-1] == "bytes=1000-"


def test_waits_longer_each_time(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("constrained_ner.corpora.download.time.sleep", waits.append)
    server.failures = [503] * TRIES
    with pytest.raises(InputError, match="503 Service Unavailable"):
        download(f"{server.url}/file", tmp_path / "file", "0" * 64, 10, wait=0.5)
    assert waits == [0.5, 1, 2]


def test_no_server(tmp_path: Path) -> None:
    with served(Server()) as server:
        pass
    with pytest.raises(InputError, match=r"(?i)/file: .*refused"):
        fetch(server, tmp_path)


def test_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("")
    with pytest.raises(InputError, match=r"folder/file: cannot be written"):
        fetch(server, tmp_path / "folder")
