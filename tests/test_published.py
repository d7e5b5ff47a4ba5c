"""The published corpora: every file is read, and the counts are those that are known.

They are read from the folder that the environment variable CNER_CORPORA names.
"""

from __future__ import annotations

import logging
from collections import Counter
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import NamedTuple

import pytest

from constrained_ner.corpora import OUTPUT_FORMATS, detect_format, write
from constrained_ner.documents import Document
from constrained_ner.errors import InputError
from tests.test_corpora import read


def nested(document: Document) -> int:
    """Mentions whose extent lies strictly inside that of another one."""
    extents = [(entity.start, entity.end) for entity in document.entities]
    return sum(
        any(s <= start and end <= e and (s, e) != (start, end) for s, e in extents)
        for start, end in extents
    )


# ---- counts

# Where a file states n mentions and fewer are read, the others are the faults among the warnings,
# or annotations that say the same as another one: `again`.
FILES = [
    # name, format, documents, mentions, nested, discontinuous, stated again, labels
    ("anatem/iob_tsv/train.tsv", "conll", 5861, 6946, 0, 0, 0, 1),
    ("anatem/iob_tsv/devel.tsv", "conll", 2118, 2139, 0, 0, 0, 1),
    ("anatem/iob_tsv/test.tsv", "conll", 3830, 4616, 0, 0, 0, 1),
    ("anatem/original/anatem-1.0.2-conll.tar.gz", "conll", 11809, 13701, 0, 0, 0, 12),
    ("anatem/original/anatem-1.0.2-standoff.tar.gz", "brat", 1212, 13701, 0, 0, 0, 12),
    ("bc2gm/conll/train.tsv", "conll", 12500, 15197, 0, 0, 0, 1),
    ("bc2gm/conll/devel.tsv", "conll", 2500, 3061, 0, 0, 0, 1),
    ("bc2gm/conll/test.tsv", "conll", 5000, 6325, 0, 0, 0, 1),
    # cut into sentences in another way
    ("bc2gm/iob_tsv/devel.tsv", "conll", 2519, 3061, 0, 0, 0, 1),
    # 18,265 and 6,331 rows; of the IOB files' mentions 7 and 6 are missing: those inside another
    ("bc2gm/original/train", "bc2gm", 15000, 18264, 7, 0, 0, 1),
    ("bc2gm/original/train/train.in", "bc2gm", 15000, 18264, 7, 0, 0, 1),
    ("bc2gm/original/test", "bc2gm", 5000, 6331, 6, 0, 0, 1),
    ("bc2gm/original/test/GENE.eval", "bc2gm", 5000, 6331, 6, 0, 0, 1),
    ("bc2gm/original", "bc2gm", 20000, 24595, 13, 0, 0, 1),
    ("bc5cdr/iob_tsv/train.tsv", "conll", 4560, 9385, 0, 0, 0, 2),
    ("bc5cdr/iob_tsv/devel.tsv", "conll", 4581, 9593, 0, 0, 0, 2),
    ("bc5cdr/iob_tsv/test.tsv", "conll", 4797, 9809, 0, 0, 0, 2),
    ("bc5cdr/pubtator/CDR_TrainingSet.PubTator.txt", "pubtator", 500, 9385, 0, 0, 0, 2),
    ("bc5cdr/pubtator/CDR_DevelopmentSet.PubTator.txt", "pubtator", 500, 9591, 0, 0, 0, 2),
    ("bc5cdr/pubtator/CDR_TestSet.PubTator.txt", "pubtator", 500, 9809, 0, 0, 0, 2),
    ("bc5cdr/pubtator", "pubtator", 1500, 28785, 0, 0, 0, 2),
    # 9,570, 9,773 and 9,928 annotations
    ("bc5cdr/bioc_xml/CDR_TrainingSet.BioC.xml", "bioc_xml", 500, 9559, 115, 71, 8, 2),
    ("bc5cdr/bioc_xml/CDR_DevelopmentSet.BioC.xml", "bioc_xml", 500, 9758, 129, 42, 14, 2),
    ("bc5cdr/bioc_xml/CDR_TestSet.BioC.xml", "bioc_xml", 500, 9924, 82, 37, 4, 2),
    # 56,079 mentions of the five labels: 46,185, 4,379 and 5,515
    ("genia/GENIAcorpus3.02.tgz", "genia", 18546, 56046, 5431, 0, 33, 5),
    # The original has 4,379 and 5,515 mentions in these sentences. The files lack 42 and 41 of
    # them: those with the very extent of another mention, and mentions without any mention inside
    # but with a <cons> of no `sem` there. The files hold 4,337 and 5,474 `B-` tags.
    ("genia/nested_iob2/genia.dev.iob2", "nested_iob", 1669, 4337, 373, 0, 0, 5),
    ("genia/nested_iob2/genia.test.iob2", "nested_iob", 1854, 5474, 591, 0, 0, 5),
    ("ncbi_disease/conll/train.tsv", "conll", 5432, 5145, 0, 0, 0, 1),
    ("ncbi_disease/conll4col/dev.txt", "conll", 923, 787, 0, 0, 0, 1),
    ("ncbi_disease/iob_tsv/train.tsv", "conll", 5424, 5134, 0, 0, 0, 1),
    ("ncbi_disease/iob_tsv/devel.tsv", "conll", 923, 787, 0, 0, 0, 1),
    ("ncbi_disease/iob_tsv/test.tsv", "conll", 940, 960, 0, 0, 0, 1),
    ("ncbi_disease/pubtator/NCBItrainset_corpus.txt", "pubtator", 593, 5145, 0, 0, 0, 4),
    ("ncbi_disease/pubtator/NCBIdevelopset_corpus.txt", "pubtator", 100, 787, 0, 0, 0, 4),
    ("ncbi_disease/pubtator/NCBItestset_corpus.txt", "pubtator", 100, 960, 0, 0, 0, 4),
    ("ncbi_disease/ncbi-disease-standoff.tar.gz", "brat", 793, 6892, 0, 0, 0, 4),
    ("pgxcorpus/PGxCorpus.tar", "brat", 945, 6761, 2951, 409, 0, 10),
]

# The faults of the published files: all warnings there are.
WARNINGS = {
    "bc2gm/original/train": ["GENE.eval:1790: skipped GENE: the surface 'translation upstream"],
    "bc2gm/original/train/train.in": ["GENE.eval:1790: skipped GENE: the surface 'translation"],
    "bc2gm/original": ["train/GENE.eval:1790: skipped GENE: the surface 'translation upstream"],
    "bc5cdr/bioc_xml/CDR_TrainingSet.BioC.xml": [
        ".xml:11425: skipped Disease: the surface 'colorectal cancers' is not what 187 197;223 230",
        ".xml:18590: skipped Disease: the surface 'opistothonus dysfunction' is not what 447 459",
        ".xml:53449: skipped Disease: the surface 'midline (MD) defects' is not what 946 966 give",
    ],
    "bc5cdr/bioc_xml/CDR_DevelopmentSet.BioC.xml": [
        ".xml:9919: skipped Disease: the surface 'atypical absence seizures' is not what 247 263",
    ],
    # one article stands in the corpus twice
    "genia/GENIAcorpus3.02.tgz": [".tgz: 11 ids come again, 'MEDLINE:97218353:1' the first"],
    "ncbi_disease/pubtator/NCBItrainset_corpus.txt": [": 1 ids come again, '8528200' the first"],
}


class Corpus(NamedTuple):
    """What was read from a path, and what was logged meanwhile."""

    name: str
    path: Path
    documents: list[Document]
    errors: list[InputError]
    logged: list[logging.LogRecord]

    @property
    def messages(self) -> str:
        return "\n".join(record.getMessage() for record in self.logged)


@pytest.fixture(scope="module")
def corpus(request: pytest.FixtureRequest, published: Path) -> Corpus:
    """The corpus of this name: tests of the same one follow each other, and it is read once."""
    path = published / request.param
    handler, logger = BufferingHandler(10_000), logging.getLogger("constrained_ner")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        return Corpus(request.param, path, *read(path), handler.buffer)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


# The name of a file is the only parameter: with others pytest would not order tests by the corpus.
@pytest.mark.parametrize("corpus", [name for name, *_ in FILES], indirect=True)
def test_counts(corpus: Corpus) -> None:
    expected = {name: rest for name, *rest in FILES}[corpus.name]
    input_format, documents, count, inside, discontinuous, again, kinds = expected
    assert detect_format(corpus.path) == input_format
    found = corpus.documents
    entities = [entity for document in found for entity in document.entities]
    assert corpus.errors == []
    assert len(found) == documents
    assert len(entities) == count
    assert sum(map(nested, found)) == inside
    assert sum(entity.discontinuous for entity in entities) == discontinuous
    assert len({entity.label for entity in entities}) == kinds
    warnings = [r.getMessage() for r in corpus.logged if r.levelno >= logging.WARNING]
    faults = WARNINGS.get(corpus.name, [])
    assert len(warnings) == len(faults)
    assert all(part in warning for part, warning in zip(faults, warnings, strict=True))
    said = f"{again} annotations that say the same as another one"
    assert (said in corpus.messages) if again else ("say the same" not in corpus.messages)


def test_every_file_is_read_or_belongs_to_one(published: Path) -> None:
    named = {name for name, *_ in FILES}
    others = {
        # the alternative boundaries, and the ids of a split
        *("bc2gm/original/train/ALTGENE.eval", "bc2gm/original/test/ALTGENE.eval"),
        *("bc2gm/original/train/GENE.eval", "bc2gm/original/test/test.in"),
        "bc2gm/original/devel.ids",
    }
    words = ("LICENSE", "README", "NOTICE", "SOURCE", "MANIFEST")
    for path in published.rglob("*"):
        name = path.relative_to(published).as_posix()
        if path.is_file() and not any(word in path.name for word in words):
            assert name in named | others, name


@pytest.mark.parametrize("corpus", ["genia/GENIAcorpus3.02.tgz"], indirect=True)
def test_genia_splits_by_document_order(corpus: Corpus) -> None:
    documents = corpus.documents
    parts = documents[:15023], documents[15023:16692], documents[16692:]
    # 46,185, 4,379 and 5,515, but for those of the very extent and label of another one
    counts = [sum(len(document.entities) for document in part) for part in parts]
    assert counts == [46185 - 21, 4379 - 8, 5515 - 4]
    # the share of nested mentions, in per cent
    shares = [100 * sum(map(nested, part)) / n for part, n in zip(parts, counts, strict=True)]
    assert [round(share, 1) for share in shares] == [9.5, 9.6, 11.4]


@pytest.mark.parametrize("corpus", ["pgxcorpus/PGxCorpus.tar"], indirect=True)
def test_pgxcorpus(corpus: Corpus) -> None:
    entities = [entity for document in corpus.documents for entity in document.entities]
    assert sum(len(entity.fragments) == 3 for entity in entities) == 17
    assert "3423 mentions with white space at their edges" in corpus.messages


# ---- one corpus by several routes


def squeezed(documents: list[Document], labels: bool = True) -> Counter[tuple[str, str]]:
    """Mentions by label and surface without white space: columns have lost the white space."""
    return Counter(
        (entity.label if labels else "", "".join(entity.surface(document.text).split()))
        for document in documents
        for entity in document.entities
    )


def test_ncbi_disease_by_three_routes(published: Path) -> None:
    folder = published / "ncbi_disease"
    brat, _ = read(folder / "ncbi-disease-standoff.tar.gz")
    pubtator, _ = read(folder / "pubtator")
    by_id = {document.id.split("/")[-1]: document for document in brat}
    # the article that comes twice has a name of its own in the second place
    seen: set[str] = set()
    for document in pubtator:
        name = f"{document.id}.1" if document.id in seen else document.id
        seen.add(document.id)
        assert by_id.pop(name).text == document.text + "\n"
    assert by_id == {}
    names = ("conll/train.tsv", "iob_tsv/devel.tsv", "iob_tsv/test.tsv")
    columns = [document for name in names for document in read(folder / name)[0]]
    assert squeezed(brat) == squeezed(pubtator)
    # tokens are whole, where two mentions end inside a word
    assert squeezed(columns, False) - squeezed(pubtator, False) == Counter(
        [("", "autosomaldominantdisorder"), ("", "absenceoftheseventhcomponentofcomplement")]
    )
    assert squeezed(pubtator, False) - squeezed(columns, False) == Counter(
        [("", "autosomaldominantdisorde"), ("", "absenceoftheseventhcomponentofcomplemen")]
    )


@pytest.mark.parametrize(
    ("part", "column_file", "split_by_tokens"),
    [("Training", "train", 0), ("Development", "devel", 14), ("Test", "test", 5)],
)
def test_bc5cdr_by_three_routes(
    published: Path, part: str, column_file: str, split_by_tokens: int
) -> None:
    folder = published / "bc5cdr"
    pubtator, _ = read(folder / "pubtator" / f"CDR_{part}Set.PubTator.txt")
    bioc, _ = read(folder / "bioc_xml" / f"CDR_{part}Set.BioC.xml")
    columns, _ = read(folder / "iob_tsv" / f"{column_file}.tsv")
    for a, b in zip(pubtator, bioc, strict=True):
        assert (a.id, a.text, a.passages) == (b.id, b.text, b.passages)
        assert set(a.entities) <= set(b.entities)
        # BioC adds the parts of composite mentions
        for extra in set(b.entities) - set(a.entities):
            assert any(e.start <= extra.start and extra.end <= e.end for e in a.entities)
    # tokens are whole, where a mention ends inside a word (Ca2+), or a sentence is cut in a
    # mention (St. Anthony's fire)
    missing = squeezed(columns) - squeezed(pubtator)
    assert missing.total() == split_by_tokens
    if part == "Test":
        assert missing == {("Chemical", "Ca2"): 4, ("Chemical", "gamma-aminobutyricacidA"): 1}


# ---- read, written and read again

ROUND_TRIPS = [
    *((name, "jsonl") for name, *_ in FILES if name.endswith((".tar", ".tsv", ".tgz", "BioC.xml"))),
    ("pgxcorpus/PGxCorpus.tar", "brat"),
    ("pgxcorpus/PGxCorpus.tar", "bioc_xml"),
    ("pgxcorpus/PGxCorpus.tar", "bioc_json"),
    ("pgxcorpus/PGxCorpus.tar", "pubtator"),
    ("bc5cdr/bioc_xml/CDR_TestSet.BioC.xml", "brat"),
    ("bc5cdr/bioc_xml/CDR_TestSet.BioC.xml", "bioc_xml"),
    ("bc5cdr/bioc_xml/CDR_TestSet.BioC.xml", "bioc_json"),
    ("bc5cdr/bioc_xml/CDR_TestSet.BioC.xml", "pubtator"),
    ("bc5cdr/pubtator", "pubtator"),
    ("ncbi_disease/pubtator", "pubtator"),
    ("ncbi_disease/ncbi-disease-standoff.tar.gz", "brat"),
    ("anatem/original/anatem-1.0.2-standoff.tar.gz", "brat"),
    ("anatem/original/anatem-1.0.2-standoff.tar.gz", "bioc_xml"),
    ("bc2gm/original/test", "brat"),
    ("genia/GENIAcorpus3.02.tgz", "bioc_json"),
    *((name, "conll") for name, format, *_ in FILES if format == "conll"),
    ("genia/nested_iob2/genia.dev.iob2", "nested_iob"),
    ("genia/nested_iob2/genia.test.iob2", "nested_iob"),
]


@pytest.mark.parametrize("corpus", dict.fromkeys(name for name, _ in ROUND_TRIPS), indirect=True)
def test_round_trip(corpus: Corpus, tmp_path: Path) -> None:
    """Everything comes back but what is counted: nothing, or fragments."""
    for name, output_format in ROUND_TRIPS:
        if name == corpus.name:
            comes_back(corpus, output_format, tmp_path)


def comes_back(corpus: Corpus, output_format: str, folder: Path) -> None:
    documents = corpus.documents
    columns = output_format in ("conll", "nested_iob")
    options = {"words": "space"} if columns else {}
    path = folder / f"{output_format}{OUTPUT_FORMATS[output_format].suffixes[0]}"
    losses = write(documents, path, output_format, **options)
    # a file of layers of which none is used is one of two columns
    again, errors = read(path, output_format)
    assert errors == []
    holds_fragments = output_format in ("jsonl", "brat", "bioc_xml", "bioc_json")
    fragmented = sum(entity.discontinuous for d in documents for entity in d.entities)
    expected = Counter(
        {
            "discontinuous mentions, left out": 0 if holds_fragments else fragmented,
            "documents whose passages are not kept": sum(bool(d.passages) for d in documents)
            if output_format == "brat"
            else 0,
        }
    )
    written_otherwise = {kind for kind in losses.counts if kind.endswith("written otherwise")}
    # one article stands twice in NCBI-disease
    assert written_otherwise <= (
        {"ids written otherwise"} if "pubtator" in corpus.path.parts else set()
    )
    kinds = {kind: n for kind, n in losses.counts.items() if kind not in written_otherwise}
    ends = kinds.pop("characters between title and abstract, read as a line break", 0)
    assert ends == 0
    assert kinds == {kind: n for kind, n in expected.items() if n}
    key = (lambda d: d.id) if output_format == "brat" else (lambda d: "")
    for before, after in zip(sorted(documents, key=key), sorted(again, key=key), strict=True):
        kept = tuple(e for e in before.entities if holds_fragments or not e.discontinuous)
        assert after.text == before.text
        assert after.entities == kept
        assert written_otherwise or after.id == before.id
        if before.passages and output_format != "brat":
            assert after.passages == before.passages
