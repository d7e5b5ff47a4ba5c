"""Corpora in and out: a path to documents, and documents to a path.

A reader yields a `Document` for each good record and an `InputError` for each broken one, so that
one bad record never loses the others. What it repairs or skips is logged to
`constrained_ner.corpora`, with file and line. A writer counts what its format cannot hold.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from typing import Any, TypeVar

from constrained_ner.atomic import check_new_folder, check_writable, whole, whole_folder
from constrained_ner.corpora import (
    bc2gm,
    bigbio,
    bioc,
    bionlp,
    brat,
    chemdner,
    conll,
    docbin,
    doccano,
    entity_table,
    genia,
    hf_datasets,
    inception,
    jsonl,
    knowtator,
    label_studio,
    omop,
    parquet,
    prodigy,
    pubtator,
    text,
    text_table,
)
from constrained_ner.corpora.conversion_losses import ConversionLosses
from constrained_ner.corpora.files import BOM, LOGGER, WHERE, File, FileSet, opened
from constrained_ner.corpora.hf_datasets import to_dataset
from constrained_ner.documents import Document
from constrained_ner.errors import InputError

__all__ = [
    "COLUMN_FORMATS",
    "INPUT_FORMATS",
    "OUTPUT_FORMATS",
    "ConversionLosses",
    "check_output",
    "corpus_name",
    "detect_format",
    "detect_output_format",
    "labels_of",
    "read",
    "readable",
    "to_dataset",
    "write",
]

Records = Iterator[Document | InputError]
T = TypeVar("T")


def _check_options(name: str, given: Iterable[str], known: tuple[str, ...]) -> None:
    unknown = set(given) - set(known)
    if unknown:
        raise InputError(f"the format {name} has no option {', '.join(sorted(unknown))}")


# ---- reading ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileFormat:
    """A format that is read file by file: each one of a folder or an archive by itself.

    Attributes
    ----------
    options: names of the keyword arguments that `read` takes.
    accepts: which files of a folder are read where the format is named: by default those that it
        recognises.
    """

    recognises: Callable[[File], bool]
    read: Callable[..., Records]
    options: tuple[str, ...] = ()
    accepts: Callable[[File], bool] | None = None


@dataclass(frozen=True)
class FileSetFormat:
    """A format in which a document comes out of several files."""

    recognises: Callable[[FileSet], bool]
    read: Callable[[FileSet], Records]


# The first one that recognises a path reads it.
INPUT_FORMATS: dict[str, FileFormat | FileSetFormat] = {
    "cadec": FileSetFormat(brat.recognises_cadec, brat.read_cadec),
    "brat": FileSetFormat(brat.recognises, brat.read),
    "bionlp": FileSetFormat(bionlp.recognises, bionlp.read),
    "knowtator": FileSetFormat(knowtator.recognises, knowtator.read),
    "datasets": FileSetFormat(hf_datasets.recognises, hf_datasets.read),
    "inception": FileSetFormat(inception.recognises, inception.read),
    "chemdner": FileSetFormat(chemdner.recognises, chemdner.read),
    "bc2gm": FileSetFormat(bc2gm.recognises, bc2gm.read),
    "genia": FileFormat(genia.recognises, genia.read),
    "bioc_xml": FileFormat(bioc.recognises_xml, bioc.read_xml),
    "bioc_json": FileFormat(bioc.recognises_json, bioc.read_json),
    "bigbio": FileFormat(bigbio.recognises, bigbio.read),
    "label_studio": FileFormat(label_studio.recognises, label_studio.read),
    "prodigy": FileFormat(prodigy.recognises, prodigy.read),
    "doccano": FileFormat(doccano.recognises, doccano.read),
    "jsonl": FileFormat(jsonl.recognises, jsonl.read, options=("text_column", "id_column")),
    "pubtator": FileFormat(pubtator.recognises, pubtator.read),
    "table": FileFormat(
        text_table.recognises,
        text_table.read,
        options=("text_column", "id_column"),
        accepts=text_table.is_table,
    ),
    "conll": FileFormat(conll.recognises, conll.read, options=("label",)),
    "nested_iob": FileFormat(conll.recognises_nested, conll.read_nested, options=("label",)),
    "text": FileFormat(lambda file: file.suffix == ".txt", text.read),
    "lines": FileFormat(lambda file: False, text.read_lines, accepts=lambda file: True),
}
# A text of these is its tokens, joined by one space.
COLUMN_FORMATS = ("conll", "nested_iob")


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
    # A README.txt is no corpus; and of nested tags some files may need one layer only.
    if len(examples) > 1:
        examples.pop("text", None)
    if "nested_iob" in examples:
        examples.pop("conll", None)
    names = ", ".join(sorted(INPUT_FORMATS))
    if not file_set.files:
        raise InputError("holds no files: expected documents", file_set.path)
    # A table whose columns have other names is one all the same, and says what it expects.
    if not examples and file_set.is_file and text_table.is_unmistakable(*file_set.files.values()):
        return "table"
    if not examples:
        raise InputError(
            f"format not recognised: name one with --input-format, {WHERE}: {names}",
            file_set.path,
        )
    if len(examples) > 1:
        several = ", ".join(f"{name} ({file})" for name, file in examples.items())
        reason = f"holds files of several formats, {several}: name one with --input-format, {WHERE}"
        raise InputError(reason, file_set.path)
    (found,) = examples
    if found == "text":
        _warn_of_unknown_annotations(file_set)
    return found


def _warn_of_unknown_annotations(file_set: FileSet) -> None:
    """Texts beside files of their names may be annotated in a format that is not known."""
    texts = {file.path.stem: file for file in file_set.files.values() if file.suffix == ".txt"}
    for file in file_set.files.values():
        text = texts.get(file.path.stem)
        if text and file.suffix != ".txt":
            LOGGER.warning(
                "%s: read as plain texts without annotations: the format of %s, which belongs to "
                "%s by its name, is not known",
                file_set.path,
                file.name,
                text.name,
            )
            return


def corpus_name(path: Path) -> str:
    """What a corpus is called: its file, or the folder of a file that is one of its splits."""
    path = Path(os.path.abspath(path))  # of the folder `.`, too
    return path.parent.name if path.stem in ("train", "dev", "test") else path.stem


def readable(records: Iterable[T | InputError], broken: list[InputError]) -> Iterator[T]:
    """Those that could be read; the others are added to `broken`."""
    for record in records:
        if isinstance(record, InputError):
            broken.append(record)
        else:
            yield record


def labels_of(documents: Iterable[Document], path: Path) -> list[str]:
    """Those of the entities of annotated documents.

    Raises
    ------
    InputError: no document has an entity.
    """
    labels = sorted({entity.label for document in documents for entity in document.entities})
    if not labels:
        raise InputError("no document has an entity: expected annotated documents", path)
    return labels


def detect_format(path: str | Path, encoding: str | None = None) -> str:
    """The name of the format of a file, folder or archive, from its names and first lines.

    Parameters
    ----------
    encoding: of the texts; by default UTF-8.

    Raises
    ------
    InputError: the path is missing, is of no known format, or holds files of several.
    """
    with opened(path, encoding) as file_set:
        return _detect(file_set)


def read(
    path: str | Path,
    input_format: str | None = None,
    *,
    encoding: str | None = None,
    **options: str,
) -> Records:
    """The documents of a file, folder or archive; an `InputError` in place of a broken record.

    Ids are those of the files. Where one comes twice, a warning is logged and both are read.

    Parameters
    ----------
    input_format: a key of `INPUT_FORMATS`; by default it is recognised.
    encoding: of the texts; by default UTF-8. Offsets that count bytes are those of UTF-8.
    options: `label` of the column formats, see `conll.read`; `text_column` and `id_column` of
        tables and of JSON lines, see `text_table.read`.

    Raises
    ------
    InputError: when the first document is asked for: the path is missing, the whole file cannot
        be read, or the format is unknown or has no such option.
    """
    if input_format is not None and input_format not in INPUT_FORMATS:
        names = ", ".join(sorted(INPUT_FORMATS))
        raise InputError(f"unknown input format {input_format!r}: there are {names}", path)
    seen: set[str] = set()
    again: list[str] = []
    try:
        with opened(path, encoding) as file_set:
            for record in records_of(file_set, input_format or _detect(file_set), **options):
                if isinstance(record, Document):
                    if record.id in seen:
                        again.append(record.id)
                    seen.add(record.id)
                yield record
    finally:  # also when the caller stops early
        if again:
            LOGGER.warning("%s: %d ids come again, %r the first", path, len(again), again[0])


def records_of(file_set: FileSet, name: str, **options: str) -> Records:
    """What the files of a file set hold, read in the format of this name."""
    format = INPUT_FORMATS[name]
    known = format.options if isinstance(format, FileFormat) else ()
    _check_options(name, options, known)
    if isinstance(format, FileSetFormat):
        _note_other_formats(file_set)
        yield from format.read(file_set)
        return
    files = list(file_set.files.values())
    if file_set.is_file:
        yield from format.read(files[0], **options)
        return
    files = list(filter(format.accepts or format.recognises, files))
    if not files:
        raise InputError(f"holds no file of the format {name}", file_set.path)
    names = {file.name for file in files}
    passed = [name for name in file_set.files if name not in names]
    if passed:
        LOGGER.info(
            "%s: %d other files passed over, %s the first", file_set.path, len(passed), passed[0]
        )
    for file in files:
        try:
            yield from format.read(file, **options)
        except InputError as error:  # one broken file does not lose the others
            yield error


def _note_other_formats(file_set: FileSet) -> None:
    """Log which files of a folder are corpora by themselves, beside one of several files."""
    formats = {file.name: file_format(file) for file in file_set.files.values()}
    others = [f"{file} ({name})" for file, name in formats.items() if name not in (None, "text")]
    if others:
        LOGGER.info(
            "%s: %d files of other formats passed over, %s the first",
            file_set.path,
            len(others),
            others[0],
        )


# ---- writing ------------------------------------------------------------------------------------

Write = Callable[..., None]


@dataclass(frozen=True)
class OutputFormat:
    """How a format is written, and the suffixes that ask for it; without any it has to be named.

    Attributes
    ----------
    binary: `write` is given the path; else it is given a text file that is open. `folder`: it is
        given that of a new folder.
    options: names of the keyword arguments that `write` takes.
    holds: which of `confidences`, `sections` and `meta` of documents it has a place for.
    check: raises what is known to be wrong before there are documents to write.
    """

    suffixes: tuple[str, ...]
    write: Write
    binary: bool = False
    folder: bool = False
    options: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    check: Callable[[Path], None] = check_writable


def _checked(
    check_installed: Callable[[], None], then: Callable[[Path], None] = check_writable
) -> Callable[[Path], None]:
    """The check of a format that needs a package."""

    def check(path: Path) -> None:
        check_installed()
        then(path)

    return check


OUTPUT_FORMATS: dict[str, OutputFormat] = {
    "jsonl": OutputFormat(
        (".jsonl", ".ndjson"), jsonl.write, holds=("confidences", "sections", "meta")
    ),
    "label_studio": OutputFormat(
        (".labelstudio.json",), label_studio.write, holds=("confidences", "meta")
    ),
    "prodigy": OutputFormat((".prodigy.jsonl",), prodigy.write, holds=("confidences", "meta")),
    "doccano": OutputFormat((".doccano.jsonl",), doccano.write, holds=("meta",)),
    "brat": OutputFormat(
        ("",), brat.write, folder=True, holds=("confidences",), check=check_new_folder
    ),
    "inception": OutputFormat(
        (".inception",),
        inception.write,
        folder=True,
        check=_checked(inception.check_installed, check_new_folder),
    ),
    "datasets": OutputFormat(
        (".dataset",),
        hf_datasets.write,
        folder=True,
        holds=("confidences", "meta"),
        check=_checked(hf_datasets.check_installed, check_new_folder),
    ),
    "conll": OutputFormat((".conll", ".iob2", ".bio"), conll.write, options=("words", "sentences")),
    "nested_iob": OutputFormat(
        (".nested", ".iob"), conll.write_nested, options=("words", "sentences")
    ),
    "pubtator": OutputFormat((".pubtator", ".pubtator.txt"), pubtator.write),
    "bioc_xml": OutputFormat((".xml",), bioc.write_xml, holds=("confidences",)),
    "bioc_json": OutputFormat((".json",), bioc.write_json, holds=("confidences",)),
    "docbin": OutputFormat(
        (".spacy",),
        docbin.write,
        binary=True,
        holds=("confidences",),
        check=_checked(docbin.check_installed),
    ),
    "csv": OutputFormat((".csv",), entity_table.write_csv, holds=entity_table.HOLDS),
    "tsv": OutputFormat((".tsv",), entity_table.write_tsv, holds=entity_table.HOLDS),
    "parquet": OutputFormat(
        (parquet.SUFFIX,),
        entity_table.write_parquet,
        binary=True,
        holds=entity_table.HOLDS,
        check=_checked(parquet.check_installed),
    ),
    "omop": OutputFormat((), omop.write, holds=("confidences",)),
}


def detect_output_format(path: str | Path) -> str:
    """The format that a path's longest suffix asks for; a folder, without suffix, is brat.

    Raises
    ------
    InputError: the suffix is that of no format.
    """
    suffixes = Path(str(path).lower()).suffixes
    for suffix in ("".join(suffixes[-2:]), "".join(suffixes[-1:])):
        for name, format in OUTPUT_FORMATS.items():
            if suffix in format.suffixes:
                return name
    known = "; ".join(
        f"{name}: {' '.join(filter(None, format.suffixes)) or 'no suffix'}"
        for name, format in OUTPUT_FORMATS.items()
        if format.suffixes
    )
    raise InputError(f"no output format has this suffix: expected one of {known}", path)


def check_output(path: str | Path, output_format: str) -> None:
    """See that documents can be written here, as far as it is known without them.

    Raises
    ------
    InputError: the path cannot be written.
    MissingExtraError: the format needs a package that is not installed.
    """
    OUTPUT_FORMATS[output_format].check(Path(path))


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
    options: `words` and `sentences` of the column formats: see `conll.write`.

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
    _check_options(name, options, format.options)
    check_output(path, name)
    losses = ConversionLosses()
    counted = losses.counting(documents, format.holds)
    try:
        if format.folder:
            with whole_folder(path) as part:
                format.write(counted, part, losses)
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
    """UTF-8. A first byte order mark is written twice, since readers drop one.

    A lone surrogate (in an id) is written as JSON escapes it: a backslash, `u`, four digits.
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
