"""What the formats share: files on disk and in archives, bytes to text, lines, the log channel."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import logging
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from charset_normalizer import from_bytes

from constrained_ner.errors import InputError

LOGGER = logging.getLogger("constrained_ner.corpora")
BOM = "\ufeff"

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
LINE_LIMIT = 64 * 2**20  # bytes
MEMBER_LIMIT = 256 * 2**20  # bytes, uncompressed, of a file in an archive or one read whole
ARCHIVE_LIMIT = 2**30  # bytes of the members of a tar, which are held in memory
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Where the options of readers are that a message advises: not each command that reads has them.
WHERE = "in `cner convert`, say"
MANY = 0.5  # a share of bytes beyond ASCII that texts in Latin letters do not have
HEAD = 2**16  # bytes of a file that are looked at to recognise its format

_CANNOT_READ = (OSError, EOFError, zlib.error, LZMAError, tarfile.TarError, zipfile.BadZipFile)
# What an archive may raise as well: RuntimeError, where it needs a password or an unknown method;
# ValueError and OverflowError, where a name cannot be decoded or a size is none.
_CANNOT_OPEN = (*_CANNOT_READ, RuntimeError, ValueError, OverflowError)


def encodable(text: str) -> str:
    """With `?` for what cannot be encoded as UTF-8, which file names and JSON may have."""
    return text.encode(errors="replace").decode()


def failure(error: BaseException, path: str | Path) -> InputError:
    """The `InputError` for a file that the system or a library cannot read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InputError(f"cannot be read: {reason or type(error).__name__}", path)


def sha256_of(path: Path) -> str:
    """The checksum of a file, in hexadecimal digits.

    That of a folder is of a line for each file that is read of it, in order: its checksum and name.

    Raises
    ------
    InputError: it, or a file of the folder, cannot be read.
    """
    if path.is_dir():
        with opened(path) as folder:
            lines = [f"{sha256_of(path / name)}  {name}\n" for name in folder.files]
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise failure(error, path) from None


def decode(
    data: bytes,
    path: str | Path,
    line: int | None = None,
    start: int = 0,
    *,
    hint: bool = True,
) -> str:
    """`data` as UTF-8, nothing translated and nothing dropped.

    Parameters
    ----------
    line: its line number in `path`; by default it is counted in `data`.
    start: the byte offset of `data` in `path`.
    hint: whether the message says in which encoding the text is likely to be, which takes a while.

    Raises
    ------
    InputError: not UTF-8; the message gives the byte offset in the file.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        bad = error.start
        likely = _hint(data, bad) if hint else ""
        raise InputError(
            f"not UTF-8: byte 0x{data[bad]:02x} at byte offset {start + bad}{likely}",
            path,
            line or data.count(b"\n", 0, bad) + 1,
        ) from None


def _hint(data: bytes, bad: int) -> str:
    """What the byte would be in the encoding that the text is likely to have, for the message."""
    if data.startswith(_UTF_16):
        return f" (a byte order mark: --encoding utf-16, {WHERE})"
    around = data[max(0, bad - HEAD) : bad + HEAD]
    likely: str | None = "cp1252"  # of letters with accents here and there
    if sum(byte >= 0x80 for byte in around) > MANY * len(around):
        best = from_bytes(around).best()
        likely = best.encoding if best else None
    try:
        read = data[bad : bad + 8].decode(likely or "", errors="ignore")
    except LookupError:
        return ""
    return f" ({read[0]!r} in {likely}: --encoding {likely}, {WHERE})" if read else ""


@dataclass(frozen=True)
class File:
    """A file on disk or in an archive.

    Attributes
    ----------
    name: its path below the folder or in the archive that is read; of a single file its own name.
    place: where it is, for messages.
    opener: opens it for reading.
    encoding: of its text; None is UTF-8.
    """

    name: str
    place: str
    opener: Callable[[], BinaryIO]
    encoding: str | None = None

    @classmethod
    def on_disk(cls, path: Path, name: str | None = None) -> File:
        return cls(name or path.name, str(path), lambda: path.open("rb"))

    @property
    def path(self) -> PurePosixPath:
        return PurePosixPath(self.name)

    @property
    def id(self) -> str:
        """The name without its suffixes of compression and format."""
        return encodable(str(self._unpacked.with_suffix("")))

    @property
    def suffix(self) -> str:
        """That of the format, in lower case: `.tsv` for `a.tsv.gz`, too."""
        return self._unpacked.suffix.lower()

    @property
    def _unpacked(self) -> PurePosixPath:
        return self.path.with_suffix("") if self.path.suffix.lower() == ".gz" else self.path

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Raises `InputError` if the file cannot be opened or read on."""
        try:
            file = self.opener()
        except _CANNOT_OPEN as error:
            raise failure(error, self.place) from None
        try:
            with file:
                packed = self.path.suffix.lower() == ".gz"
                plain: BinaryIO = io.BufferedReader(gzip.GzipFile(fileobj=file)) if packed else file
                yield plain if self.encoding is None else self._as_utf8(plain, self.encoding)
        except _CANNOT_READ as error:
            raise failure(error, self.place) from None

    def _as_utf8(self, file: BinaryIO, encoding: str) -> BinaryIO:
        """The file in UTF-8, so that readers need not know of other encodings."""
        data = _whole(file, self.place, ", and not in UTF-8: convert it")
        marks = {"utf-8": (codecs.BOM_UTF8,), "utf-16": _UTF_16}
        for name, known in marks.items():
            if data.startswith(known) and not codecs.lookup(encoding).name.startswith(name):
                raise InputError(f"not {encoding}: it begins as {name} does", self.place)
        try:
            return io.BytesIO(data.decode(encoding).encode())
        except UnicodeError as error:
            at = f" at byte offset {error.start}" if isinstance(error, UnicodeDecodeError) else ""
            raise InputError(f"not {encoding}{at}: {error}", self.place) from None

    def read(self) -> bytes:
        """The whole file, of `MEMBER_LIMIT` bytes at most."""
        with self.open() as file:
            return _whole(file, self.place)

    def text(self) -> str:
        """The whole file as UTF-8, nothing translated; a byte order mark is dropped."""
        return decode(self.read(), self.place).removeprefix(BOM)

    @cached_property
    def head(self) -> str:
        """Its beginning, for recognising it; empty where it cannot be read."""
        try:
            with self.open() as file:
                return file.read(HEAD).decode(errors="replace").removeprefix(BOM)
        except InputError:
            return ""

    @property
    def head_lines(self) -> list[str]:
        """The lines of its beginning that are whole and not blank."""
        lines = self.head.split("\n")
        if len(self.head) > HEAD // 4 and len(lines) > 1:
            lines.pop()
        return [line.removesuffix("\r") for line in lines if line.strip()]

    def lines(self) -> Iterator[tuple[int, str | InputError]]:
        r"""Each line's 1-based number, and its text or, if it is not UTF-8, an `InputError`.

        Lines end at `\n` only (a text may hold U+2028); the line end `\n` or `\r\n` and a byte
        order mark are dropped.

        Raises
        ------
        InputError: the file cannot be read, begins with a UTF-16 byte order mark, or has a line of
            more than `LINE_LIMIT` bytes.
        """
        good = True
        for number, offset, data in self.byte_lines():
            try:
                line = decode(data, self.place, number, offset, hint=good)
            except InputError as error:
                good = False  # one hint a file
                yield number, error
            else:
                line = line.removeprefix(BOM) if number == 1 else line
                yield number, line.removesuffix("\n").removesuffix("\r")

    def byte_lines(self) -> Iterator[tuple[int, int, bytes]]:
        """Each line's 1-based number, its byte offset in the file, and its bytes with their end.

        Raises
        ------
        InputError: as `lines` does.
        """
        offset = number = 0
        with self.open() as file:
            while data := file.readline(LINE_LIMIT + 1):
                number += 1
                if number == 1 and data.startswith(_UTF_16):
                    raise InputError(
                        "not UTF-8: it begins with a UTF-16 byte order mark (--encoding utf-16, "
                        f"{WHERE})",
                        self.place,
                    )
                if len(data) > LINE_LIMIT:
                    raise InputError(f"a line of over {LINE_LIMIT} bytes", self.place, number)
                yield number, offset, data
                offset += len(data)


@dataclass
class FileSet:
    """What a path names: one file, a folder with its subfolders, or an archive.

    Attributes
    ----------
    files: by name, sorted; hidden ones and links in archives are left out.
    beside: where the path is one file, all files of its folder: a format of several files finds the
        others there.
    """

    path: Path
    files: dict[str, File]
    beside: dict[str, File] = field(default_factory=dict)

    @property
    def is_file(self) -> bool:
        return bool(self.beside)

    def in_encoding(self, encoding: str) -> FileSet:
        """The same with files of texts in another encoding than UTF-8.

        Raises
        ------
        InputError: Python knows no such encoding.
        """
        try:
            " ".encode(encoding)  # there are codecs that are none of texts
        except (LookupError, ValueError):
            raise InputError(f"unknown encoding {encoding!r}: expected such as cp1252") from None

        def those(files: dict[str, File]) -> dict[str, File]:
            return {name: replace(file, encoding=encoding) for name, file in files.items()}

        return FileSet(self.path, those(self.files), those(self.beside))

    def find(self, name: str) -> File | None:
        """A file by its name, also beside a single file."""
        return self.files.get(name) or self.beside.get(name)


def group_by(files: Iterable[File], key: Callable[[File], str]) -> dict[str, dict[str, File]]:
    """Files that belong together, by what they have in common: those of each by their suffix.

    Of several with the same key and suffix the first one counts.
    """
    groups: dict[str, dict[str, File]] = {}
    for file in files:
        first = groups.setdefault(key(file), {}).setdefault(file.suffix, file)
        if first is not file:
            LOGGER.warning("%s: passed over: %s has the same id", file.place, first.place)
    return groups


def is_archive(path: str | Path) -> bool:
    return str(path).lower().endswith(ARCHIVE_SUFFIXES)


@contextmanager
def opened(path: str | Path, encoding: str | None = None) -> Iterator[FileSet]:
    """The files that a path names. Archives are read where they are, never unpacked.

    Parameters
    ----------
    encoding: of the texts; by default UTF-8.

    Raises
    ------
    InputError: the path is missing, an archive is broken or too large, or Python knows no such
        encoding.
    """
    for found in _opened(path):
        yield found if encoding is None else found.in_encoding(encoding)


def _opened(path: str | Path) -> Iterator[FileSet]:
    path = Path(path)
    try:
        is_folder, is_there, is_file = path.is_dir(), path.exists(), path.is_file()
    except OSError as error:
        raise failure(error, path) from None
    if is_folder:
        yield FileSet(path, _by_name(File.on_disk(path / name, name) for name in _below(path)))
    elif not is_there:
        raise InputError("no such file or folder", path)
    elif not is_file:  # a pipe, which can be read once
        data = File("", str(path), lambda: path.open("rb")).read()  # packed or not, by no name
        only = {path.name: File(path.name, str(path), partial(io.BytesIO, data))}
        yield FileSet(path, only, only)
    elif not is_archive(path):
        folder = path.absolute().parent
        given = {path.name: File.on_disk(path)}
        neighbours = {file.name: File.on_disk(path.parent / file.name) for file in _files(folder)}
        yield FileSet(path, given, given | neighbours)
    elif path.suffix.lower() == ".zip":
        yield from _zip(path)
    else:
        yield FileSet(path, _tar(path))


def _below(folder: Path) -> Iterator[str]:
    """The names of all files below a folder."""

    def warn(error: OSError) -> None:
        LOGGER.warning("%s: passed over: %s", error.filename, error.strerror)

    for above, folders, names in os.walk(folder, onerror=warn):
        for name in folders:
            path = Path(above, name)
            if path.is_symlink():
                LOGGER.warning("%s: passed over: a link to a folder", path)
        for name in names:
            path = Path(above, name)
            if path.is_file():
                yield path.relative_to(folder).as_posix()
            elif path.is_symlink():
                LOGGER.warning("%s: passed over: a link that leads nowhere", path)


def _files(folder: Path) -> Iterator[Path]:
    try:
        yield from (file for file in folder.iterdir() if file.is_file())
    except OSError:  # a folder that may not be listed: the file itself may still be read
        return


def _by_name(files: Iterator[File]) -> dict[str, File]:
    # hidden files are no documents: archives made on a Mac hold a `._NAME.txt` for each
    visible = [file for file in files if file.path.name and not _is_hidden(file.path)]
    return {file.name: file for file in sorted(visible, key=lambda file: file.name)}


def _is_hidden(path: PurePosixPath) -> bool:
    """Whether it, or a folder that it lies in, is."""
    return any(part.startswith(".") and part != ".." for part in path.parts)


def _too_large(place: str) -> Callable[[], BinaryIO]:
    def fail() -> BinaryIO:
        raise InputError(f"larger than {MEMBER_LIMIT} bytes", place)

    return fail


def _tar(path: Path) -> dict[str, File]:
    # One pass, because each step back in a compressed tar begins again at its start.
    files: list[File] = []
    total = 0
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if archive.offset <= member.offset:  # else the same header comes for ever
                    raise InputError("a member of a negative size", path)
                name = str(PurePosixPath(member.name.lstrip("/")))
                place = f"{path}/{name}"
                if member.islnk() or member.issym():
                    LOGGER.warning("%s: skipped %s, which is a link", path, name)
                if not member.isreg():
                    continue
                if member.size > MEMBER_LIMIT:
                    files.append(File(name, place, _too_large(place)))
                    continue
                total += member.size
                if total > ARCHIVE_LIMIT:
                    raise InputError(
                        f"its files are larger than {ARCHIVE_LIMIT} bytes: unpack it and read the "
                        "folder",
                        path,
                    )
                file = archive.extractfile(member)
                data = file.read() if file else b""
                files.append(File(name, place, partial(io.BytesIO, data)))
            _warn_of_rest(archive, path)
    except _CANNOT_OPEN as error:
        raise failure(error, path) from None
    return _by_name(iter(files))


def _warn_of_rest(archive: tarfile.TarFile, path: Path) -> None:
    """`tarfile` takes whatever is no header for the end, which is a block of zeros."""
    source: Any = archive.fileobj
    source.seek(archive.offset)
    block = source.read(tarfile.BLOCKSIZE)
    if not block or block.strip(b"\0"):
        LOGGER.warning("%s: broken off: nothing after byte %d is read", path, archive.offset)


def _whole(file: IO[bytes], place: str, more: str = "") -> bytes:
    """What is left of a file, of `MEMBER_LIMIT` bytes at most: archives may state a wrong size.

    Parameters
    ----------
    more: what else the message says.
    """
    data = file.read(MEMBER_LIMIT + 1)
    if len(data) > MEMBER_LIMIT:
        raise InputError(f"larger than {MEMBER_LIMIT} bytes{more}", place)
    return data


def _zip(path: Path) -> Iterator[FileSet]:
    try:
        archive = zipfile.ZipFile(path)
    except _CANNOT_OPEN as error:
        raise failure(error, path) from None

    def opener(name: str, place: str) -> Callable[[], BinaryIO]:
        def open_member() -> BinaryIO:
            with archive.open(name) as file:  # the size that the archive states may be wrong
                return io.BytesIO(_whole(file, place))

        return open_member

    with archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        yield FileSet(
            path,
            _by_name(
                File(name.lstrip("/"), f"{path}/{name}", opener(name, f"{path}/{name}"))
                for name in names
            ),
        )


def members_of(file: File) -> list[File]:
    """The files in a zip that is itself a file of a folder or of an archive.

    Raises
    ------
    InputError: it cannot be read.
    """

    def open_member(name: str) -> BinaryIO:
        with zipfile.ZipFile(io.BytesIO(file.read())) as archive, archive.open(name) as member:
            return io.BytesIO(_whole(member, f"{file.place}/{name}"))

    try:
        with zipfile.ZipFile(io.BytesIO(file.read())) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
    except _CANNOT_OPEN as error:
        raise failure(error, file.place) from None
    folder = file.path.with_suffix("")
    return [
        File(f"{folder}/{name}", f"{file.place}/{name}", partial(open_member, name))
        for name in names
    ]
