"""The catalogue of the paper's corpora, and copies of them made into splits.

The published corpora are read from the folder that the environment variable CNER_CORPORA names.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from constrained_ner.cli import Group
from constrained_ner.cli.corpora import corpora
from constrained_ner.corpora import read
from constrained_ner.corpora.catalogue import CORPORA, SPLITS, Download, PublishedCorpus, get_corpus
from constrained_ner.corpora.prepare import Prepared, fetch, prepare
from constrained_ner.documents import Document
from constrained_ner.errors import InputError, UnknownNameError
from tests.test_download import Server, served

main = Group("cner", commands={"corpora": corpora})


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["corpora", *map(str, arguments)])


def documents(path: Path) -> list[Document]:
    records = list(read(path, "jsonl"))
    assert not [record for record in records if isinstance(record, InputError)]
    return [record for record in records if isinstance(record, Document)]


def report(folder: Path) -> dict[str, Any]:
    value = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
    assert isinstance(value, dict)
    return value


def iob(*labels: str | None) -> str:
    """A sentence of two words for each label, of which the second is a mention, or is not."""
    return "".join(f"word\tO\nterm{i}\t{f'B-{x}' if x else 'O'}\n\n" for i, x in enumerate(labels))


def lay(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    return folder


def tar(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(folder.rglob("*")):
            archive.add(file, file.relative_to(folder), recursive=False)
    return path


def small(name: str, sentences: tuple[int, int, int], mentions: tuple[int, ...]) -> PublishedCorpus:
    """A corpus of the catalogue, with counts for a copy of a few sentences."""
    return replace(get_corpus(name), sentences=sentences, mentions=mentions)


# ---- the catalogue ------------------------------------------------------------------------------


def test_the_papers_table_1() -> None:
    assert {corpus.name: (corpus.sentences, len(corpus.labels)) for corpus in CORPORA.values()} == {
        "anatem": ((5861, 2118, 3830), 1),
        "bc2gm": ((12500, 2500, 5000), 1),
        "bc4chemd": ((30682, 30639, 26364), 1),
        "bc5cdr": ((4560, 4581, 4797), 2),
        "cadec": ((5317, 1140, 1140), 5),
        "genia": ((15023, 1669, 1854), 5),
        "ncbi-disease": ((5432, 923, 940), 1),
        "pgxcorpus": ((661, 142, 142), 10),
    }


@pytest.mark.parametrize("corpus", CORPORA.values(), ids=lambda corpus: corpus.name)
def test_entry(corpus: PublishedCorpus) -> None:
    assert corpus.source.startswith(("https://", "http://"))
    assert set(corpus.merged) <= set(corpus.labels)
    if corpus.downloads:  # what can be had is counted
        assert len(corpus.mentions) == (1 if corpus.cut == "random" else 3)
    assert len({file.name for file in corpus.downloads}) == len(corpus.downloads)
    for file in corpus.downloads:
        assert re.match(r"https://raw\.githubusercontent\.com/[^/]+/[^/]+/[0-9a-f]{40}/", file.url)
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)


@pytest.mark.parametrize(
    ("name", "corpus"),
    [
        ("ncbi", "ncbi-disease"),
        ("NCBI_disease", "ncbi-disease"),
        ("NCBI Disease", "ncbi-disease"),
        ("PGx", "pgxcorpus"),
        ("GENIA_NER", "genia"),
        ("BC5CDR", "bc5cdr"),
        ("chemdner", "bc4chemd"),
        ("CADEC", "cadec"),
    ],
)
def test_other_names(name: str, corpus: str) -> None:
    assert get_corpus(name).name == corpus


@pytest.mark.parametrize("name", ["", "bc5", "genia2"])
def test_unknown_name(name: str) -> None:
    with pytest.raises(UnknownNameError, match=r"there are anatem, bc2gm, .*, pgxcorpus"):
        get_corpus(name)


@pytest.mark.parametrize("name", ["bc4chemd", "cadec"])
def test_what_may_not_be_fetched(name: str, tmp_path: Path) -> None:
    result = run("prepare", name, "--download", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{name} is not fetched: its licence" in result.output
    assert CORPORA[name].source in result.output
    assert not (tmp_path / "out").exists()


# ---- finding the splits -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("train.tsv", "devel.tsv", "test.tsv"),
        ("training.iob", "development.iob", "evaluation.iob"),
        ("NCBItrainset_corpus.tsv", "NCBIdevelopset_corpus.tsv", "NCBItestset_corpus.tsv"),
        ("CDR_TrainingSet.tsv", "CDR_DevelopmentSet.tsv", "CDR_TestSet.tsv"),
        ("TRAIN/latest.tsv", "DEV/device.tsv", "TEST/strain.tsv"),
        ("train/a/1.tsv", "valid/a/1.tsv", "test/a/1.tsv"),
        ("testing/train/x.tsv", "testing/dev/x.tsv", "testing/x.tsv"),
        ("train_dev_test/train.tsv", "train_dev_test/dev.tsv", "train_dev_test/test.tsv"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_names_of_splits(names: tuple[str, str, str], packed: bool, tmp_path: Path) -> None:
    corpus = small("anatem", (3, 2, 1), (3, 1, 0))
    texts = (iob("Cell", "Organ", "Anatomy"), iob("Cell", None), iob(None))
    copy = lay(tmp_path / "copy", dict(zip(names, texts, strict=True)))
    lay(copy, {"train_dev.tsv": iob("Cell"), "README.txt": "train, dev", "notes/test.txt": "none"})
    prepared = prepare(corpus, tar(copy, tmp_path / "c.tgz") if packed else copy, tmp_path / "out")
    counts = [len(documents(tmp_path / "out" / f"{split}.jsonl")) for split in SPLITS]
    assert counts == [3, 2, 1]
    assert prepared.differences == ()
    for split, name in zip(prepared.splits, names, strict=True):
        assert name.startswith(split.origin)


def test_archive_for_each_split(tmp_path: Path) -> None:
    corpus = small("anatem", (2, 1, 1), (1, 0, 1))
    (tmp_path / "copy").mkdir()
    for name, text in [
        ("NCBItrainset", iob("Cell", None)),
        ("NCBIdevelopset", iob(None)),
        ("NCBItestset", iob("Cell")),
    ]:
        with zipfile.ZipFile(tmp_path / "copy" / f"{name}.zip", "w") as archive:
            archive.writestr("corpus.tsv", text)
    prepared = prepare(corpus, tmp_path / "copy", tmp_path / "out")
    assert prepared.differences == ()
    assert list(report(tmp_path / "out")["files"]) == [
        "NCBIdevelopset.zip",
        "NCBItestset.zip",
        "NCBItrainset.zip",
    ]


PUBTATOR = "1|t|A term\n1|a|Of it.\n1\t2\t6\tterm\t{}\tD1\n\n"


def test_the_nearest_copy_is_taken(tmp_path: Path) -> None:
    """As in the published NCBI files: one copy has the right train split, another the others."""
    corpus = small("ncbi", (4, 2, 2), (3, 1, 1))
    copy = lay(
        tmp_path / "copy",
        {
            "conll/train.tsv": iob("Disease", "Disease", "Disease", None),
            "iob/train.tsv": iob("Disease", "Disease", None),
            "iob/devel.tsv": iob("Disease", None),
            "iob/test.tsv": iob("Disease", None),
            "four/dev.tsv": iob("Disease", None),
            "a/NCBItrainset.txt": PUBTATOR.format("Modifier"),
            "a/NCBIdevelopset.txt": PUBTATOR.format("Modifier"),
            "a/NCBItestset.txt": PUBTATOR.format("Modifier"),
        },
    )
    (copy / "broken.tgz").write_bytes(b"no archive")
    prepared = prepare(corpus, copy, tmp_path / "out")
    assert prepared.differences == ()
    origins = ["conll/train.tsv", "iob/devel.tsv", "iob/test.tsv"]
    assert [split.origin for split in prepared.splits] == origins
    assert report(tmp_path / "out")["files"] == {
        name: hashlib.sha256((copy / name).read_bytes()).hexdigest() for name in origins
    }


def test_of_two_formats_the_one_with_the_published_mentions(tmp_path: Path) -> None:
    corpus = small("ncbi", (9, 9, 9), (1, 1, 1))
    files = {f"{split}.pubtator": PUBTATOR.format("Modifier") for split in SPLITS}
    copy = lay(tmp_path / "copy", files | {f"{split}.iob": iob(None) for split in SPLITS})
    prepared = prepare(corpus, copy, tmp_path / "out")
    assert {split.format for split in prepared.splits} == {"pubtator"}
    assert prepared.differences == tuple(
        f"{split}: 1 texts; the paper's Table 1 has 9 sentences" for split in SPLITS
    )


def test_splits_of_a_draw_are_not_mixed_with_those_of_another(tmp_path: Path) -> None:
    """A whole corpus beside the splits that an earlier draw made of it: one of the two is taken."""
    corpus = replace(get_corpus("pgx"), sentences=(7, 1, 2), mentions=(7, 1, 2))
    raw = tmp_path / "raw"
    raw.mkdir()
    lines: list[dict[str, Any]] = [
        {"id": f"s{i}", "text": "Drug.", "entities": [{"label": "Chemical", "fragments": [[0, 4]]}]}
        for i in range(10)
    ]
    (raw / "pgx.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    prepare(corpus, raw, tmp_path / "first", 0)
    for split in SPLITS:
        shutil.copy(tmp_path / "first" / f"{split}.jsonl", raw)
    prepared = prepare(corpus, raw, tmp_path / "second", 1)
    ids = [document.id for split in prepared.splits for document in split.documents]
    assert sorted(ids) == sorted(line["id"] for line in lines)


def test_missing_splits(tmp_path: Path) -> None:
    copy = lay(tmp_path / "copy", {"train.tsv": iob("Cell"), "x.tsv": iob("Cell"), "test.tsv": ""})
    with pytest.raises(
        InputError, match=r"no split dev, test of anatem: expected .*; found: train \(train\.tsv\)$"
    ):
        prepare(CORPORA["anatem"], copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_split_that_is_broken(tmp_path: Path) -> None:
    files = {"train.tsv": iob("Cell"), "dev.tsv": "a\tO\nb\tX-Cell\n", "test.tsv": iob("Cell")}
    copy = lay(tmp_path / "copy", files)
    with pytest.raises(
        InputError, match=r"no split dev of .*; 1 broken records, the first .*dev\.tsv:2: unknown"
    ):
        prepare(CORPORA["anatem"], copy, tmp_path / "out")


def test_no_such_copy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="copy: no such file or folder"):
        prepare(CORPORA["anatem"], tmp_path / "copy", tmp_path / "out")


@pytest.mark.parametrize("place", ["copy", "copy/out"])
def test_never_writes_into_the_copy(tmp_path: Path, place: str) -> None:
    copy = lay(tmp_path / "copy", {f"{split}.tsv": iob("Cell") for split in SPLITS})
    before = sorted(copy.rglob("*"))
    with pytest.raises(InputError, match=f"{place}: lies in .*copy, which is read"):
        prepare(CORPORA["anatem"], copy, tmp_path / place)
    assert sorted(copy.rglob("*")) == before


# ---- corpora that come in one piece -------------------------------------------------------------


def pgx(folder: Path, ids: Iterable[str]) -> Path:
    files = {}
    for id in ids:
        files[f"{id}.txt"] = f"The gene {id}."
        files[f"{id}.ann"] = f"T1\tGene_or_protein 9 {9 + len(id)}\t{id}\n"
    return lay(folder, files)


def ids_of(prepared: Prepared) -> list[list[str]]:
    return [[d.id.rsplit("/", 1)[-1] for d in split.documents] for split in prepared.splits]


def test_the_draw_is_the_same_everywhere(tmp_path: Path) -> None:
    ids = [f"{n}_{n % 7}" for n in range(10)]
    corpus = small("pgx", (7, 1, 2), (10,))
    folder = pgx(tmp_path / "copy", ids)
    lay(folder, {"LICENSE.txt": "CC BY-NC 4.0"})
    drawn = ids_of(prepare(corpus, folder, tmp_path / "1"))
    assert drawn == [
        ["0_0", "3_3", "5_5", "6_6", "7_0", "8_1", "9_2"],
        ["2_2"],
        ["1_1", "4_4"],
    ]
    assert ids_of(prepare(corpus, tar(folder, tmp_path / "c.tgz"), tmp_path / "2")) == drawn
    below = pgx(tmp_path / "below" / "PGxCorpus", reversed(ids)).parent
    assert ids_of(prepare(corpus, below, tmp_path / "3")) == drawn
    assert ids_of(prepare(corpus, folder, tmp_path / "4", seed=1)) != drawn
    assert [report(tmp_path / n)["seed"] for n in "14"] == [0, 1]


@given(st.integers(8, 60), st.integers())
def test_a_draw_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, count: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("draw")
    copy = lay(folder, {"copy/all.iob": iob(*["Disease"] * count)}) / "copy"
    drawn = ids_of(prepare(CORPORA["pgxcorpus"], copy, folder / "out", seed))
    assert sorted(chain(*drawn)) == sorted(f"all:{n}" for n in range(1, count + 1))
    train, dev, test = map(len, drawn)
    assert train == int(count * 0.7)
    assert test - dev in (0, 1)


@pytest.mark.parametrize("name", ["cadec", "pgxcorpus"])
def test_the_draw_has_the_papers_sizes(name: str, tmp_path: Path) -> None:
    corpus = CORPORA[name]
    sentences = iob(*["Disease"] * sum(corpus.sentences))
    copy = lay(tmp_path, {"copy/all.iob": sentences}) / "copy"
    prepared = prepare(corpus, copy, tmp_path / "out")
    assert tuple(len(split.documents) for split in prepared.splits) == corpus.sentences


GENIA = """<?xml version="1.0"?><!DOCTYPE set SYSTEM "gpml.dtd"><set>
{}</set>"""
ARTICLE = """<article><articleinfo><bibliomisc>MEDLINE:{}</bibliomisc></articleinfo>
<title><sentence>The <cons sem="G#protein_molecule">CD28</cons> gene</sentence></title>
<abstract><sentence>In a <cons sem="G#other_name">cell</cons>.</sentence></abstract></article>
"""


def test_document_order(tmp_path: Path) -> None:
    copy = lay(
        tmp_path / "copy",
        {"GENIA/corpus.xml": GENIA.format("".join(map(ARTICLE.format, range(3))))},
    )
    lay(copy, {"nested/genia.dev.iob2": iob("protein", None), "nested/genia.test.iob2": iob("DNA")})
    corpus = small("genia", (3, 2, 1), (2, 1, 0))
    prepared = prepare(corpus, copy, tmp_path / "out")
    assert ids_of(prepared) == [
        ["MEDLINE:0:1", "MEDLINE:0:2", "MEDLINE:1:1"],
        ["MEDLINE:1:2", "MEDLINE:2:1"],
        ["MEDLINE:2:2"],
    ]
    assert report(tmp_path / "out")["splits"]["dev"] == {
        "from": "GENIA/corpus.xml",
        "format": "genia",
        "cut": "order",
        "documents": 2,
        "mentions": 1,
        "labels": {"protein": 1},
        "broken": 0,
    }
    assert report(tmp_path / "out")["seed"] is None


def test_document_order_of_too_few(tmp_path: Path) -> None:
    copy = lay(tmp_path, {"copy.xml": GENIA.format(ARTICLE.format(1))}) / "copy.xml"
    with pytest.raises(
        InputError, match=r"no split dev, test of genia: .* or the whole corpus of 18546 sentences"
    ):
        prepare(CORPORA["genia"], copy, tmp_path / "out")


def cadec(folder: Path) -> Path:
    """Ten posts of two sentences; one with a mention over both, one that is discontinuous."""
    posts = {}
    for n in range(10):
        post = f"DRUG.{n}"
        posts[f"cadec/text/{post}.txt"] = "My legs hurt a lot.\r\n\r\n  I stopped Lipitor.\n"
        posts[f"cadec/original/{post}.ann"] = "T1\tDrug 35 42\tLipitor\n" + (
            "T2\tADR 3 7;13 18\tlegs a lot\nT3\tFinding 15 34\tlot. I stopped\n" if n == 3 else ""
        )
        posts[f"cadec/meddra/{post}.ann"] = "TT1\t10000 35 42\tLipitor\n"
    return lay(folder, posts)


def test_posts_become_sentences(tmp_path: Path) -> None:
    corpus = small("cadec", (14, 3, 3), (12,))
    prepared = prepare(corpus, tar(cadec(tmp_path / "copy"), tmp_path / "c.tgz"), tmp_path / "out")
    found = {d.id: d for split in prepared.splits for d in split.documents}
    assert sorted(found) == sorted(f"DRUG.{n}:{k}" for n in range(10) for k in (1, 2))
    first, second = found["DRUG.3:1"], found["DRUG.3:2"]
    assert first.text == "My legs hurt a lot."
    assert [(e.label, e.surface(first.text)) for e in first.entities] == [("ADR", "legs a lot")]
    assert second.text == "I stopped Lipitor."
    assert [(e.label, e.surface(second.text)) for e in second.entities] == [("Drug", "Lipitor")]
    assert prepared.differences == (
        "in all: 11 mentions; the published files have 12",
        "label 'Disease': no mention",
        "label 'Finding': no mention",
        "label 'Symptom': no mention",
        "1 mentions that cross a line break, left out",
    )


# ---- labels and counts --------------------------------------------------------------------------


def test_chemdner(tmp_path: Path) -> None:
    files = {}
    for n, split in enumerate(["training", "development", "evaluation"]):
        files[f"chemdner/{split}.abstracts.txt"] = f"{n}\tOn NaCl\tIt is salt.\n"
        files[f"chemdner/{split}.annotations.txt"] = (
            f"{n}\tT\t3\t7\tNaCl\tFORMULA\n{n}\tA\t6\t10\tsalt\tNO CLASS\n"
            f"{n}\tA\t6\t10\tsalt\tTRIVIAL\n"
        )
    prepared = prepare(
        small("chemdner", (1, 1, 1), (3, 2, 2)), lay(tmp_path / "copy", files), tmp_path / "out"
    )
    for split in SPLITS:
        (document,) = documents(tmp_path / "out" / f"{split}.jsonl")
        surfaces = [(e.label, e.surface(document.text)) for e in document.entities]
        assert surfaces == [("Chemical", "NaCl"), ("Chemical", "salt")]
    assert prepared.differences == (
        "train: 2 mentions; the published files have 3",
        "1 mentions that say the same as another one once the labels are merged",
    )


@pytest.mark.parametrize("packed", [False, True])
def test_dev_ids(tmp_path: Path, packed: bool) -> None:
    copy = lay(
        tmp_path / "copy",
        {
            "bc2gm/train/train.in": "P1 The CD28 gene\nP2 None here\nP3 The CD3 gene\n",
            "bc2gm/train/GENE.eval": "P1|3 6|CD28\nP3|3 5|CD3\n",
            "bc2gm/test/test.in": "P4 None\n",
            "bc2gm/test/GENE.eval": "",
            "bc2gm/devel.ids": "P3\n",
        },
    )
    path = tar(copy, tmp_path / "c.tgz") if packed else copy
    prepared = prepare(small("bc2gm", (2, 1, 1), (1, 1, 0)), path, tmp_path / "out")
    assert prepared.differences == ()
    assert ids_of(prepared) == [["P1", "P2"], ["P3"], ["P4"]]
    files = list(report(tmp_path / "out")["files"])
    assert ("bc2gm/devel.ids" in files) != packed
    assert (files == ["c.tgz"]) == packed


def test_differences_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Exit status 0 with differences, 1 with a record that cannot be read."""
    train = iob("Disease", "Gene", "Disease") + "a\tB-Disease\n\nx\tI-Chemical\n"
    copy = lay(
        tmp_path / "copy",
        {
            "train.tsv": train,
            "dev.tsv": iob("Disease"),
            "test.pubtator": PUBTATOR.format("Disease") * 2,
        },
    )
    result = run("prepare", "bc5cdr", "--from", copy, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "bc5cdr: Chemical, Disease",
        "  train      5 texts      5 mentions, from train.tsv (conll)",
        "  dev        1 texts      1 mentions, from dev.tsv (conll)",
        "  test       2 texts      2 mentions, from test.pubtator (pubtator)",
        "differences from what is published, and remarks:",
        "  train: 5 texts; the paper's Table 1 has 4560 sentences",
        "  dev: 1 texts; the paper's Table 1 has 4581 sentences",
        "  test: 2 texts; the paper's Table 1 has 4797 sentences",
        "  test: 1 ids come again, '1' the first",
        "  train: 5 mentions; the published files have 9385",
        "  dev: 1 mentions; the published files have 9593",
        "  test: 2 mentions; the published files have 9809",
        "  label 'Gene': 1 mentions; it is none of the paper's",
        f"  note: {CORPORA['bc5cdr'].notes}",
        f"written to {tmp_path / 'out'}: train.jsonl, dev.jsonl, test.jsonl, corpus.json",
    ]
    assert [record.getMessage() for record in caplog.records] == [
        f"{copy}/train.tsv:12: 1 tags without a mention before them to continue (this line is the "
        "first): read as beginnings",
        f"{copy}/test.pubtator: 2 concept identifiers, passed over",
    ]
    lay(copy, {"train.tsv": train + "\nbad\tX-Disease\n"})
    result = run("prepare", "bc5cdr", "--from", copy, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "train.jsonl: is there already: --overwrite replaces it" in result.output
    result = run("prepare", "bc5cdr", "--from", copy, "-o", tmp_path / "out", "--overwrite")
    assert result.exit_code == 1
    assert "  train: 1 records could not be read\n" in result.output
    assert result.output.count(f"left out: {copy}/train.tsv:14: unknown tag 'X-Disease'") == 1
    assert report(tmp_path / "out")["splits"]["train"]["broken"] == 1
    assert len(documents(tmp_path / "out" / "train.jsonl")) == 5


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["DNA", "DNA", "Disease"], "DNA (6), Disease (3)"),
        ([None, None], "none"),
    ],
)
def test_another_corpus_is_refused(tmp_path: Path, labels: list[str | None], found: str) -> None:
    copy = lay(tmp_path / "copy", {f"{split}.tsv": iob(*labels) for split in SPLITS})
    result = run("prepare", "bc5cdr", "--from", copy, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{copy}: does not look like bc5cdr: expected mentions of the labels Chemical, " in (
        result.output
    )
    assert f"found: {found}" in result.output
    assert not (tmp_path / "out").exists()


def test_genia_is_not_cadec(tmp_path: Path) -> None:
    copy = lay(tmp_path / "copy", {"GENIAcorpus3.02.xml": GENIA.format(ARTICLE.format(1) * 5)})
    result = run("prepare", "cadec", "--from", copy, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "does not look like cadec: expected mentions of the labels ADR" in result.output
    assert "found: protein (5)" in result.output


def test_what_is_logged_of_other_copies_is_not_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = {f"good/{split}.tsv": iob("Cell") for split in SPLITS}
    files |= {f"bad/{split}.tsv": "x\tI-Cell\n\n" + iob("Cell") for split in SPLITS}
    with caplog.at_level(logging.WARNING):
        prepare(
            small("anatem", (1, 1, 1), (1, 1, 1)), lay(tmp_path / "copy", files), tmp_path / "out"
        )
    assert caplog.records == []


# ---- the command --------------------------------------------------------------------------------


def test_list() -> None:
    text = run().output
    for corpus in CORPORA.values():
        for value in (corpus.name, corpus.source, corpus.licence.split(" (")[0]):
            assert value in text
        assert corpus.redistribution.split()[0] in text
    assert all(len(line) <= 100 for line in text.splitlines() if "://" not in line)
    assert run("show").output == text
    listed = json.loads(run("show", "--output-format", "json").output)
    assert [entry["name"] for entry in listed] == list(CORPORA)
    assert listed[0]["downloads"][0]["sha256"] == CORPORA["anatem"].downloads[0].sha256


def test_show() -> None:
    text = run("show", "NCBI").output
    assert "5145 train, 787 dev, 960 test" in text
    assert "CompositeMention, DiseaseClass, Modifier, SpecificDisease" in text
    assert CORPORA["ncbi-disease"].downloads[0].url in text
    assert json.loads(run("show", "NCBI", "--output-format", "json").output)["labels"] == [
        "Disease"
    ]
    result = run("show", "unknown")
    assert result.exit_code == 1
    assert "there are anatem" in result.output


@pytest.mark.parametrize("options", [[], ["--download", "--from", "."]])
def test_prepare_needs_one_source(options: list[str]) -> None:
    result = run("prepare", "genia", *options)
    assert result.exit_code == 2
    assert "expected either --from PATH or --download" in result.output


def test_prepare_into_the_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lay(tmp_path / "copy", {f"{split}.tsv": iob("Cell") for split in SPLITS})
    assert run("prepare", "AnatEM", "--from", "copy").exit_code == 0
    names = ["corpus.json", "dev.jsonl", "test.jsonl", "train.jsonl"]
    assert sorted(path.name for path in (tmp_path / "corpora" / "anatem").iterdir()) == names


def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetched, prepared, and not fetched again."""
    files = {f"/{split}.tsv": iob("Cell", None).encode() for split in SPLITS}
    with served(Server(files)) as server:
        corpus = replace(
            small("anatem", (2, 2, 2), (1, 1, 1)),
            downloads=tuple(
                Download(server.url + path, path[1:], hashlib.sha256(data).hexdigest(), len(data))
                for path, data in files.items()
            ),
        )
        module = import_module("constrained_ner.cli.corpora")  # its command has the same name
        monkeypatch.setattr(module, "get_corpus", lambda name: corpus)
        for _ in range(2):
            again = ("prepare", "anatem", "--download", "--overwrite", "-o")
            result = run(*again, tmp_path / "out")
            assert result.exit_code == 0, result.output
            assert "as published" in result.output
            assert len(server.asked) == 3
        told: dict[str, int] = {}
        fetch(corpus, tmp_path / "again", lambda file, done: told.update({file.name: done}))
        assert told == {file.name: file.bytes for file in corpus.downloads}
        server.files.pop("/dev.tsv")
        result = run("prepare", "anatem", "--download", "-o", tmp_path / "gone")
    assert result.exit_code == 1
    assert f"{server.url}/dev.tsv: 404 Not Found" in result.output
    assert [path.name for path in (tmp_path / "gone" / "source").iterdir()] == ["train.tsv"]


# ---- the published corpora ----------------------------------------------------------------------


def test_downloads_are_those_of_the_manifest(published: Path) -> None:
    with (published / "MANIFEST.tsv").open(encoding="utf-8") as file:
        known = {
            "/".join([row["repo"], row["commit"], row["path_in_repo"]]): row
            for row in csv.DictReader(file, delimiter="\t")
        }
    for corpus in CORPORA.values():
        for download in corpus.downloads:
            row = known[download.url.removeprefix("https://raw.githubusercontent.com/")]
            assert (row["sha256"], int(row["bytes"])) == (download.sha256, download.bytes)


@pytest.mark.parametrize(
    ("name", "path", "texts", "mentions", "origins"),
    [
        ("anatem", "anatem/iob_tsv", None, None, "train.tsv devel.tsv test.tsv"),
        ("anatem", "anatem/original/anatem-1.0.2-conll.tar.gz", None, None, "original-data/conll"),
        (
            "anatem",
            "anatem/original/anatem-1.0.2-standoff.tar.gz",
            (606, 202, 404),
            None,
            "original-data/standoff",
        ),
        ("bc2gm", "bc2gm", None, None, "conll"),
        ("bc2gm", "bc2gm/original", None, (15203, 3061, 6331), "train test"),
        ("bc5cdr", "bc5cdr", None, None, "iob_tsv"),
        ("bc5cdr", "bc5cdr/pubtator", (500, 500, 500), (9385, 9591, 9809), "CDR_"),
        ("bc5cdr", "bc5cdr/bioc_xml", (500, 500, 500), (9559, 9758, 9924), "CDR_"),
        ("genia", "genia", None, (46164, 4371, 5511), "GENIAcorpus3.02.tgz"),
        (
            "genia",
            "genia/GENIAcorpus3.02.tgz",
            None,
            (46164, 4371, 5511),
            "GENIA_term_3.02/GENIAcorpus3.02.xml",
        ),
        ("ncbi", "ncbi_disease", None, None, "conll/train.tsv iob_tsv"),
        (
            "ncbi",
            "ncbi_disease/ncbi-disease-standoff.tar.gz",
            (593, 100, 100),
            None,
            "standoff",
        ),
        ("pgx", "pgxcorpus", None, (4656, 1098, 1007), "PGxCorpus.tar"),
        ("pgx", "pgxcorpus/PGxCorpus.tar", None, (4656, 1098, 1007), "PGxCorpus.tar"),
    ],
)
def test_published(
    published: Path,
    tmp_path: Path,
    name: str,
    path: str,
    texts: tuple[int, ...] | None,
    mentions: tuple[int, ...] | None,
    origins: str,
) -> None:
    """The paper's sentences and the published mentions, but for those that are given here."""
    corpus = get_corpus(name)
    prepared = prepare(corpus, published / path, tmp_path)
    assert all(split.origin.startswith(tuple(origins.split())) for split in prepared.splits)
    for split, sentences, count in zip(
        prepared.splits, texts or corpus.sentences, mentions or corpus.mentions, strict=True
    ):
        with (tmp_path / f"{split.name}.jsonl").open(encoding="utf-8") as lines:
            written = [json.loads(line)["entities"] for line in lines]
        assert len(written) == sentences
        assert sum(map(len, written)) == count
        assert {e["label"] for entities in written for e in entities} <= set(corpus.labels)
    differ = [text for text in prepared.differences if "ids come again" not in text]
    drawn = corpus.cut == "random"
    assert bool(differ) == bool(texts or (mentions and not drawn))


def test_published_without_train(published: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no split train of genia"):
        prepare(CORPORA["genia"], published / "genia" / "nested_iob2", tmp_path / "out")
