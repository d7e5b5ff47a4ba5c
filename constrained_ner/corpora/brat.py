r"""brat standoff: pairs of `NAME.txt` and `NAME.ann`, in a folder, an archive, or just one pair.

Offsets count the characters of the text file as it is stored, so nothing in it is translated: a
`\r\n` counts two. A byte order mark is dropped from the text, and offsets that counted it (brat's
own do) are shifted. Of an `.ann` file only the `T` rows are read.
"""

from __future__ import annotations

import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from constrained_ner.corpora.files import BOM, LOGGER, clean_name, decode, failure, read_bytes
from constrained_ner.corpora.text import text_of
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
MEMBER_LIMIT = 64 * 2**20  # bytes, uncompressed
ARCHIVE_LIMIT = 2**30  # bytes of .txt and .ann members of a tar, which are held in memory

_BROKEN_TAR = (tarfile.TarError, zlib.error, EOFError, OSError)
# RuntimeError: a password or an unknown method is needed; ValueError: a name cannot be decoded
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)
_T_ROW = re.compile(r"T[^\t]*\t(\S+) ([0-9]+ [0-9]+(?:;[0-9]+ [0-9]+)*)\t(.*)", re.DOTALL)
_OTHER_ROWS = tuple("REAMN#*")

Fragments = tuple[tuple[int, int], ...]
ReadFile = Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class _Row:
    """A `T` row: its line number, and its fragments as they are written."""

    line: int
    label: str
    fragments: Fragments
    surface: str

    def problem(self, text: str) -> str | None:
        """Why the row cannot be an annotation of `text`."""
        offsets = ";".join(f"{start} {end}" for start, end in self.fragments)
        if any(start >= end for start, end in self.fragments):
            return f"the fragments {offsets} are not all start < end"
        if max(end for _, end in self.fragments) > len(text):
            return f"the offsets {offsets} lie outside the text, which has {len(text)} characters"
        expected = _normalised([self.surface])
        if not expected:
            return f"the offsets {offsets} have a blank surface"
        written = _normalised(text[start:end] for start, end in self.fragments)
        in_order = _normalised(text[start:end] for start, end in sorted(self.fragments))
        if expected not in (written, in_order):
            return f"the surface {expected!r:.80} is not what {offsets} give, {in_order!r:.80}"
        return None


def _normalised(pieces: Iterable[str]) -> str:
    return " ".join(" ".join(pieces).split())


def _merged(fragments: Fragments) -> Fragments:
    """In text order; overlapping ones are merged, touching ones are kept."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(fragments):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def _stripped(fragments: Fragments, text: str) -> Fragments:
    """Without white space at the edges of each fragment, and without blank fragments."""
    kept = []
    for start, end in fragments:
        piece = text[start:end]
        if piece.strip():
            kept.append((start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())))
    return tuple(kept)


def _t_rows(annotations: str, place: str) -> Iterator[_Row]:
    for number, line in enumerate(annotations.removeprefix(BOM).split("\n"), 1):
        line = line.removesuffix("\r")
        if not line.strip() or line.startswith(_OTHER_ROWS):
            continue
        match = _T_ROW.fullmatch(line)
        if not match:
            LOGGER.warning(
                "%s:%d: skipped %.80r: expected T<number><TAB>label start end[;start end...]<TAB>"
                "surface",
                place,
                number,
                line,
            )
            continue
        label, offsets, surface = match.groups()
        try:
            fragments = tuple(
                (int(start), int(end)) for start, end in map(str.split, offsets.split(";"))
            )
        except ValueError:  # more digits than an int may have
            LOGGER.warning("%s:%d: skipped: an offset is too large", place, number)
            continue
        yield _Row(number, label, fragments, surface)


class _Pairs:
    """The documents of one folder, archive or pair.

    Attributes
    ----------
    place: the folder, archive or file, for messages.
    root: what the names are relative to, for messages; by default `place`.
    mentions_stripped: number of mentions with white space at the edges of a fragment or of the
        surface.
    """

    def __init__(
        self, place: Path, names: Iterable[str], read_file: ReadFile, root: Path | None = None
    ):
        self.place, self.root, self.read_file = place, root or place, read_file
        self.mentions_stripped = 0
        self.pairs: dict[str, dict[str, str]] = {}
        for name in names:
            path = PurePosixPath(name.lstrip("/"))
            # hidden files are no documents: archives made on a Mac hold a `._NAME.txt` for each
            if path.suffix.lower() in (".ann", ".txt") and not path.name.startswith("."):
                pair = self.pairs.setdefault(str(path.with_suffix("")), {})
                pair[path.suffix.lower()] = name

    def documents(self) -> Iterator[Document | InputError]:
        """Sorted by id."""
        if not self.pairs:
            raise InputError("holds no .ann or .txt file", self.place)
        try:
            for name in sorted(self.pairs):
                try:
                    yield self.document(name)
                except InputError as error:
                    yield error
        finally:  # also when the caller stops early
            if self.mentions_stripped:
                LOGGER.info(
                    "%s: stripped white space at the edges of %d mentions",
                    self.place,
                    self.mentions_stripped,
                )

    def document(self, id: str) -> Document:
        pair = self.pairs[id]
        places = {suffix: f"{self.root}/{name}" for suffix, name in pair.items()}
        if ".txt" not in pair:
            raise InputError("there is no .txt file beside it", places[".ann"])
        data = self.read_file(pair[".txt"])
        text = text_of(data, places[".txt"])
        if ".ann" not in pair:
            return Document(clean_name(id), text)
        place = places[".ann"]
        rows = list(_t_rows(decode(self.read_file(pair[".ann"]), place), place))
        stored = decode(data, places[".txt"])
        if stored != text and sum(not row.problem(stored) for row in rows) < sum(
            not row.problem(text) for row in rows
        ):
            stored = text  # the offsets do not count the byte order mark
        shift = len(stored) - len(text)
        entities = []
        for row in rows:
            problem = row.problem(stored)
            merged = _merged(row.fragments)
            fragments = _stripped(merged, stored)
            if problem is None and fragments and fragments[0][0] < shift:
                problem = "it holds the byte order mark"
            if problem is None:
                self.mentions_stripped += fragments != merged or row.surface != row.surface.strip()
                entities.append(
                    Entity(row.label, tuple((s - shift, e - shift) for s, e in fragments))
                )
            else:
                LOGGER.warning("%s:%d: skipped %s: %s", place, row.line, row.label, problem)
        document = Document(clean_name(id), text, tuple(entities))
        if len(document.entities) < len(entities):
            twice = len(entities) - len(document.entities)
            LOGGER.info("%s: %d annotations say the same as another one", place, twice)
        return document


def _too_large(place: str) -> InputError:
    return InputError(f"larger than {MEMBER_LIMIT} bytes", place)


def _read_tar(path: Path) -> Iterator[Document | InputError]:
    # One pass, because each step back in a compressed tar begins again at its start.
    held: dict[str, bytes | InputError] = {}
    total = 0
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = str(PurePosixPath(member.name))
                if not member.isreg() or not name.lower().endswith((".ann", ".txt")):
                    if member.islnk() or member.issym():
                        LOGGER.warning("%s: skipped %s, which is a link", path, name)
                    continue
                if member.size > MEMBER_LIMIT:
                    held[name] = _too_large(f"{path}/{name}")
                    continue
                total += member.size
                if total > ARCHIVE_LIMIT:
                    raise InputError(
                        f"its .ann and .txt members are larger than {ARCHIVE_LIMIT} bytes: unpack "
                        "it and read the folder",
                        path,
                    )
                file = archive.extractfile(member)
                held[name] = file.read() if file else b""
    except _BROKEN_TAR as error:
        raise failure(error, path) from None

    def read_member(name: str) -> bytes:
        data = held[name]
        if isinstance(data, InputError):
            raise data
        return data

    yield from _Pairs(path, list(held), read_member).documents()


def _read_zip(path: Path) -> Iterator[Document | InputError]:
    try:
        archive = zipfile.ZipFile(path)
    except _BROKEN_ZIP as error:
        raise failure(error, path) from None

    def read_member(name: str) -> bytes:
        try:
            with archive.open(name) as file:
                data = file.read(MEMBER_LIMIT + 1)  # the size that the archive states may be wrong
        except _BROKEN_ZIP as error:
            raise failure(error, f"{path}/{name}") from None
        if len(data) > MEMBER_LIMIT:
            raise _too_large(f"{path}/{name}")
        return data

    with archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        yield from _Pairs(path, names, read_member).documents()


def is_archive(path: str | Path) -> bool:
    return str(path).lower().endswith(ARCHIVE_SUFFIXES)


def read(path: str | Path) -> Iterator[Document | InputError]:
    """A folder (with its subfolders), an archive, or the pair of one `.txt` or `.ann` file.

    Ids are the files' paths below the folder or in the archive, without suffix; documents come
    sorted by id. A text without annotations is a document without entities; annotations without a
    text are an `InputError`. An annotation that is malformed, lies outside the text or does not
    match its surface is logged and skipped. Archives are read in memory, never unpacked; a member
    of more than 64 MiB is an `InputError`.

    Raises
    ------
    InputError: the path is missing, the archive is broken, or there is no `.txt` and no `.ann`.
    """
    path = Path(path)
    if path.is_dir():
        names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
        yield from _Pairs(path, names, lambda name: read_bytes(path / name)).documents()
    elif not path.exists():
        raise InputError("no such file or folder", path)
    elif path.suffix.lower() == ".zip":
        yield from _read_zip(path)
    elif is_archive(path):
        yield from _read_tar(path)
    else:
        folder = path.parent
        other = path.with_suffix({".txt": ".ann", ".ann": ".txt"}.get(path.suffix.lower(), ""))
        names = [path.name] + [other.name] * other.is_file()
        pair = _Pairs(path, names, lambda name: read_bytes(folder / name), folder)
        yield from pair.documents()
