"""The writers: what they do not count as lost is read back, by us and by independent libraries."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import bioc
import conllu
import pybrat.parser
import pytest
import spacy
from bioc import biocjson, biocxml, pubtator
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from spacy.tokens import DocBin

from constrained_ner.corpora import (
    INPUT_FORMATS,
    OUTPUT_FORMATS,
    ConversionLosses,
    conll,
    detect_output_format,
    read,
    write,
)
from constrained_ner.documents import Document, Entity, Passage
from constrained_ner.errors import InputError
from constrained_ner.pipeline.segments import sentences
from tests.support.strategies import documents, examples, own_keys

SUFFIXES = {n: format.suffixes[0] for n, format in OUTPUT_FORMATS.items() if format.suffixes}
# What a format loses of every document, and so of these, too.
ALWAYS = {
    "conll": {"documents whose passages are not kept"},
    "nested_iob": {"documents whose passages are not kept"},
    "brat": {"documents whose passages are not kept"},
    "docbin": {"documents whose passages are not kept"},
    "inception": {"documents whose passages are not kept"},
    "label_studio": {"documents whose passages are not kept"},
    "prodigy": {"documents whose passages are not kept"},
    "doccano": {"documents whose passages are not kept"},
}
READABLE = [name for name in OUTPUT_FORMATS if name in INPUT_FORMATS]

Case = tuple[ConversionLosses, list[Document]]


def written(items: Sequence[Document], folder: Path, name: str, **options: Any) -> Case:
    """What was lost, and what is read back."""
    path = folder / f"corpus{SUFFIXES[name]}"
    losses = write(items, path, name, **options)
    if not items and OUTPUT_FORMATS[name].folder:
        return losses, []
    records = list(read(path, name))
    assert [record for record in records if isinstance(record, InputError)] == []
    return losses, [record for record in records if isinstance(record, Document)]


# ---- laws

IDS = ("1", "a", "train/1", "../x", "/etc", ".", "..", "a/../b", ".hidden", "a|b", "x\ny", "a\\b")


titles = st.text(st.characters(codec="utf-8"), min_size=1, max_size=3)


@st.composite
def corpora(draw: st.DrawFn) -> list[Document]:
    """Documents of hostile texts, labels and ids, some with passages."""
    count = draw(st.integers(0, 3))
    ids = st.one_of(st.sampled_from(IDS), st.text(st.characters(codec="utf-8"), max_size=4))
    labels = ["Disease", "cell type", "cell_type", "B-x", "tab\tx", "a\nb", "é", "\x01"]
    found = []
    for _ in range(count):
        plain = draw(documents(labels, boundaries=draw(st.sampled_from(["word", "character"]))))
        cuts = sorted(draw(st.sets(st.integers(0, len(plain.text)), max_size=4)))
        passages = tuple(
            Passage(draw(st.sampled_from(["title", "abstract", "<x>", ""])), start, end)
            for start, end in zip(cuts[::2], cuts[1::2], strict=False)
        )
        sure = draw(st.lists(st.floats(0, 1), max_size=len(plain.entities)))
        found.append(
            Document(
                draw(ids),
                plain.text,
                plain.entities,
                passages,
                confidences=dict(zip(plain.entities, sure, strict=False)),
                sections=dict(zip(plain.entities, draw(st.lists(titles)), strict=False)),
                meta=draw(own_keys()),
            )
        )
    return found


@pytest.mark.parametrize("name", READABLE)
@examples(40)
@given(
    items=corpora(),
    words=st.sampled_from(["fine", "space"]),
    cut=st.sampled_from([None, sentences, lambda text: [(at, at + 1) for at in range(len(text))]]),
)
def test_what_is_not_counted_is_kept(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    items: list[Document],
    words: str,
    cut: conll.Sentences | None,
) -> None:
    options = {"words": words, "sentences": cut} if OUTPUT_FORMATS[name].options else {}
    losses, back = written(items, tmp_path_factory.mktemp("law"), name, **options)
    lost = {kind for kind in losses.counts if not kind.startswith("values of the key")}
    lost -= {*ALWAYS.get(name, set()), "confidences", "sections"}
    assert losses.documents == len(items)
    assert losses.entities == sum(len(item.entities) for item in items)
    mentions = sum(n for kind, n in losses.counts.items() if "mentions" in kind)
    texts_left_out = sum(n for kind, n in losses.counts.items() if kind.startswith("texts without"))
    assert len(back) == len(items) - texts_left_out
    if not texts_left_out:
        assert sum(len(item.entities) for item in back) == losses.entities - mentions
    if not lost:
        assert comparable(back, name) == comparable(items, name)


def comparable(items: Sequence[Document], name: str) -> list[tuple[object, ...]]:
    """What the format keeps of every document."""
    # PubTator gives every document a title, also one that had no passages
    keeps_passages = name not in ALWAYS and name != "pubtator"
    rows = [
        (
            item.id,
            item.text,
            item.entities,
            item.passages if keeps_passages else (),
            dict(item.confidences) if "confidences" in OUTPUT_FORMATS[name].holds else {},
            dict(item.sections) if "sections" in OUTPUT_FORMATS[name].holds else {},
            dict(item.meta) if "meta" in OUTPUT_FORMATS[name].holds else {},
        )
        for item in items
    ]
    return sorted(rows, key=repr) if OUTPUT_FORMATS[name].folder else list(rows)


@pytest.mark.parametrize("name", READABLE)
@examples(25)
@given(st.data())
def test_a_document_that_the_format_can_hold_is_kept(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    words = st.lists(st.sampled_from(["Aspirin", "left", "knee", "α-1", "CD28"]), min_size=2)
    title, abstract = (" ".join(data.draw(words)) for _ in range(2))
    columns = name in ("conll", "nested_iob")
    text = f"{title} {abstract}" if columns else f"{title}\n{abstract}"
    spans = [(0, len(title)), (len(title) + 1, len(text))]
    label = st.sampled_from(["Disease", "Drug"])
    entities = [
        Entity(data.draw(label), (span,)) for span in data.draw(st.sets(st.sampled_from(spans)))
    ]
    if name == "nested_iob":
        entities.append(Entity("Drug", ((0, len(text)),)))
    passages = (
        ()
        if name in ALWAYS
        else tuple(
            Passage(kind, *span) for kind, span in zip(["title", "abstract"], spans, strict=True)
        )
    )
    item = Document("9/x (1)", text, tuple(entities), passages)
    options = {"words": "space", "sentences": sentences} if columns else {}
    losses, back = written([item], tmp_path_factory.mktemp("kept"), name, **options)
    assert back == [item]
    assert losses.counts == {}


def test_losses_are_named(tmp_path: Path) -> None:
    item = Document(
        "n 1",
        "left and right knee pain",
        (
            Entity("finding site", ((0, 4), (15, 24))),
            Entity("finding site", ((9, 24),)),
            Entity("finding site", ((15, 19),)),
            Entity("finding site", ((11, 14),)),
        ),
    )
    losses, (back,) = written([item], tmp_path, "conll")
    assert [(e.label, e.fragments) for e in back.entities] == [("finding site", ((9, 24),))]
    assert losses.lines() == [
        "1 discontinuous mentions, left out (the first: document 'n 1': finding site 0-4;15-24 "
        "'left knee pain')",
        "1 mentions that begin or end inside a token, left out (the first: document 'n 1': finding "
        "site 11-14 'ght')",
        "1 mentions that overlap with a longer one, left out (the first: document 'n 1': finding "
        "site 15-19 'knee')",
    ]
    losses, (back,) = written([item], tmp_path / "b", "brat")
    assert {entity.label for entity in back.entities} == {"finding_site"}
    assert losses.first == {
        "labels written otherwise": "document 'n 1': 'finding site' is written 'finding_site'"
    }


@pytest.mark.parametrize("name", [n for n in READABLE if "meta" in OUTPUT_FORMATS[n].holds])
def test_values_that_json_does_not_have_are_named(tmp_path: Path, name: str) -> None:
    meta = {"n": [math.inf, math.nan, 1.5], "day": date(2026, 1, 2)}
    losses, (back,) = written([Document("1", "Aspirin", meta=meta)], tmp_path, name)
    assert back.meta == {"n": [None, None, 1.5], "day": "2026-01-02"}
    assert losses.counts == {
        "values that JSON does not have, such as infinity, written otherwise": 1
    }


@pytest.mark.parametrize(
    ("passages", "kept"),
    [
        ((Passage("title", 0, 5), Passage("abstract", 6, 10)), True),
        ((Passage("title", 0, 5),), False),
        ((Passage("title", 0, 3), Passage("abstract", 6, 10)), False),
        ((Passage("title", 0, 5), Passage("abstract", 6, 8)), False),
        ((Passage("abstract", 6, 10),), False),
        ((Passage("title", 0, 5), Passage("methods", 6, 10)), False),
    ],
)
def test_passages_that_pubtator_moves_are_counted(
    tmp_path: Path, passages: tuple[Passage, ...], kept: bool
) -> None:
    losses, (back,) = written([Document("1", "Title\ntext", (), passages)], tmp_path, "pubtator")
    assert losses.counts == ({} if kept else {"documents whose passages are not kept": 1})
    assert (back.passages == passages) is kept


@pytest.mark.parametrize("name", ["bioc_xml", "bioc_json"])
def test_passages_without_a_type_are_counted(tmp_path: Path, name: str) -> None:
    passages = (Passage("title", 0, 5), Passage("", 6, 10))
    losses, (back,) = written([Document("1", "Title\ntext", (), passages)], tmp_path, name)
    assert losses.counts == {"passages without a type, which are not kept": 1}
    assert (back.text, back.passages) == ("Title\ntext", passages[:1])


def test_names_that_would_be_written_alike_stay_apart(tmp_path: Path) -> None:
    entities = (Entity("cell type", ((0, 1),)), Entity("cell_type", ((0, 1),)))
    _, back = written([Document("x", "a", entities), Document("x", "b")], tmp_path, "brat")
    assert [item.id for item in back] == ["x", "x~2"]
    assert [entity.label for entity in back[0].entities] == ["cell_type", "cell_type~2"]


def test_files_whose_names_differ_in_case_only_stay_apart(tmp_path: Path) -> None:
    """Some systems take them for one."""
    _, back = written([Document("Note", "a"), Document("note", "b")], tmp_path, "brat")
    assert sorted((item.id, item.text) for item in back) == [("Note", "a"), ("note~2", "b")]


# ---- files


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jsonl", "jsonl"),
        ("a.b.jsonl", "jsonl"),
        ("a.labelstudio.json", "label_studio"),
        ("a.prodigy.jsonl", "prodigy"),
        ("a.doccano.jsonl", "doccano"),
        ("a.conll", "conll"),
        ("a.csv", "csv"),
        ("a.tsv", "tsv"),
        ("a.parquet", "parquet"),
        ("a.iob2", "conll"),
        ("a.nested", "nested_iob"),
        ("a.PubTator.txt", "pubtator"),
        ("a.pubtator", "pubtator"),
        ("a.xml", "bioc_xml"),
        ("a.json", "bioc_json"),
        ("a.spacy", "docbin"),
        ("folder", "brat"),
        ("a.inception", "inception"),
        ("a.dataset", "datasets"),
    ],
)
def test_detect_output_format(name: str, expected: str) -> None:
    assert detect_output_format(name) == expected


def test_an_unknown_output(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no output format has this suffix"):
        write([], tmp_path / "a.docx")
    with pytest.raises(InputError, match="unknown output format 'docx'"):
        write([], tmp_path / "a.docx", "docx")
    with pytest.raises(InputError, match="jsonl has no option words"):
        write([], tmp_path / "a.jsonl", words="fine")
    with pytest.raises(InputError, match="cannot be written"):
        write([], tmp_path / "absent" / "a.jsonl")


def test_a_file_that_fails_half_way_does_not_appear(tmp_path: Path) -> None:
    def failing() -> Any:
        yield Document("a", "text")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(failing(), tmp_path / "a.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_brat_writes_into_a_new_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    items = [Document(id, "text") for id in ("../up", "/etc/x", "a/b", "c" * 300, "", ".", "\x00")]
    write(items, folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert len(list(folder.rglob("*.txt"))) == len(items)
    with pytest.raises(InputError, match="exists: expected a new or an empty folder"):
        write([], folder)


# ---- read back by others

CORPUS = [
    Document(
        "123",
        "Left & right <knee> pain\nAspirin eased the knee pain of colon cancer \U0001f642 é.",
        (
            Entity("finding", ((0, 4), (14, 18), (20, 24))),
            Entity("finding", ((7, 24),)),
            Entity("drug", ((25, 32),)),
            Entity("disease", ((56, 68),)),
            Entity("site", ((56, 61),)),
        ),
        (Passage("title", 0, 24), Passage("abstract", 25, 73)),
        confidences={Entity("drug", ((25, 32),)): 0.97},
    ),
    Document("124", "No mention here."),
]
CONTIGUOUS = [
    Document(d.id, d.text, tuple(e for e in d.entities if not e.discontinuous), d.passages)
    for d in CORPUS
]


def mentions(item: Document) -> Counter[tuple[str, tuple[tuple[int, int], ...], str]]:
    return Counter((e.label, e.fragments, e.surface(item.text)) for e in item.entities)


def from_bioc(item: bioc.BioCDocument) -> tuple[str, str, Counter[Any]]:
    """Id, text and mentions as the library `bioc` gives them."""
    text = ""
    found: Counter[Any] = Counter()
    for passage in item.passages:
        text = text.ljust(passage.offset, "\n") + passage.text
        for a in passage.annotations:
            spans = tuple((at.offset, at.offset + at.length) for at in a.locations)
            found[(a.infons["type"], spans, a.text)] += 1
    return item.id, text, found


@pytest.mark.parametrize(("suffix", "library"), [(".xml", biocxml), (".json", biocjson)])
def test_bioc_reads_ours(tmp_path: Path, suffix: str, library: Any) -> None:
    path = tmp_path / f"a{suffix}"
    assert write(CORPUS, path).lines() == []
    with open(path, encoding="utf-8") as file:
        collection = library.loads(file.read())
    assert [from_bioc(item) for item in collection.documents] == [
        (item.id, item.text, mentions(item)) for item in CORPUS
    ]


@pytest.mark.parametrize(("suffix", "library"), [(".xml", biocxml), (".json", biocjson)])
def test_bioc_finds_our_confidences(tmp_path: Path, suffix: str, library: Any) -> None:
    path = tmp_path / f"a{suffix}"
    write(CORPUS, path)
    with open(path, encoding="utf-8") as file:
        collection = library.loads(file.read())
    infons = [a.infons for p in collection.documents[0].passages for a in p.annotations]
    assert [i["confidence"] for i in infons if "confidence" in i] == ["0.97"]
    assert {"type": "drug", "confidence": "0.97"} in infons


@pytest.mark.parametrize(("suffix", "library"), [(".xml", biocxml), (".json", biocjson)])
def test_ours_reads_what_bioc_writes(tmp_path: Path, suffix: str, library: Any) -> None:
    """Sentences inside passages, annotations of documents, and several locations included."""
    collection, document = bioc.BioCCollection(), bioc.BioCDocument()
    document.id = "7"
    collection.add_document(document)
    passage = bioc.BioCPassage()
    passage.offset, passage.infons["type"] = 0, "title"
    for offset, text in ((0, "Left and right"), (15, "knee pain.")):
        sentence = bioc.BioCSentence()
        sentence.offset, sentence.text = offset, text
        passage.add_sentence(sentence)
    document.add_passage(passage)
    annotation = bioc.BioCAnnotation()
    annotation.id, annotation.text, annotation.infons["type"] = "1", "Left knee pain", "finding"
    annotation.add_location(bioc.BioCLocation(0, 4))
    annotation.add_location(bioc.BioCLocation(15, 9))
    document.add_annotation(annotation)
    path = tmp_path / f"a{suffix}"
    with open(path, "w", encoding="utf-8") as file:
        file.write(library.dumps(collection))
    expected = Document(
        "7",
        "Left and right\nknee pain.",
        (Entity("finding", ((0, 4), (15, 24))),),
        (Passage("title", 0, 25),),
    )
    assert list(read(path)) == [expected]


def test_bioc_reads_our_pubtator(tmp_path: Path) -> None:
    path = tmp_path / "a.pubtator"
    write(CORPUS, path)
    with open(path, encoding="utf-8") as file:
        found = pubtator.load(file)
    for theirs, ours in zip(found, CONTIGUOUS, strict=True):
        assert theirs.pmid == ours.id
        assert f"{theirs.title}\n{theirs.abstract}".strip() == ours.text
        assert Counter((a.type, ((a.start, a.end),), a.text) for a in theirs.annotations) == (
            mentions(ours)
        )


def test_pybrat_reads_ours(tmp_path: Path) -> None:
    write(CORPUS, tmp_path / "out")
    found = pybrat.parser.BratParser().parse(str(tmp_path / "out"))
    by_id = {item.id: item for item in found}
    for ours in CORPUS:
        theirs = by_id[ours.id]
        assert theirs.text == ours.text
        assert Counter(
            (e.type, tuple((s.start, s.end) for s in e.spans), e.mention) for e in theirs.entities
        ) == mentions(ours)
    rows = (tmp_path / "out" / "123.ann").read_text(encoding="utf-8").splitlines()
    assert "#3\tAnnotatorNotes T3\tconfidence 0.97" in rows


def test_conllu_and_seqeval_read_our_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    write(CORPUS, path)
    found = conllu.parse(path.read_text(encoding="utf-8"), fields=["form", "tag"])
    assert [s[0]["tag"] for s in found if s[0]["form"] == "-DOCSTART-"] == ["(123)", "(124)"]
    blocks = [sentence for sentence in found if sentence[0]["form"] != "-DOCSTART-"]
    tokens = [[token["form"] for token in sentence] for sentence in blocks]
    assert tokens[0][:8] == ["Left", "&", "right", "<", "knee", ">", "pain", "Aspirin"]
    mentioned = [
        [(label, " ".join(words[a : b + 1])) for label, a, b in get_entities([t["tag"] for t in s])]
        for s, words in zip(blocks, tokens, strict=True)
    ]
    assert mentioned == [
        [("finding", "right < knee > pain"), ("drug", "Aspirin"), ("disease", "colon cancer")],
        [],
    ]


SENTENCES = "Knee pain eased. Aspirin\nhelped. Fever rose. It fell."


@pytest.mark.parametrize("name", ["conll", "nested_iob"])
def test_columns_have_a_block_for_each_sentence(tmp_path: Path, name: str) -> None:
    """But a mention that a sentence's end would cut stays whole."""
    item = Document("n 1", SENTENCES, (Entity("Disease", ((0, 9),)), Entity("x", ((33, 47),))))
    assert list(sentences(SENTENCES)) == [(0, 16), (17, 32), (33, 44), (45, 53)]
    path = tmp_path / "a.conll"
    losses = write([item, Document("n2", "No mention.")], path, name, sentences=sentences)
    assert list(losses.counts) == ["texts whose white space is not kept"]
    blocks = path.read_text(encoding="utf-8").split("\n\n")
    assert [" ".join(line.split("\t")[0] for line in b.splitlines()) for b in blocks] == [
        "-DOCSTART-",
        "Knee pain eased .",
        "Aspirin helped .",
        "Fever rose . It fell .",
        "-DOCSTART-",
        "No mention .",
        "",
    ]
    back = [record for record in read(path) if isinstance(record, Document)]
    assert [found.id for found in back] == ["n 1", "n2"]
    assert [e.surface(back[0].text) for e in back[0].entities] == ["Knee pain", "Fever rose . It"]


def test_spacy_reads_our_docbin(tmp_path: Path) -> None:
    path = tmp_path / "a.spacy"
    split = Document("125", "CD28-mediated", (Entity("protein", ((0, 4),)), Entity("x", ((2, 4),))))
    losses = write([*CORPUS, split], path)
    assert losses.counts["discontinuous mentions, left out"] == 1
    docs = list(DocBin().from_disk(path).get_docs(spacy.blank("en").vocab))
    for doc, item in zip(docs, [*CONTIGUOUS, split], strict=True):
        assert doc.text == item.text
        assert doc.user_data["id"] == item.id
        assert Counter(
            (s.label_, ((s.start_char, s.end_char),), s.text) for s in doc.spans["sc"]
        ) == mentions(item)
    scores = docs[0].spans["sc"].attrs["scores"]
    by_score = {s.label_: score for s, score in zip(docs[0].spans["sc"], scores, strict=True)}
    assert by_score.pop("drug") == 0.97
    assert all(map(math.isnan, by_score.values()))
    assert [e.text for e in docs[0].ents] == ["right <knee> pain", "Aspirin", "colon cancer"]


def test_a_mention_that_is_no_span_of_spacy_is_counted(tmp_path: Path) -> None:
    item = Document("1", "a b", (Entity("x", ((0, 2),)), Entity("y", ((2, 3),))))
    losses = write([item], tmp_path / "a.spacy")
    assert losses.lines() == [
        "1 mentions that begin or end between two tokens, left out (the first: document '1': "
        "x 0-2 'a ')"
    ]
    (doc,) = DocBin().from_disk(tmp_path / "a.spacy").get_docs(spacy.blank("en").vocab)
    assert [(s.label_, s.text) for s in doc.spans["sc"]] == [("y", "b")]


def test_our_json_lines_are_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(CORPUS, path)
    first, second = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert first["passages"][0] == {"type": "title", "start": 0, "end": 24}
    assert second == {"id": "124", "text": "No mention here.", "entities": []}
