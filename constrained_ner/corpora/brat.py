r"""brat standoff: pairs of `NAME.txt` and `NAME.ann`, in a folder, an archive, or just one pair.

The text is that of the file, with its line breaks as they are and without a byte order mark.
Offsets count its characters or, if the surfaces fit better so, something else (see `offsets`; brat
itself counts a byte order mark). Of an `.ann` file only the `T` rows are read, and the notes that
say how sure a model is of one: `#1<TAB>AnnotatorNotes T1<TAB>confidence 0.97`.

CADEC is laid out so, too, but with its texts in a folder `text` and its annotations in a folder
`original`. Those in `meddra` and `sct`, the same as concepts, are not read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath

from constrained_ner.corpora.annotations import (
    UNANNOTATED,
    Annotation,
    Fragments,
    annotated,
    documents_of,
    highest,
    probability,
)
from constrained_ner.corpora.conversion_losses import ConversionLosses, Names
from constrained_ner.corpora.files import BOM, LOGGER, File, FileSet, encodable, group_by
from constrained_ner.corpora.text import text_and_mark
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError
from constrained_ner.words import LINE_BREAKS, Span, trimmed

_T_ROW = re.compile(r"(T[^\t]*)\t(\S+) ([0-9]+ [0-9]+(?:;[0-9]+ [0-9]+)*)\t(.*)", re.DOTALL)
# A note of ours on an annotation, which other notes are not taken for.
_CONFIDENCE_NOTE = re.compile(r"#[^\t]*\tAnnotatorNotes (T\S*)\tconfidence (\S+)")
_OTHER_ROW = re.compile(r"[REAMN][0-9]+\s|[#*]")
# The beginning of a row of any kind, which no line of a surface looks like: it has a TAB.
_ROW_START = re.compile(r"[TREAMN#*]\S*\t")
# What no file name may hold, and what a reader would take for something else.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]|^\.+|%")
_NAME_LIMIT = 200  # bytes of a file name
_SPACE = re.compile(r"\s+")
_BREAK = re.compile(f"[{LINE_BREAKS}\t]")


# ---- reading ------------------------------------------------------------------------------------


def t_rows(file: File, passed: Counter[str]) -> Iterator[Annotation]:
    """The `T` rows of an `.ann` file; what is no row of brat is logged as a warning.

    A note on one that says its confidence is read with it.
    """
    rows: list[tuple[int, str]] = []
    confidences: dict[str, float] = {}
    for number, row in _rows(file):
        note = _CONFIDENCE_NOTE.fullmatch(row)
        confidence = probability(note[2]) if note else None
        if note and confidence is not None:
            confidences[note[1]] = confidence
        else:
            rows.append((number, row))
    for number, row in rows:
        if _OTHER_ROW.match(row):
            passed["rows other than T (relations, events, notes), passed over"] += 1
            continue
        match = _T_ROW.fullmatch(row)
        if not match:
            LOGGER.warning(
                "%s:%d: skipped %.80r: expected T<number><TAB>label start end[;start end...]<TAB>"
                "surface",
                file.place,
                number,
                row,
            )
            continue
        id, label, offsets, surface = match.groups()
        fragments, confidence = _fragments(offsets), confidences.get(id)
        yield Annotation(file.place, number, label, fragments, surface, confidence)


def _rows(file: File) -> Iterator[tuple[int, str]]:
    """The rows of an `.ann` file that are not blank, each with the number of its first line.

    A row is a line, as a rule. Some programs write the line breaks of a surface as they are: what
    the surface of a `T` row lacks for its offsets stands in the lines after it.
    """
    row: list[str] = []
    first, lacking = 0, 0
    for number, line in enumerate(file.text().split("\n"), 1):
        line = line.removesuffix("\r")
        if lacking > 0 and not _ROW_START.match(line):
            row.append(line)
            lacking -= len(line) + 1
            continue
        yield from _row(row, first)
        row, first, lacking = [line], number, _lacking(line)
    yield from _row(row, first)


def _row(lines: list[str], number: int) -> Iterator[tuple[int, str]]:
    row = "\n".join(lines).rstrip("\n")
    if row.strip():
        yield number, row


def _lacking(line: str) -> int:
    """How many characters fewer than its offsets say the surface of a `T` row has."""
    match = _T_ROW.fullmatch(line)
    if not match:
        return 0
    *_, offsets, surface = match.groups()
    # there is one character between two fragments
    return sum(end - start + 1 for start, end in _fragments(offsets)) - 1 - len(surface)


def _fragments(offsets: str) -> Fragments:
    """The pairs of `start end;start end`."""
    pairs = (pair.split() for pair in offsets.split(";"))
    # cut off, a number too long for an `int` is still far outside any text
    return tuple((int(start[:18]), int(end[:18])) for start, end in pairs)


def standoff(file_set: FileSet, *suffixes: str) -> dict[str, dict[str, File]]:
    """By id: the files of each document, by their suffixes; of a single file those beside it."""
    ids = {file.id for file in file_set.files.values() if file.suffix in suffixes}
    files = {**file_set.files, **file_set.beside}.values()
    return group_by(
        (file for file in files if file.suffix in suffixes and file.id in ids),
        lambda file: file.id,
    )


def cadec_pairs(file_set: FileSet) -> dict[str, dict[str, File]]:
    """By id: the files of `text` and `original`."""

    def belongs(file: File) -> bool:
        folder = file.path.parent.name.lower()
        return {"text": ".txt", "original": ".ann"}.get(folder) == file.suffix

    files = filter(belongs, file_set.files.values())
    found = group_by(files, lambda file: str(file.path.parent.parent / file.path.stem))
    pairs: dict[str, dict[str, File]] = {}
    for pair in found.values():
        file = next(iter(pair.values()))
        if pairs.setdefault(encodable(file.path.stem), pair) is not pair:
            LOGGER.warning("%s: passed over: another document has its id", file.place)
    return pairs


def recognises(file_set: FileSet) -> bool:
    pairs = standoff(file_set, ".ann", ".txt")
    if file_set.is_file:
        return any(".ann" in pair for pair in pairs.values())
    return any(len(pair) == 2 for pair in pairs.values())


def recognises_cadec(file_set: FileSet) -> bool:
    return any(len(pair) == 2 for pair in cadec_pairs(file_set).values())


def read(file_set: FileSet) -> Iterator[Document | InputError]:
    """A folder (with its subfolders), an archive, or the pair of one `.txt` or `.ann` file.

    Ids are the files' paths below the folder or in the archive, without suffix; documents come
    sorted by id. A text without annotations is a document without entities; annotations without a
    text are an `InputError`. An annotation that is malformed, lies outside the text or has another
    surface than the text at its offsets is logged and skipped.

    Raises
    ------
    InputError: there is no `.txt` and no `.ann`.
    """
    yield from _read(file_set, standoff(file_set, ".ann", ".txt"), "holds no .ann or .txt file")


def read_cadec(file_set: FileSet) -> Iterator[Document | InputError]:
    """CADEC as it is distributed: `text/NAME.txt` with `original/NAME.ann`; otherwise as `read`."""
    yield from _read(file_set, cadec_pairs(file_set), "holds no text/*.txt or original/*.ann")


def _read(
    file_set: FileSet, pairs: dict[str, dict[str, File]], none: str
) -> Iterator[Document | InputError]:
    if not pairs:
        raise InputError(none, file_set.path)
    yield from documents_of(pairs, _document, file_set.path)


def _document(id: str, pair: dict[str, File], repairs: Counter[str]) -> Document:
    if ".txt" not in pair:
        raise InputError("there is no .txt file beside it", pair[".ann"].place)
    text, marked = text_and_mark(pair[".txt"])
    repairs[UNANNOTATED] += ".ann" not in pair
    rows = list(t_rows(pair[".ann"], repairs)) if ".ann" in pair else []
    return _undivided(annotated(Document(id, text), rows, repairs, marked), repairs)


def _undivided(document: Document, repairs: Counter[str]) -> Document:
    """With the mentions in one piece that brat divides, since no surface may go over a line."""
    text = document.text
    whole = {e: replace(e, fragments=_joined(e.fragments, text)) for e in document.entities}
    repairs["mentions over several lines, read in one piece"] += sum(
        joined != entity for entity, joined in whole.items()
    )
    confidences = ((whole[entity], sure) for entity, sure in document.confidences.items())
    return replace(document, entities=tuple({*whole.values()}), confidences=highest(confidences))


def _joined(fragments: Fragments, text: str) -> Fragments:
    """Fragments with those put together between which there is a line break or a TAB, and space."""
    found = [*fragments[:1]]
    for start, end in fragments[1:]:
        between = text[found[-1][1] : start]
        if between.isspace() and _BREAK.search(between):
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return tuple(found)


def _divided(fragments: Fragments, text: str) -> Fragments:
    """Fragments that go over no line break and no TAB, as brat has them; none of white space."""
    found: list[Span] = []
    for start, end in fragments:
        breaks = (run.span() for run in _SPACE.finditer(text, start, end) if _BREAK.search(run[0]))
        cuts = [start, *chain.from_iterable(breaks), end]
        pieces = (trimmed(text, *piece) for piece in zip(cuts[::2], cuts[1::2], strict=True))
        found += filter(None, pieces)
    return tuple(found)


# ---- writing ------------------------------------------------------------------------------------


def file_name(id: str) -> str:
    """An id as a path below a folder: its `/` are folders, and nothing leads out of the folder."""
    parts = [_UNSAFE.sub(_percent, part) or "_" for part in id.split("/")]
    return "/".join(part.encode()[:_NAME_LIMIT].decode(errors="ignore") for part in parts)


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())


def placed(
    documents: Iterable[Document], folder: Path, losses: ConversionLosses
) -> Iterator[tuple[Document, Path]]:
    """The documents that have a text, and where the files of each go, without a suffix."""
    ids = Names("ids", losses, of_files=True)
    for document in documents:
        if not document.text.strip():
            losses.add("texts without a word, left out", document)
            continue
        losses.passages(document)
        id = encodable(document.id)
        path = folder / PurePosixPath(ids.fresh(document.id, file_name(id), document))
        path.parent.mkdir(parents=True, exist_ok=True)
        yield document, path


def write(documents: Iterable[Document], folder: Path, losses: ConversionLosses) -> None:
    """A new folder of pairs. White space in labels, which these files cannot hold, becomes `_`.

    Confidences are notes on their annotations, which brat shows with them.
    """
    labels = Names("labels", losses)
    for document, path in placed(documents, folder, losses):
        text = document.text
        # readers drop a byte order mark, so a text that begins with one gets a second one, which
        # brat counts
        mark = BOM if text.startswith(BOM) else ""
        path.with_name(path.name + ".txt").write_bytes((mark + text).encode())
        with open(path.with_name(path.name + ".ann"), "w", encoding="utf-8", newline="\n") as file:
            written: set[Entity] = set()
            for number, entity in enumerate(document.entities, 1):
                label = labels.name(entity.label, "_".join(entity.label.split()) or "_", document)
                whole = replace(entity, fragments=_joined(entity.fragments, text))
                fragments = _divided(entity.fragments, text)
                if not fragments:
                    losses.drop("mentions of white space alone", document, entity)
                    continue
                if whole != entity and (whole in document.entities or whole in written):
                    losses.drop("mentions that are read as another one is", document, entity)
                    continue
                if whole != entity:
                    losses.add("fragments of two lines, which are read in one piece", document)
                written.add(whole)
                offsets = ";".join(
                    f"{start + len(mark)} {end + len(mark)}" for start, end in fragments
                )
                surface = " ".join(text[start:end] for start, end in fragments)
                file.write(f"T{number}\t{label} {offsets}\t{surface}\n")
                if entity in document.confidences:
                    note = f"confidence {document.confidences[entity]}"
                    file.write(f"#{number}\tAnnotatorNotes T{number}\t{note}\n")
