"""Corpora in and out: a path to documents, and documents to a path.

A reader yields a `Document` for each good record and an `InputError` for each broken one, so that
one bad record never loses the others. Oddities that it can repair or skip go to the logger
`constrained_ner.corpora`, with file and line. A writer counts what its format cannot hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from typing import Any

from constrained_ner.atomic import whole
from constrained_ner.corpora import (
    bc2gm,
    bigbio,
    bioc,
    brat,
    chemdner,
    conll,
    docbin,
    genia,
    jsonl,
    pubtator,
    text,
)
from constrained_ner.corpora.conversion_losses import ConversionLosses
from constrained_ner.corpora.files import BOM, LOGGER, File, FileSet, opened
from constrained_ner.documents import Document
from constrained_ner.errors import InputError

__all__ = [
    "INPUT_FORMATS",
    "OUTPUT_FORMATS",
    "ConversionLosses",
    "detect_format",
    "detect_output_format",
    "read",
    "write",
]

Records = Iterator[Document | InputError]


# ---- reading ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileFormat:
    """A format that is read file by file: each one of a folder or an archive by itself."""

    recognises: Callable[[File], bool]
    read: Callable[[File], Records]


@dataclass(frozen=True)
class FileSetFormat:
    """A format in which a document comes out of several files."""

    recognises: Callable[[FileSet], bool]
    read: Callable[[FileSet], Records]


def _is_jsonl(file: File) -> bool:
    if file.suffix == ".json":  # a file that is one JSON value over many lines is something else
        first = next(iter(file.head_lines), "").strip()
        return first != "{" and first[:1] != "["
    return file.suffix in (".jsonl", ".ndjson")


# The first one that recognises a path reads it.
INPUT_FORMATS: dict[str, FileFormat | FileSetFormat] = {
    "cadec": FileSetFormat(brat.recognises_cadec, brat.read_cadec),
    "brat": FileSetFormat(brat.recognises, brat.read),
    "chemdner": FileSetFormat(chemdner.recognises, chemdner.read),
    "bc2gm": FileSetFormat(bc2gm.recognises, bc2gm.read),
    "genia": FileFormat(genia.recognises, genia.read),
    "bioc_xml": FileFormat(bioc.recognises_xml, bioc.read_xml),
    "bioc_json": FileFormat(bioc.recognises_json, bioc.read_json),
    "bigbio": FileFormat(bigbio.recognises, bigbio.read),
    "jsonl": FileFormat(_is_jsonl, jsonl.read),
    "pubtator": FileFormat(pubtator.recognises, pubtator.read),
    "conll": FileFormat(conll.recognises, conll.read),
    "nested_iob": FileFormat(conll.recognises_nested, conll.read_nested),
    "text": FileFormat(lambda file: file.suffix == ".txt", text.read),
    "lines": FileFormat(lambda file: False, text.read_lines),
}


def file_format(file: File) -> str | None:
    """The format of a file that is read by itself; None where no format recognises it."""
    formats = ((n, f) for n, f in INPUT_FORMATS.items() if isinstance(f, FileFormat))
    return next((name for name, format in formats if format.recognises(file)), None)


def _detect(file_set: FileSet) -> str:
    for name, format in INPUT_FORMATS.items():
        if isinstance(format, FileSetFormat) and format.recognises(file_set):
            return name
    examples: dict[str, str] = {}
    for file in file_set.files.values():
        found = file_format(file)
        if found:
            examples.setdefault(found, file.name)
    # what stands beside a corpus (a README.txt), and layers of which some files have only one
    if len(examples) > 1:
        examples.pop("text", None)
    if "nested_iob" in examples:
        examples.pop("conll", None)
    names = ", ".join(sorted(INPUT_FORMATS))
    if not examples:
        raise InputError(f"format not recognised: name one of {names}", file_set.path)
    if len(examples) > 1:
        several = ", ".join(f"{name} ({file})" for name, file in examples.items())
        raise InputError(f"holds files of several formats, {several}: name one", file_set.path)
    return next(iter(examples))


def detect_format(path: str | Path) -> str:
    """The name of the format of a file, folder or archive, from its names and first lines.

    Raises
    ------
    InputError: the path is missing, is of no known format, or holds files of several.
    """
    with opened(path) as file_set:
        return _detect(file_set)


def read(path: str | Path, input_format: str | None = None) -> Records:
    """The documents of a file, folder or archive; an `InputError` in place of a broken record.

    Ids are those of the files. Where one comes twice, a warning is logged and both are read.

    Parameters
    ----------
    input_format: a key of `INPUT_FORMATS`; by default it is recognised.

    Raises
    ------
    InputError: with the first document: the path is missing, the whole file cannot be read, or
        the format is unknown.
    """
    if input_format is not None and input_format not in INPUT_FORMATS:
        names = ", ".join(sorted(INPUT_FORMATS))
        raise InputError(f"unknown input format {input_format!r}: there are {names}", path)
    seen: set[str] = set()
    again: list[str] = []
    try:
        with opened(path) as file_set:
            for record in records_of(file_set, input_format or _detect(file_set)):
                if isinstance(record, Document):
                    if record.id in seen:
                        again.append(record.id)
                    seen.add(record.id)
                yield record
    finally:  # also when the caller stops early
        if again:
            LOGGER.warning("%s: %d ids come again, %r the first", path, len(again), again[0])


def records_of(file_set: FileSet, name: str) -> Records:
    """What the files of a file set hold, read in the format of this name."""
    format = INPUT_FORMATS[name]
    if isinstance(format, FileSetFormat):
        yield from format.read(file_set)
        return
    files = list(file_set.files.values())
    if file_set.is_file:
        yield from format.read(files[0])
        return
    files = [file for file in files if format.recognises(file) or name == "lines"]
    if not files:
        raise InputError(f"holds no file of the format {name}", file_set.path)
    if len(files) < len(file_set.files):
        passed = len(file_set.files) - len(files)
        LOGGER.info("%s: %d other files passed over", file_set.path, passed)
    for file in files:
        try:
            yield from format.read(file)
        except InputError as error:  # one broken file does not lose the others
            yield error


# ---- writing ------------------------------------------------------------------------------------

Write = Callable[..., None]


@dataclass(frozen=True)
class OutputFormat:
    """How a format is written, and the suffixes that ask for it.

    Attributes
    ----------
    binary: `write` takes the path, else an open text file.
    options: names of the keyword arguments that `write` takes.
    """

    suffixes: tuple[str, ...]
    write: Write
    binary: bool = False
    options: tuple[str, ...] = ()


OUTPUT_FORMATS: dict[str, OutputFormat] = {
    "jsonl": OutputFormat((".jsonl", ".ndjson"), jsonl.write),
    "brat": OutputFormat(("",), brat.write, binary=True),
    "conll": OutputFormat((".conll", ".tsv", ".iob2", ".bio"), conll.write, options=("words",)),
    "nested_iob": OutputFormat((".nested", ".iob"), conll.write_nested, options=("words",)),
    "pubtator": OutputFormat((".pubtator",), pubtator.write),
    "bioc_xml": OutputFormat((".xml",), bioc.write_xml),
    "bioc_json": OutputFormat((".json",), bioc.write_json),
    "docbin": OutputFormat((".spacy",), docbin.write, binary=True),
}


def detect_output_format(path: str | Path) -> str:
    """The format that a path's suffix asks for; a folder, without suffix, is brat.

    Raises
    ------
    InputError: the suffix is that of no format.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".txt" and Path(path).stem.lower().endswith(".pubtator"):
        return "pubtator"
    for name, format in OUTPUT_FORMATS.items():
        if suffix in format.suffixes:
            return name
    known = ", ".join(f"{', '.join(f.suffixes)} {name}" for name, f in OUTPUT_FORMATS.items())
    raise InputError(f"no output format has this suffix; there are{known}", path)


def write(
    documents: Iterable[Document],
    path: str | Path,
    output_format: str | None = None,
    **options: Any,
) -> ConversionLosses:
    """Write documents as they come; a file appears under its name when it is complete.

    Parameters
    ----------
    output_format: a key of `OUTPUT_FORMATS`; by default it follows from the suffix of the path.
    options: `words` of the column formats: see `conll.write`.

    Returns
    -------
    What the format could not hold.

    Raises
    ------
    InputError: the path cannot be written, or the format is unknown.
    MissingExtraError: the format needs a package that is not installed.
    """
    path = Path(path)
    name = output_format or detect_output_format(path)
    if name not in OUTPUT_FORMATS:
        raise InputError(f"unknown output format {name!r}: there are {', '.join(OUTPUT_FORMATS)}")
    format = OUTPUT_FORMATS[name]
    unknown = set(options) - set(format.options)
    if unknown:
        raise InputError(f"the format {name} has no option {', '.join(sorted(unknown))}")
    losses = ConversionLosses()
    counted = losses.counting(documents)
    try:
        if name == "brat":
            format.write(counted, path, losses)
        else:
            with whole(path) as part:
                if format.binary:
                    format.write(counted, part, losses, **options)
                else:
                    with _Text(part) as file:
                        format.write(counted, file, losses, **options)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot be written: {reason}", error.filename or path) from None
    return losses


class _Text(TextIOWrapper):
    """UTF-8; a byte order mark that the file begins with is written twice, since one is dropped.

    A lone surrogate (in an id) is written as backslash, u, four digits, which is JSON's escape.
    """

    def __init__(self, path: Path):
        file = BufferedWriter(FileIO(path, "w"))
        super().__init__(file, encoding="utf-8", errors="backslashreplace", newline="\n")
        self.begun = False

    def write(self, text: str) -> int:
        if not self.begun and text.startswith(BOM):
            super().write(BOM)
        self.begun = self.begun or bool(text)
        return super().write(text)
