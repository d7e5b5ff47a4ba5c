"""A corpus of the catalogue from the copy that somebody has: splits, labels, a check of the counts.

Splits are found by the names of files, folders and archives; for corpora that come in one piece
they are cut out of it. Where a copy holds a split more than once (in several formats, say), the
one is taken whose counts are nearest to the published ones.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from constrained_ner.atomic import write_json
from constrained_ner.corpora import (
    INPUT_FORMATS,
    FileSetFormat,
    file_format,
    records_of,
    write,
)
from constrained_ner.corpora.catalogue import SEED, SPLITS, Download, PublishedCorpus
from constrained_ner.corpora.download import download
from constrained_ner.corpora.files import LOGGER, File, FileSet, is_archive, opened, sha256_of
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError

# `NCBItrainset`, `CDR_TrainingSet`, `devel.tsv`; not `latest`, `device`. CHEMDNER calls its test
# split `evaluation`.
_SPLIT = re.compile(
    r"(?:(?<![A-Za-z])|(?=[A-Z][a-z])|(?<=[A-Z])(?=[a-z]))"
    r"(?i:(?P<train>train(?:ing)?)|(?P<dev>dev(?:el(?:op(?:ment)?)?)?|valid(?:ation)?)"
    r"|(?P<test>test(?:ing)?|evaluation))"
    r"(?i:[ _-]?set)?(?![a-z])"
)
_LINE = re.compile(r"[^\r\n]+")
_NOT_DATA = ("LICENSE", "LICENCE", "README")
_NO_ANNOTATIONS = ("text", "lines")


@dataclass(frozen=True)
class SplitAsRead:
    """One split as it was read.

    Attributes
    ----------
    origin: the file, folder or archive that it comes from, below the path that was given.
    files: the names of the files on disk that it was read from; an empty name is the given path.
    family: its folder and its format; the three splits of one copy have the same.
    cut: how it was cut out of the whole corpus, as in `PublishedCorpus`; None where the copy comes
        in splits.
    remarks: what was left out in reading. `log`: what the reader logged.
    """

    name: str
    origin: str
    format: str
    files: tuple[str, ...]
    family: tuple[str, str]
    records: tuple[Document | InputError, ...]
    cut: str | None = None
    remarks: tuple[str, ...] = ()
    log: tuple[logging.LogRecord, ...] = ()

    @cached_property
    def documents(self) -> list[Document]:
        return [record for record in self.records if isinstance(record, Document)]

    @property
    def broken(self) -> list[InputError]:
        return [record for record in self.records if isinstance(record, InputError)]

    @cached_property
    def mentions(self) -> Counter[str]:
        """By label."""
        return Counter(entity.label for document in self.documents for entity in document.entities)


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did.

    Attributes
    ----------
    splits: train, dev and test.
    seed: of the draw, where there was one.
    differences: from the published counts and labels, and what was left out.
    """

    corpus: PublishedCorpus
    splits: tuple[SplitAsRead, ...]
    seed: int | None
    differences: tuple[str, ...]


def written_files(folder: Path) -> list[Path]:
    """What `prepare` writes into a folder."""
    return [folder / name for name in (*(f"{split}.jsonl" for split in SPLITS), "corpus.json")]


def prepare(corpus: PublishedCorpus, path: Path, folder: Path, seed: int = SEED) -> Prepared:
    """Write train.jsonl, dev.jsonl, test.jsonl and corpus.json into `folder`.

    Parameters
    ----------
    path: a file, folder or archive.
    seed: of the random draw, for the corpora that need one.

    Raises
    ------
    InputError: the path cannot be read, a split is missing, most mentions are of other labels
        than the corpus has, or `folder` lies in `path`.
    """
    if folder.resolve().is_relative_to(path.resolve()):
        raise InputError(f"lies in {path}, which is read: expected another folder", folder)
    splits = _chosen(corpus, path, list(_candidates(corpus, path, seed)))
    _check_labels(corpus, splits, path)
    for record in dict.fromkeys(record for split in splits for record in split.log):
        LOGGER.handle(record)
    drawn = any(split.cut == "random" for split in splits)
    prepared = Prepared(
        corpus, splits, seed if drawn else None, tuple(_differences(corpus, splits))
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for split in splits:
            write(split.documents, folder / f"{split.name}.jsonl", "jsonl")
        write_json(_report(prepared, path), folder / "corpus.json")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", folder) from None
    return prepared


def fetch(
    corpus: PublishedCorpus,
    folder: Path,
    progress: Callable[[Download, int], None] = lambda file, done: None,
) -> None:
    """Download the files of a corpus into `folder`, those that are not there yet.

    Parameters
    ----------
    progress: is called with a file and the number of its bytes that have come.

    Raises
    ------
    InputError: the corpus is not fetched (the message says where to ask), or a download fails.
    """
    if not corpus.downloads:
        raise InputError(f"{corpus.name} is {corpus.origin.rstrip('.')}: {corpus.source}")
    for file in corpus.downloads:
        download(file.url, folder / file.name, file.sha256, file.bytes, partial(progress, file))


# ---- finding the splits -------------------------------------------------------------------------


def _named(parts: Sequence[str]) -> tuple[str | None, int]:
    """The split that a path names, and the index of the first of its parts that does.

    The last part decides: `training_data/dev/a.txt` is dev. A part that names several
    (`train_dev.tsv`) is passed over.
    """
    found: list[tuple[str, int]] = []
    for index, part in enumerate(parts):
        names = {match.lastgroup for match in _SPLIT.finditer(part)}
        found += [(name, index) for name in names if name and len(names) == 1]
    if not found:
        return None, 0
    last = found[-1][0]
    return last, next(index for name, index in found if name == last)


def _file_sets(path: Path) -> Iterator[tuple[str, FileSet]]:
    """The loose files of `path`, under an empty name, and each archive in it under its own."""
    with opened(path) as file_set:
        archives = [name for name in file_set.files if path.is_dir() and is_archive(name)]
        loose = {name: file for name, file in file_set.files.items() if name not in archives}
        yield "", FileSet(path, loose, file_set.beside)
    for name in archives:
        try:
            with opened(path / name) as inner:
                yield name, inner
        except InputError as error:  # it may not be part of the corpus
            LOGGER.warning("%s", error)


# By name: the file, and the part of its path that names the split.
_Group = Mapping[str, tuple[File, str]]


def _candidates(corpus: PublishedCorpus, path: Path, seed: int) -> Iterator[SplitAsRead]:
    """Every split that can be made of what is there."""
    for archive, file_set in _file_sets(path):
        packed = (archive,) if archive or not path.is_dir() else ()  # one file on disk holds all
        groups: dict[tuple[str | None, str], dict[str, tuple[File, str]]] = defaultdict(dict)
        for name, file in file_set.files.items():
            if file.path.stem.upper() not in _NOT_DATA:
                parts = (*PurePosixPath(archive).parts, *file.path.parts)
                split, index = _named(parts)
                part = parts[index] if split else ""
                groups[split, "/".join(parts[:index])][name] = file, part
        dev_ids = _dev_ids(groups)
        for (split, folder), group in groups.items():
            if split is None and corpus.cut is None:
                continue
            for format, files in _by_format(file_set, group):
                name, (_, part) = next(iter(files.items()))
                whole = archive or (name if len(files) == 1 else "")
                read = _read(
                    corpus,
                    FileSet(
                        path, {name: file for name, (file, _) in files.items()}, file_set.beside
                    ),
                    SplitAsRead(
                        name=split or "",
                        origin=(str(PurePosixPath(folder, part)) if split else whole) or path.name,
                        format=format,
                        files=packed or tuple(files),
                        family=(folder if split else whole, format),
                        records=(),
                    ),
                )
                if split is None:
                    yield from _cut(corpus, read, seed)
                elif split == "train" and dev_ids:
                    for found in _dev_cut_out(read, dev_ids):
                        yield replace(found, files=packed or found.files)
                else:
                    yield read


def _by_format(file_set: FileSet, files: _Group) -> Iterator[tuple[str, _Group]]:
    """Files that are read together, with their format; those without annotations are left out."""
    whole = FileSet(
        file_set.path, {name: file for name, (file, _) in files.items()}, file_set.beside
    )
    for name, format in INPUT_FORMATS.items():
        if isinstance(format, FileSetFormat) and format.recognises(whole):
            yield name, files
            return
    found: dict[tuple[str, str], dict[str, tuple[File, str]]] = defaultdict(dict)
    for name, (file, part) in files.items():
        one = file_format(file)
        if one and one not in _NO_ANNOTATIONS:
            found[one, part][name] = file, part
    for (one, _), some in found.items():
        yield one, some


def _dev_ids(groups: Mapping[tuple[str | None, str], _Group]) -> dict[str, str]:
    """The ids of the dev split that a file such as `devel.ids` lists, with the file's name."""
    return {
        line.split()[0]: name
        for (split, _), files in groups.items()
        for name, (file, _) in files.items()
        if split == "dev" and file.suffix == ".ids"
        for _, line in file.lines()
        if isinstance(line, str) and line.strip()
    }


def _dev_cut_out(train: SplitAsRead, dev_ids: Mapping[str, str]) -> Iterator[SplitAsRead]:
    """The train and the dev split out of a training split that holds both."""
    dev = [record for record in train.documents if record.id in dev_ids]
    if not dev:
        yield train
        return
    rest = [r for r in train.records if isinstance(r, InputError) or r.id not in dev_ids]
    files = tuple(dict.fromkeys((*train.files, *(dev_ids[document.id] for document in dev))))
    yield replace(train, records=tuple(rest), files=files)
    yield replace(train, name="dev", records=tuple(dev), files=files)


def _cut(corpus: PublishedCorpus, whole: SplitAsRead, seed: int) -> Iterator[SplitAsRead]:
    """The splits of a corpus that comes in one piece."""
    records = list(whole.records)
    sizes = corpus.sentences
    if corpus.cut == "random":
        order = sorted(whole.documents, key=lambda d: (_draw(d.id, seed), d.id, d.text))
        train = len(order) * 7 // 10
        dev = (len(order) - train) // 2
        sizes = (train, dev, len(order) - train - dev)
        records = [*order, *whole.broken]
    start = 0
    for name, size in zip(SPLITS, sizes, strict=True):
        end = len(records) if name == SPLITS[-1] else start + size
        part = records[start:end]
        if corpus.cut == "random":
            part.sort(key=lambda r: r.id if isinstance(r, Document) else "")
        yield replace(whole, name=name, records=tuple(part), cut=corpus.cut)
        start = end


def _draw(id: str, seed: int) -> bytes:
    """What a document is ordered by: no version of Python, platform or folder changes it."""
    return hashlib.sha256(f"{seed}/{PurePosixPath(id).name}".encode(errors="replace")).digest()


def _chosen(
    corpus: PublishedCorpus, path: Path, candidates: Sequence[SplitAsRead]
) -> tuple[SplitAsRead, ...]:
    """For each split the candidate that is nearest to the published one.

    Nearest in the number of sentences; then of the copy whose three splits are nearest together,
    in sentences and in mentions, so that of two that are as near all come from one; then in the
    number of mentions.
    """

    def off(split: SplitAsRead) -> tuple[int, int]:
        index = SPLITS.index(split.name)
        documents = abs(len(split.documents) - corpus.sentences[index])
        if len(corpus.mentions) < len(SPLITS):
            return documents, 0
        return documents, abs(split.mentions.total() - corpus.mentions[index])

    families: dict[tuple[str, str], dict[str, tuple[int, int]]] = defaultdict(dict)
    for split in candidates:
        best = families[split.family]
        best[split.name] = min(off(split), best.get(split.name, (sys.maxsize, 0)))

    def rank(split: SplitAsRead) -> tuple[int, tuple[int, ...], tuple[str, str], int, str]:
        family = families[split.family].values()
        whole = len(family) == len(SPLITS)
        together = tuple(map(sum, zip(*family, strict=True))) if whole else (sys.maxsize,)
        return off(split)[0], together, split.family, off(split)[1], split.origin

    found = {
        name: min((s for s in candidates if s.name == name and s.documents), key=rank, default=None)
        for name in SPLITS
    }
    chosen = [split for split in found.values() if split]
    if len(chosen) < len(SPLITS):
        missing = ", ".join(name for name, split in found.items() if not split)
        others = ", ".join(f"{split.name} ({split.origin})" for split in chosen) or "none"
        broken = [str(error) for split in candidates for error in split.broken]
        expected = "files, folders or archives named train, dev (or devel, development) and test"
        if corpus.cut:
            expected += f", or the whole corpus of {sum(corpus.sentences)} sentences"
        raise InputError(
            f"no split {missing} of {corpus.name}: expected {expected}; found: {others}"
            + (f"; {len(broken)} broken records, the first {broken[0]}" if broken else ""),
            path,
        )
    return tuple(chosen)


# ---- reading ------------------------------------------------------------------------------------


@contextmanager
def _held_back() -> Iterator[list[logging.LogRecord]]:
    """What the readers log, so that only what is said of the chosen files is passed on."""
    held: list[logging.LogRecord] = []

    def hold(record: logging.LogRecord) -> bool:
        held.append(record)
        return False

    LOGGER.addFilter(hold)
    try:
        yield held
    finally:
        LOGGER.removeFilter(hold)


def _read(corpus: PublishedCorpus, file_set: FileSet, split: SplitAsRead) -> SplitAsRead:
    """The split with its records: their labels are the paper's, and posts are cut into lines."""
    merged = {old: new for new, olds in corpus.merged.items() for old in olds}
    records: list[Document | InputError] = []
    dropped: Counter[str] = Counter()
    with _held_back() as log:
        try:
            for record in records_of(file_set, split.format):
                if isinstance(record, InputError):
                    records.append(record)
                    continue
                document = _with_labels(record, merged, dropped)
                if corpus.by_line and split.format in ("cadec", "brat"):
                    records += _lines(document, dropped)
                else:
                    records.append(document)
        except InputError as error:
            records.append(error)
    remarks = tuple(f"{n} {what}" for what, n in dropped.items() if n)
    return replace(split, records=tuple(records), remarks=remarks, log=tuple(log))


def _with_labels(document: Document, merged: Mapping[str, str], dropped: Counter[str]) -> Document:
    entities = document.entities
    if not any(entity.label in merged for entity in entities):
        return document
    renamed = tuple(Entity(merged.get(e.label, e.label), e.fragments) for e in entities)
    document = replace(document, entities=renamed)
    same = len(renamed) - len(document.entities)
    dropped["mentions that say the same as another one once the labels are merged"] += same
    return document


def _lines(document: Document, dropped: Counter[str]) -> Iterator[Document]:
    """The lines that are not blank, each a document `ID:N` (N from 1) without space around it."""
    left = set(document.entities)
    number = 0
    for match in _LINE.finditer(document.text):
        text = match[0].strip()
        if not text:
            continue
        number += 1
        start = match.start() + match[0].index(text)
        inside = [e for e in document.entities if start <= e.start and e.end <= start + len(text)]
        left.difference_update(inside)
        yield Document(
            f"{document.id}:{number}",
            text,
            tuple(
                Entity(e.label, tuple((s - start, t - start) for s, t in e.fragments))
                for e in inside
            ),
        )
    dropped["mentions that cross a line break, left out"] += len(left)


# ---- checking and reporting ---------------------------------------------------------------------


def _check_labels(corpus: PublishedCorpus, splits: Sequence[SplitAsRead], path: Path) -> None:
    """Refuse another corpus: a few mentions of other labels are reported, most are an error."""
    labels = sum((split.mentions for split in splits), Counter[str]())
    known = sum(labels[label] for label in corpus.labels)
    if 2 * known < labels.total() or not labels:
        found = ", ".join(f"{label} ({count})" for label, count in labels.most_common(5)) or "none"
        raise InputError(
            f"does not look like {corpus.name}: expected mentions of the labels "
            f"{', '.join(corpus.labels)}; found: {found}",
            path,
        )


def _differences(corpus: PublishedCorpus, splits: Sequence[SplitAsRead]) -> Iterator[str]:
    for split, sentences in zip(splits, corpus.sentences, strict=True):
        count = len(split.documents)
        if count != sentences:
            yield f"{split.name}: {count} texts; the paper's Table 1 has {sentences} sentences"
        if split.broken:
            yield f"{split.name}: {len(split.broken)} records could not be read"
        ids = Counter(document.id for document in split.documents)
        again = [id for id, n in ids.items() if n > 1]
        if again:
            yield f"{split.name}: {len(again)} ids come again, {again[0]!r} the first"
    counts = [split.mentions.total() for split in splits]
    if len(corpus.mentions) == len(SPLITS):
        names = list(SPLITS)
    else:
        names, counts = ["in all"] * len(corpus.mentions), [sum(counts)] * len(corpus.mentions)
    for name, count, published in zip(names, counts, corpus.mentions, strict=True):
        if count != published:
            yield f"{name}: {count} mentions; the published files have {published}"
    labels = sum((split.mentions for split in splits), Counter[str]())
    for label in sorted(set(labels) - set(corpus.labels)):
        yield f"label {label!r}: {labels[label]} mentions; it is none of the paper's"
    for label in corpus.labels:
        if label not in labels:
            yield f"label {label!r}: no mention"
    yield from dict.fromkeys(remark for split in splits for remark in split.remarks)


def _report(prepared: Prepared, path: Path) -> dict[str, Any]:
    corpus = prepared.corpus
    files = sorted({name for split in prepared.splits for name in split.files})
    return {
        "name": corpus.name,
        "title": corpus.title,
        "licence": corpus.licence,
        "redistribution": corpus.redistribution,
        "source": corpus.source,
        "citation": corpus.citation,
        "labels": corpus.labels,
        "merged": corpus.merged,
        "seed": prepared.seed,
        "splits": {
            split.name: {
                "from": split.origin,
                "format": split.format,
                "cut": split.cut,
                "documents": len(split.documents),
                "mentions": split.mentions.total(),
                "labels": dict(sorted(split.mentions.items())),
                "broken": len(split.broken),
            }
            for split in prepared.splits
        },
        "published": {"sentences": corpus.sentences, "mentions": corpus.mentions},
        "differences": prepared.differences,
        "notes": corpus.notes,
        "files": {name or path.name: sha256_of(path / name if name else path) for name in files},
        "versions": {
            "constrained_ner": version("constrained_ner"),
            "python": platform.python_version(),
        },
    }
