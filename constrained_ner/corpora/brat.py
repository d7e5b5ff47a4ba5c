r"""brat standoff: pairs of `NAME.txt` and `NAME.ann`, in a folder, an archive, or just one pair.

Offsets count the characters of the text file as it is stored, so nothing in it is translated: a
`\r\n` counts two. A byte order mark is dropped from the text, and offsets that counted it (brat's
own do) are shifted. Of an `.ann` file only the `T` rows are read.

CADEC is laid out so, too, but with its texts in a folder `text` and its annotations in `original`
(and again, as concepts, in `meddra` and `sct`, which are not read).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from constrained_ner.corpora.annotations import Annotation, entities_of, log_repairs
from constrained_ner.corpora.conversion_losses import ConversionLosses, Names
from constrained_ner.corpora.files import BOM, LOGGER, File, FileSet, clean_name, decode
from constrained_ner.corpora.text import text_of
from constrained_ner.documents import Document
from constrained_ner.errors import InputError
from constrained_ner.words import one_line

_T_ROW = re.compile(r"T[^\t]*\t(\S+) ([0-9]+ [0-9]+(?:;[0-9]+ [0-9]+)*)\t(.*)", re.DOTALL)
_OTHER_ROWS = tuple("REAMN#*")
# What no file name may hold, and what a reader would take for something else.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]|^\.+|%")
_NAME_LIMIT = 200  # bytes of a file name


# ---- reading ------------------------------------------------------------------------------------


def t_rows(file: File, passed: Counter[str]) -> Iterator[Annotation]:
    """The `T` rows of an `.ann` file; what is no row of brat is logged as a warning."""
    for number, line in enumerate(file.text().split("\n"), 1):
        line = line.removesuffix("\r")
        if not line.strip():
            continue
        if line.startswith(_OTHER_ROWS):
            passed["rows other than T (relations, events, notes), passed over"] += 1
            continue
        match = _T_ROW.fullmatch(line)
        if not match:
            LOGGER.warning(
                "%s:%d: skipped %.80r: expected T<number><TAB>label start end[;start end...]<TAB>"
                "surface",
                file.place,
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
            LOGGER.warning("%s:%d: skipped: an offset is too large", file.place, number)
            continue
        yield Annotation(file.place, number, label, fragments, surface)


def _pairs(file_set: FileSet) -> dict[str, dict[str, File]]:
    """By id: the files `.txt` and `.ann`."""
    pairs: dict[str, dict[str, File]] = {}
    for file in file_set.files.values():
        if file.suffix in (".ann", ".txt"):
            pairs.setdefault(file.id, {})[file.suffix] = file
    for pair in pairs.values() if file_set.is_file else ():
        (given,) = pair.values()
        other = {".txt": ".ann", ".ann": ".txt"}[given.suffix]
        found = file_set.find(given.path.with_suffix(other).name)
        if found:
            pair[other] = found
    return pairs


def cadec_pairs(file_set: FileSet) -> dict[str, dict[str, File]]:
    """By id: the files of `text` and `original`."""
    pairs: dict[str, dict[str, File]] = {}
    for file in file_set.files.values():
        folder = file.path.parent.name.lower()
        suffix = {"text": ".txt", "original": ".ann"}.get(folder)
        if suffix == file.suffix:
            pairs.setdefault(clean_name(file.path.stem), {})[file.suffix] = file
    return pairs


def recognises(file_set: FileSet) -> bool:
    if cadec_pairs(file_set) and recognises_cadec(file_set):
        return False
    pairs = _pairs(file_set)
    if file_set.is_file:
        return any(".ann" in pair for pair in pairs.values())
    return any(len(pair) == 2 for pair in pairs.values())


def recognises_cadec(file_set: FileSet) -> bool:
    return any(len(pair) == 2 for pair in cadec_pairs(file_set).values())


def read(file_set: FileSet) -> Iterator[Document | InputError]:
    """A folder (with its subfolders), an archive, or the pair of one `.txt` or `.ann` file.

    Ids are the files' paths below the folder or in the archive, without suffix; documents come
    sorted by id. A text without annotations is a document without entities; annotations without a
    text are an `InputError`. An annotation that is malformed, lies outside the text or does not
    match its surface is logged and skipped.

    Raises
    ------
    InputError: there is no `.txt` and no `.ann`.
    """
    yield from _read(file_set, _pairs(file_set), "holds no .ann or .txt file")


def read_cadec(file_set: FileSet) -> Iterator[Document | InputError]:
    """CADEC as it is distributed: `text/NAME.txt` with `original/NAME.ann`; otherwise as `read`."""
    yield from _read(file_set, cadec_pairs(file_set), "holds no text/*.txt or original/*.ann")


def _read(
    file_set: FileSet, pairs: dict[str, dict[str, File]], none: str
) -> Iterator[Document | InputError]:
    if not pairs:
        raise InputError(none, file_set.path)
    repairs: Counter[str] = Counter()
    try:
        for id, pair in sorted(pairs.items()):
            try:
                yield _document(id, pair, repairs)
            except InputError as error:
                yield error
    finally:  # also when the caller stops early
        log_repairs(repairs, file_set.path)


def _document(id: str, pair: dict[str, File], repairs: Counter[str]) -> Document:
    if ".txt" not in pair:
        raise InputError("there is no .txt file beside it", pair[".ann"].place)
    data = pair[".txt"].read()
    text = text_of(data, pair[".txt"].place)
    if ".ann" not in pair:
        return Document(id, text)
    rows = list(t_rows(pair[".ann"], repairs))
    stored = decode(data, pair[".txt"].place)
    if stored != text and sum(not row.problem(stored) for row in rows) < sum(
        not row.problem(text) for row in rows
    ):
        stored = text  # the offsets do not count the byte order mark
    shift = len(stored) - len(text)
    if shift:
        rows = [_without_mark(row, shift) for row in rows]
    return Document(id, text, tuple(entities_of(rows, text, repairs)))


def _without_mark(row: Annotation, shift: int) -> Annotation:
    fragments = tuple((start - shift, end - shift) for start, end in row.fragments)
    return Annotation(row.place, row.line, row.label, fragments, row.surface)


# ---- writing ------------------------------------------------------------------------------------


def file_name(id: str) -> str:
    """An id as a path below a folder: its `/` are folders, and nothing leads out of the folder."""
    parts = [_UNSAFE.sub(_percent, part) or "_" for part in id.split("/")]
    return "/".join(part.encode()[:_NAME_LIMIT].decode(errors="ignore") for part in parts)


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())


def write(documents: Iterable[Document], folder: Path, losses: ConversionLosses) -> None:
    """A folder of pairs, made anew.

    Labels may hold no white space in these files: it is written as `_`.

    Raises
    ------
    InputError: the folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("exists: expected a new or an empty folder", folder)
    ids, labels = Names("ids", losses), Names("labels", losses)
    for document in documents:
        if not document.text.strip():
            losses.add("texts without a word, left out", document)
            continue
        losses.passages(document)
        id = document.id.encode(errors="replace").decode()
        path = folder / PurePosixPath(ids.fresh(document.id, file_name(id), document))
        path.parent.mkdir(parents=True, exist_ok=True)
        text = document.text
        # a reader drops one mark, and shifts the offsets that count it
        mark = BOM if text.startswith(BOM) else ""
        path.with_name(path.name + ".txt").write_bytes((mark + text).encode())
        with open(path.with_name(path.name + ".ann"), "w", encoding="utf-8", newline="\n") as file:
            for number, entity in enumerate(document.entities, 1):
                label = labels.name(entity.label, "_".join(entity.label.split()) or "_", document)
                offsets = ";".join(
                    f"{start + len(mark)} {end + len(mark)}" for start, end in entity.fragments
                )
                surface = one_line(entity.surface(text)).replace("\t", " ")
                file.write(f"T{number}\t{label} {offsets}\t{surface}\n")
