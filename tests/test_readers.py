"""The readers of PubTator, BioC, GENIA, BC2GM, CHEMDNER, CADEC, BioNLP, Knowtator and BigBIO.

The files are of our own making, in the layouts in which the corpora are distributed: what they
hold, and each kind of malformed input.
"""

from __future__ import annotations

import gzip
import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from constrained_ner.corpora import INPUT_FORMATS, detect_format, files, xml
from constrained_ner.corpora import read as read_corpus
from constrained_ner.documents import Document, Entity, Passage
from constrained_ner.errors import InputError
from tests.support.strategies import examples
from tests.test_corpora import mentions, pack, read

TITLE = "Left and right knee pain"
ABSTRACT = "Aspirin eased the knee pain."
TEXT = f"{TITLE}\n{ABSTRACT}"
PASSAGES = (Passage("title", 0, 24), Passage("abstract", 25, 53))
KNEE = Entity("Finding", ((9, 24),))
LEFT = Entity("Finding", ((0, 4), (15, 24)))
ASPIRIN = Entity("Drug", ((25, 32),))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


# ---- PubTator

PUBTATOR = (
    f"1|t|{TITLE}\n1|a|{ABSTRACT}\n"
    "1\t9\t24\tright knee pain\tFinding\tD000\n"
    "1\t25\t32\tAspirin\tDrug\t-1\n"
    "1\tCID\tD1\tD2\n"
)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\n", "\ufeff", "\ufeff\n\n"])
@pytest.mark.parametrize("between", ["\n", "\n \n", ""])
def test_pubtator(tmp_path: Path, line_end: str, start: str, between: str) -> None:
    path = tmp_path / "a.PubTator.txt"
    content = f"{start}{PUBTATOR}{between}2|t|Empty|t|\n2|a|\n"
    path.write_bytes(content.replace("\n", line_end).encode())
    assert detect_format(path) == "pubtator"
    documents, errors = read(path)
    assert errors == []
    assert documents == [
        Document("1", TEXT, (KNEE, ASPIRIN), PASSAGES),
        Document("2", "Empty|t|", (), (Passage("title", 0, 8),)),
    ]


@pytest.mark.parametrize("start", ["", "-1", "+3", "3.5", "(3)"])
def test_a_broken_row_of_pubtator_is_no_relation(
    start: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.pubtator"
    path.write_text(f"{PUBTATOR}1\t{start}\t3\tab\tDrug\n")
    with caplog.at_level(logging.INFO):
        read(path)
    assert f"{path}:6: skipped" in caplog.messages[0]
    assert f"{path}: 1 relation rows, passed over" in caplog.messages


def test_pubtator_counts_what_it_passes_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.pubtator"
    path.write_text(PUBTATOR)
    with caplog.at_level(logging.INFO):
        read(path)
    assert caplog.messages == [
        f"{path}: 1 relation rows, passed over",
        f"{path}: 1 concept identifiers, passed over",
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1\t9\t24\tleft knee pain\tFinding", "the surface 'left knee pain' is not what 9 24 give"),
        ("1\t9\t240\tright knee pain\tFinding", "the offsets 9 240 lie outside the text"),
        ("1\t24\t9\tright knee pain\tFinding", "the fragments 24 9 are not all 0 <= start < end"),
        ("1\t9\t24\tright knee pain", "expected ID|t|title"),
        ("1\t9\tx\tright knee pain\tFinding", "expected ID|t|title"),
        ("1\t9\t24\tright knee pain\t", "it has no label"),
        ("2\t9\t24\tright knee pain\tFinding", "it belongs to '2', not to '1'"),
        ("nonsense", "it belongs to 'nonsense', not to '1'"),
        (f"1\t9\t{'9' * 5000}\tright knee pain\tFinding", "lie outside the text"),
    ],
)
def test_pubtator_bad_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, row: str, reason: str
) -> None:
    path = tmp_path / "a.pubtator"
    path.write_text(PUBTATOR + row + "\n")
    documents, errors = read(path)
    assert (documents[0].entities, errors) == ((KNEE, ASPIRIN), [])
    (warning,) = warnings(caplog)
    assert warning.startswith(f"{path}:6: skipped")
    assert reason in warning


@pytest.mark.parametrize(
    ("record", "line", "reason"),
    [
        (b"9\t0\t1\tx\tFinding\n", 7, "expected ID|t|title"),
        (b"9|t|one\n9|t|two\n", None, None),
        (b"9|t|one\n9|a|x\n9|a|y\n", 9, "a second |a| line"),
        (b"9|t|one\n8|a|two\n", 8, "'8' among the lines of '9'"),
        (b"9|t|caf\xe9\n", 7, "not UTF-8: byte 0xe9"),
    ],
)
def test_pubtator_broken_record_does_not_lose_the_others(
    tmp_path: Path, record: bytes, line: int | None, reason: str | None
) -> None:
    path = tmp_path / "a.pubtator"
    path.write_bytes(PUBTATOR.encode() + b"\n" + record + b"\n3|t|After\n3|a|it\n")
    documents, errors = read(path)
    if line is None:  # a title begins a record
        assert [d.text for d in documents] == [TEXT, "one", "two", "After\nit"]
    else:
        assert [d.id for d in documents] == ["1", "3"]
        assert [error.line for error in errors] == [line]
        assert reason is not None
        assert reason in str(errors[0])


# ---- BioC

BIOC = f"""<?xml version='1.0' encoding='UTF-8'?><!DOCTYPE collection SYSTEM 'BioC.dtd'>
<collection><source/><date/><key/>
<document><id>1</id>
<passage><infon key="type">title</infon><offset>0</offset><text>{TITLE}</text>
<annotation id="0"><infon key="type">Finding</infon>
<location offset="15" length="9"/><location offset="0" length="4"/>
<text>Left knee pain</text></annotation>
<annotation id="1"><infon key="type">Finding</infon>
<location offset="9" length="15"/><text>right knee pain</text></annotation>
</passage>
<passage><infon key="type">abstract</infon><offset>25</offset><text>{ABSTRACT}</text>
<annotation id="2"><infon key="type">Drug</infon><infon key="MESH">D1</infon>
<location offset="25" length="7"/><text>Aspirin</text></annotation>
<relation id="R0"><node refid="1" role="a"/></relation>
</passage>
</document>
</collection>
"""


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
def test_bioc_xml(tmp_path: Path, line_end: str, encoding: str) -> None:
    path = tmp_path / "a.xml"
    declared = BIOC.replace("UTF-8", encoding.removesuffix("-sig")).replace("\n", line_end)
    path.write_bytes(declared.encode(encoding))
    assert read(path, "bioc_xml") == ([Document("1", TEXT, (LEFT, KNEE, ASPIRIN), PASSAGES)], [])


def test_bioc_xml_never_resolves_the_dtd(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The DTD beside it declares an entity; a parser that read it would have the file's text."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (tmp_path / "BioC.dtd").write_text(f'<!ENTITY x SYSTEM "{secret}"><!ENTITY y "boo">')
    for name in ("x", "y"):
        path = tmp_path / f"{name}.xml"
        path.write_text(BIOC.replace(TITLE, f"Left &{name};"))
        documents, errors = read(path, "bioc_xml")
        assert documents == []
        assert f"{path}:4: the entity &{name}; is declared nowhere" in str(errors[0])


@pytest.mark.parametrize(
    "declaration",
    [
        '<!ENTITY x SYSTEM "file:///etc/passwd">',
        '<!ENTITY x "boo">',
        '<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;&x;&x;&x;&x;&x;">',
        '<!ENTITY % p SYSTEM "http://127.0.0.1:9/x.dtd"> %p;',
    ],
)
def test_xml_that_declares_entities_is_refused(tmp_path: Path, declaration: str) -> None:
    path = tmp_path / "a.xml"
    doctype = f"<!DOCTYPE collection [{declaration}]>"
    path.write_text(BIOC.replace("<!DOCTYPE collection SYSTEM 'BioC.dtd'>", doctype))
    documents, errors = read(path, "bioc_xml")
    assert documents == []
    assert f"{path}:1: it declares the entity" in str(errors[0])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("<id>1</id>", "", "a document's id is None: expected a string"),
        ("<offset>25</offset>", "<offset>x</offset>", "a passage's offset is 'x'"),
        ("<offset>25</offset>", "<offset>3</offset>", "begins before the end of another one, 24"),
        ("<offset>25</offset>", "<offset>999999999</offset>", "expected 100000 at most"),
    ],
)
def test_bioc_broken_document_does_not_lose_the_others(
    tmp_path: Path, old: str, new: str, reason: str
) -> None:
    head, rest = BIOC.split("<document>", 1)
    body, tail = rest.split("</document>")
    path = tmp_path / "a.xml"
    broken, good = body.replace(old, new), body.replace("<id>1<", "<id>2<")
    path.write_text(f"{head}<document>{broken}</document><document>{good}</document>{tail}")
    documents, errors = read(path)
    assert [d.id for d in documents] == ["2"]
    assert str(errors[0]).startswith(f"{path}:3: ")
    assert reason in str(errors[0])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("<text>Aspirin<", "<text>Aspirine<", "the surface 'Aspirine' is not what 25 32 give"),
        ('offset="25"', 'offset="2500"', "lie outside the text"),
        ('offset="25"', 'offset="-5"', "are not all 0 <= start < end"),
        ('<location offset="25" length="7"/>', "", "it has no offsets"),
        ('<infon key="type">Drug</infon>', "", "it has no label"),
        ('offset="25"', 'offset="x"', "a location's offset is 'x': expected an integer"),
        ('length="7"', "", "a location's length is None: expected an integer"),
    ],
)
def test_bioc_bad_annotation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, old: str, new: str, reason: str
) -> None:
    """It costs neither its document nor the other annotations."""
    path = tmp_path / "a.xml"
    path.write_text(BIOC.replace(old, new))
    assert read(path) == ([Document("1", TEXT, (LEFT, KNEE), PASSAGES)], [])
    (warning,) = warnings(caplog)
    assert warning.startswith(f"{path}:12: skipped")
    assert reason in warning


@pytest.mark.parametrize("broken", [5, {"locations": 5}, {"locations": [{"offset": 1}]}])
def test_bioc_json_malformed_annotation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: object
) -> None:
    path = tmp_path / "a.json"
    record: Any = bioc_json()
    record["passages"][1]["annotations"].insert(0, broken)
    path.write_text(json.dumps(record, indent=1))
    assert read(path) == ([Document("1", TEXT, (LEFT, KNEE, ASPIRIN), PASSAGES)], [])
    (warning,) = warnings(caplog)
    assert warning.startswith(f"{path}: document 1: skipped an annotation: ")


@pytest.mark.parametrize(
    ("mark", "documents", "reason"),
    [
        ("<collection>", 0, "no element found"),
        ("<passage>", 0, "no element found"),
        ("<infon ke", 0, "unclosed token"),
        ("Aspirin ea", 0, "no element found"),
        ("</document>", 1, "no element found"),
        ("</collection", 1, "unclosed token"),
    ],
)
def test_truncated_xml(tmp_path: Path, mark: str, documents: int, reason: str) -> None:
    path = tmp_path / "a.xml"
    kept = BIOC[: BIOC.index(mark) + len(mark)]
    path.write_text(kept)
    found, (error,) = read(path, "bioc_xml")
    assert len(found) == documents
    line = kept.count("\n") + 1
    assert str(error) == f"{path}:{line}: not well-formed XML: {reason}; nothing after it is read"


def test_xml_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(BIOC.replace("eased", "eas\xe9d").encode("latin-1"))
    documents, errors = read(path)
    assert documents == []
    assert str(errors[0]).startswith(f"{path}:11: not well-formed XML: not well-formed")


@pytest.mark.parametrize("encoding", ["UTF.-8", "utf-7", "base64", "x" * 200, "cp037"])
def test_xml_in_an_encoding_that_is_not_known(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(BIOC.replace("UTF-8", encoding))
    documents, errors = read(path, "bioc_xml")
    assert documents == []
    assert str(errors[0]).startswith(f"{path}:")


def test_hostile_sizes_of_xml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.xml"
    path.write_text("<collection><document>" + "<x>" * 100_000)
    assert "elements more than 200 deep" in str(read(path)[1][0])
    monkeypatch.setattr(xml, "SUBTREE_LIMIT", 1000)
    path.write_text(f"<collection><document><id>{'x' * 2000}</id></document></collection>")
    assert "of over 1000 characters" in str(read(path)[1][0])
    monkeypatch.setattr(files, "LINE_LIMIT", 1000)
    (tmp_path / "a.tsv").write_text("x" * 2000)
    with pytest.raises(InputError, match=r"a\.tsv:1: a line of over 1000 bytes"):
        read(tmp_path / "a.tsv", "conll")
    monkeypatch.setattr(files, "MEMBER_LIMIT", 1000)
    (tmp_path / "a.json").write_text("[" + " " * 2000)
    with pytest.raises(InputError, match=r"a\.json: larger than 1000 bytes"):
        read(tmp_path / "a.json", "bioc_json")


def bioc_json() -> dict[str, object]:
    def annotation(label: str, text: str, *places: tuple[int, int]) -> dict[str, object]:
        locations = [{"offset": start, "length": length} for start, length in places]
        return {"id": "0", "infons": {"type": label}, "text": text, "locations": locations}

    title: dict[str, object] = {"offset": 0, "infons": {"type": "title"}, "text": TITLE}
    title["annotations"] = [
        annotation("Finding", "Left knee pain", (0, 4), (15, 9)),
        annotation("Finding", "right knee pain", (9, 15)),
    ]
    abstract: dict[str, object] = {"offset": 25, "infons": {"type": "abstract"}, "text": ABSTRACT}
    abstract["annotations"] = [annotation("Drug", "Aspirin", (25, 7))]
    return {"id": "1", "infons": {}, "passages": [title, abstract]}


@pytest.mark.parametrize("shape", ["collection", "list", "collections", "document", "service"])
def test_bioc_json(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "a.json"
    record = bioc_json()
    content = {
        "collection": {"source": "x", "documents": [record]},
        "list": [record],
        # As PubMed Central's service has it.
        "collections": [{"bioctype": "BioCCollection", "infons": {}, "documents": [record]}],
        "document": record,
        "service": {"PubTator3": [record]},
    }[shape]
    path.write_text(json.dumps(content, indent=1))
    assert detect_format(path) == "bioc_json"
    assert read(path) == ([Document("1", TEXT, (LEFT, KNEE, ASPIRIN), PASSAGES)], [])


@pytest.mark.parametrize("offset", ["25.5", "true", "null", '"x"', "[]"])
def test_bioc_json_offsets_are_whole_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, offset: str
) -> None:
    path = tmp_path / "a.json"
    content = json.dumps({"documents": [bioc_json()]})
    path.write_text(content.replace('"offset": 25, "length"', f'"offset": {offset}, "length"'))
    assert path.read_text() != content
    assert read(path, "bioc_json") == ([Document("1", TEXT, (LEFT, KNEE), PASSAGES)], [])
    (warning,) = warnings(caplog)
    assert "skipped an annotation: a location's offset is" in warning
    assert "expected an integer" in warning


def test_bioc_json_broken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.json"
    shifted = json.loads(json.dumps(bioc_json()).replace('"offset": 9,', '"offset": 8,'))
    path.write_text(
        json.dumps({"documents": [{"id": 1.5}, {"id": "8", "passages": 1}, None, shifted]})
    )
    documents, errors = read(path, "bioc_json")
    assert [d.entities for d in documents] == [(LEFT, ASPIRIN)]
    assert [str(error) for error in errors] == [
        f"{path}: document 1: a document's id is 1.5: expected a string",
        f"{path}: document 2: the passages is 1: expected a list of objects",
        f"{path}: document 3: it is None: expected an object",
    ]
    (warning,) = warnings(caplog)
    assert f"{path}: document 1: skipped Finding: the surface 'right knee pain'" in warning
    for content in ('{"documents": [', '{"documents": 1}', "[" * 100_000):
        path.write_text(content)
        with pytest.raises(InputError, match=r"a\.json: (not JSON|the documents are)"):
            read(path, "bioc_json")
    # JavaScript may cut a character in two.
    good = bioc_json() | {"id": 7}
    broken = json.loads(json.dumps(good))
    broken["passages"][0]["text"] += "\ud83d"
    path.write_text(json.dumps({"documents": [broken, good]}))
    documents, errors = read(path, "bioc_json")
    assert [d.id for d in documents] == ["7"]
    (error,) = errors
    assert "document 1: the passage at offset 0 has a lone surrogate" in str(error)


# ---- GENIA

GENIA = """<?xml version="1.0"?>
<!DOCTYPE set SYSTEM "gpml.dtd">
<set><article><articleinfo><bibliomisc>MEDLINE:1</bibliomisc></articleinfo>
<title><sentence><cons lex="a" sem="G#protein_molecule"><cons sem="G#DNA_N/A">IL-2</cons> \
receptor</cons> &amp; <cons sem="(AND G#x G#y)"><cons>T</cons></cons></sentence></title>
<abstract><sentence><cons sem="G#cell_type"><cons sem="G#cell_type">T cells</cons></cons> of \
<cons sem="G#other_name">x</cons>.</sentence>
<sentence>No mention.</sentence></abstract>
</article><article><articleinfo/><title><sentence>Last</sentence></title></article></set>
"""


def test_genia(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "GENIAcorpus.xml"
    path.write_text(GENIA)
    assert detect_format(path) == "genia"
    with caplog.at_level(logging.INFO):
        documents, errors = read(path)
    assert errors == []
    assert [(d.id, d.text, mentions(d)) for d in documents] == [
        ("MEDLINE:1:1", "IL-2 receptor & T", [("protein", "IL-2 receptor"), ("DNA", "IL-2")]),
        ("MEDLINE:1:2", "T cells of x.", [("cell_type", "T cells")]),
        ("MEDLINE:1:3", "No mention.", []),
        ("line 7:1", "Last", []),
    ]
    assert sorted(caplog.messages) == [
        f"{path}: 1 <cons> of other classes, passed over",
        f"{path}: 1 <cons> with a composite class, passed over",
        f"{path}: 1 <cons> without a class, passed over",
        f"{path}: 1 annotations that say the same as another one",
    ]


def test_truncated_genia(tmp_path: Path) -> None:
    path = tmp_path / "GENIAcorpus.xml"
    path.write_text(GENIA[: GENIA.index("</article><article>") + 25])
    documents, errors = read(path)
    assert len(documents) == 3
    assert f"{path}:7: not well-formed XML" in str(errors[0])


# ---- BC2GM

SENTENCES = "P1T0 Left and right knee\nP2A3 IL-2  receptor gene \nP3T0 nothing\n"
# characters without white space, the last one inclusive
GENES = "P2A3|0 11|IL-2  receptor\nP2A3|0 3|IL-2\nP1T0|7 15|right knee\n"


def test_bc2gm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        (tmp_path / part / f"{part}.in").write_text(SENTENCES)
        (tmp_path / part / "GENE.eval").write_text(GENES)
        (tmp_path / part / "ALTGENE.eval").write_text("P1T0|0 3|Left\n")
    expected = [
        Document("P1T0", "Left and right knee", (Entity("GENE", ((9, 19),)),)),
        Document(
            "P2A3", "IL-2  receptor gene ", (Entity("GENE", ((0, 14),)), Entity("GENE", ((0, 4),)))
        ),
        Document("P3T0", "nothing"),
    ]
    for path in (tmp_path / "train", tmp_path / "test/test.in", tmp_path / "test/GENE.eval"):
        assert detect_format(path) == "bc2gm"
        assert read(path) == (expected, [])
    assert warnings(caplog) == []
    assert [d.text for d in read(tmp_path)[0]] == [d.text for d in expected] * 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("P2A3|0 3|IL-3", "the surface 'IL-3' is not what 0 4 give, 'IL-2'"),
        ("P2A3|0 99|IL-2", "lie outside the text"),
        ("P2A3|3 0|IL-2", "expected ID|first last|surface"),
        ("P2A3|0 3", "expected ID|first last|surface"),
        ("P2A3|a b|IL-2", "expected ID|first last|surface"),
        ("P9T9|0 3|IL-2", "there is no text P9T9"),
    ],
)
def test_bc2gm_bad_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, row: str, reason: str
) -> None:
    (tmp_path / "a.in").write_text(SENTENCES)
    (tmp_path / "GENE.eval").write_text(GENES + row + "\n")
    documents, errors = read(tmp_path)
    assert (sum(len(d.entities) for d in documents), errors) == (3, [])
    (warning,) = warnings(caplog)
    assert warning.startswith(f"{tmp_path}/GENE.eval:4: skipped")
    assert reason in warning


def test_bc2gm_broken_sentence_and_no_mentions(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.in").write_bytes(b"P1T0\nP2T0 caf\xe9\nP3T0 good\n")
    documents, errors = read(tmp_path / "a.in")
    assert [d.id for d in documents] == ["P3T0"]
    assert [error.line for error in errors] == [1, 2]
    assert warnings(caplog) == [f"{tmp_path}/a.in: there is no file of mentions beside it"]


# ---- CHEMDNER

CHEMICALS = "1\tA\t0\t7\tAspirin\tTRIVIAL\n1\tT\t0\t4\tLeft\tFAMILY\n"


def test_chemdner(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    texts = tmp_path / "training.abstracts.txt"
    texts.write_text(f"1\t{TITLE}\t{ABSTRACT}\n2\tshort\n3\tNo\tmention\n")
    rows = tmp_path / "training.annotations.txt"
    rows.write_text(
        CHEMICALS + "1\tX\t0\t4\tLeft\tFAMILY\n1\tT\t0\t4\tLift\tFAMILY\n9\tT\t0\t1\ta\tX\n"
    )
    for path in (tmp_path, texts, rows):
        caplog.clear()
        assert detect_format(path) == "chemdner"
        documents, errors = read(path)
        assert documents == [
            Document(
                "1", TEXT, (Entity("FAMILY", ((0, 4),)), Entity("TRIVIAL", ((25, 32),))), PASSAGES
            ),
            Document("3", "No\nmention", (), (Passage("title", 0, 2), Passage("abstract", 3, 10))),
        ]
        (error,) = errors
        assert str(error).startswith(f"{texts}:2: ")
        assert "expected id, title and abstract, separated by TABs" in str(error)
        places = [warning.split(": ")[0] for warning in warnings(caplog)]
        assert places == [f"{rows}:3", f"{rows}:4", f"{rows}:5"]


# ---- CADEC


@pytest.mark.parametrize("packed", [False, True])
def test_cadec(tmp_path: Path, packed: bool) -> None:
    contents = {
        "cadec/text/ARTHROTEC.1.txt": "I feel a bit drowsy &\r\nhave left and right knee pain",
        "cadec/original/ARTHROTEC.1.ann": (
            "T1\tADR 9 19\tbit drowsy\n#1\tAnnotatorNotes T1\tx\n"
            "T2\tADR 28 32;43 52\tleft knee pain\nT3\tADR 37 52\tright knee pain\n"
        ),
        "cadec/meddra/ARTHROTEC.1.ann": "TT1\t10013649 9 19\tbit drowsy\n",
        "cadec/text/LIPITOR.2.txt": "Nothing.",
        "cadec/original/LIPITOR.2.ann": "",
        "cadec/README.txt": "About it.",
    }
    if packed:
        path = tmp_path / "CADEC.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
    else:
        path = tmp_path
        for name, content in contents.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content.encode())
    assert detect_format(path) == "cadec"
    documents, errors = read(path)
    assert errors == []
    assert [d.id for d in documents] == ["ARTHROTEC.1", "LIPITOR.2"]
    assert mentions(documents[0]) == [
        ("ADR", "bit drowsy"),
        ("ADR", "left knee pain"),
        ("ADR", "right knee pain"),
    ]


# ---- BioNLP shared tasks

A1 = "T1\tDrug 25 32\tAspirin\n"
A2 = "T2\tFinding 9 24\tright knee pain\nT3\tRelief 33 38\teased\nE1\tRelief:T3 Theme:T2\n"


@pytest.mark.parametrize("packed", [False, True])
def test_bionlp(tmp_path: Path, packed: bool, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "corpus"
    (folder / "dev").mkdir(parents=True)
    for name, content in {"1.txt": TEXT, "1.a1": A1, "1.a2": A2, "2.txt": TEXT, "2.a1": A1}.items():
        (folder / "dev" / name).write_text(content)
    path = pack(folder, tmp_path / "corpus.tgz") if packed else folder
    assert detect_format(path) == "bionlp"
    with caplog.at_level(logging.INFO):
        documents, errors = read(path)
    relief = Entity("Relief", ((33, 38),))
    assert errors == []
    assert documents == [
        Document("dev/1", TEXT, (KNEE, ASPIRIN, relief)),
        Document("dev/2", TEXT, (ASPIRIN,)),
    ]
    assert caplog.messages == [
        f"{path}: 1 rows other than T (relations, events, notes), passed over"
    ]


@pytest.mark.parametrize("given", ["1.txt", "1.a1", "1.a2"])
def test_bionlp_files_of_one_document(tmp_path: Path, given: str) -> None:
    for name, content in {"1.txt": TEXT, "1.a1": A1, "1.a2": A2, "2.a1": A1}.items():
        (tmp_path / name).write_text(content)
    assert detect_format(tmp_path / given) == "bionlp"
    (document,), errors = read(tmp_path / given)
    assert (len(document.entities), errors) == (3, [])
    documents, errors = read(tmp_path)
    assert [d.id for d in documents] == ["1"]
    assert [str(error) for error in errors] == [f"{tmp_path}/2.a1: there is no .txt file beside it"]


def test_bionlp_texts_without_annotations_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, content in {"1.txt": TEXT, "1.a1": A1, "2.txt": TEXT}.items():
        (tmp_path / name).write_text(content)
    with caplog.at_level(logging.INFO):
        documents, errors = read(tmp_path)
    assert (documents, errors) == ([Document("1", TEXT, (ASPIRIN,)), Document("2", TEXT)], [])
    assert caplog.messages == [
        f"{tmp_path}: 1 texts without a file of annotations, read as without entities"
    ]


# ---- Knowtator


def knowtator(label: str, surface: str, *spans: tuple[int, int], source: str = "1.txt") -> str:
    """One annotation and its class, with a slot, as CRAFT and eHOST have them."""
    located = "".join(f'<span start="{start}" end="{end}"/>' for start, end in spans)
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<annotations textSource="{source}">
<annotation><mention id="x_Instance_1"/><annotator id="a">A. N.</annotator>
{located}<spannedText>{surface}</spannedText></annotation>
<classMention id="x_Instance_1"><mentionClass id="{label}">{surface}</mentionClass>
<hasSlotMention id="x_Instance_2"/></classMention>
<stringSlotMention id="x_Instance_2"><mentionSlot id="certainty"/></stringSlotMention>
</annotations>
"""


def test_knowtator(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, content in {
        "articles/txt/1.txt": TEXT,
        "articles/txt/2.txt": "Not annotated.",
        "CHEBI/1.txt.knowtator.xml": knowtator("CHEBI:1", "Aspirin", (25, 32)),
        "HPO/1.txt.knowtator.xml": knowtator("HP:1", "Left ... knee pain", (0, 4), (15, 24)),
        "HPO/3.txt.knowtator.xml": knowtator("HP:1", "Left", (0, 4), source="3.txt"),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert detect_format(tmp_path) == "knowtator"
    with caplog.at_level(logging.INFO):
        documents, errors = read(tmp_path)
    assert documents == [
        Document(
            "articles/txt/1",
            TEXT,
            (Entity("HP:1", ((0, 4), (15, 24))), Entity("CHEBI:1", ((25, 32),))),
        ),
        Document("articles/txt/2", "Not annotated."),
    ]
    unannotated = "1 texts without a file of annotations, read as without entities"
    assert f"{tmp_path}: {unannotated}" in caplog.messages
    assert [str(error) for error in errors] == [
        f"{tmp_path}/HPO/3.txt.knowtator.xml: its text '3.txt' is missing"
    ]
    assert f"{tmp_path}: 2 slots (attributes and relations), passed over" in caplog.messages
    (tmp_path / "1.txt").write_text(TEXT)
    _, errors = read(tmp_path)
    assert "its text '1.txt' is there several times: 1.txt, articles/txt/1.txt" in str(errors[0])


@pytest.mark.parametrize(
    ("name", "stated"),
    [
        ("O'Neil.txt", '"O\'Neil.txt"'),
        ("R&D.txt", '"R&amp;D.txt"'),
        ('"1".txt', "'\"1\".txt'"),
        ("1.txt.gz", '"1.txt"'),
    ],
)
def test_knowtator_texts_of_any_name(tmp_path: Path, name: str, stated: str) -> None:
    text = TEXT.encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    content = knowtator("Drug", "Aspirin", (25, 32)).replace('"1.txt"', stated)
    (tmp_path / "a.knowtator.xml").write_text(content)
    assert read(tmp_path) == ([Document(name.split(".")[0], TEXT, (ASPIRIN,))], [])


@pytest.mark.parametrize("given", ["1.txt", "1.txt.knowtator.xml"])
def test_knowtator_of_one_document(tmp_path: Path, given: str) -> None:
    (tmp_path / "1.txt").write_text(TEXT)
    content = knowtator("Drug", "Aspirin", (25, 32)).replace(' textSource="1.txt"', "")
    (tmp_path / "1.txt.knowtator.xml").write_text(content)
    (tmp_path / "2.txt").write_text(TEXT)
    assert detect_format(tmp_path / given) == "knowtator"
    assert read(tmp_path / given) == ([Document("1", TEXT, (ASPIRIN,))], [])
    assert detect_format(tmp_path / "2.txt") == "text"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('start="25"', 'start="x"', "it has no offsets"),
        ('start="25"', 'start="2500"', "are not all 0 <= start < end"),
        (">Aspirin</spannedText>", ">Aspirine</spannedText>", "the surface 'Aspirine' is not what"),
        ('<mentionClass id="Drug">Aspirin</mentionClass>', "", "it has no label"),
        ('<mention id="x_Instance_1"/>', "", "it has no label"),
    ],
)
def test_knowtator_bad_annotation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, old: str, new: str, reason: str
) -> None:
    (tmp_path / "1.txt").write_text(TEXT)
    path = tmp_path / "1.txt.knowtator.xml"
    content = knowtator("Drug", "Aspirin", (25, 32))
    assert old in content
    path.write_text(content.replace(old, new))
    assert read(tmp_path) == ([Document("1", TEXT)], [])
    (warning,) = warnings(caplog)
    assert warning.startswith(f"{path}:3: skipped")
    assert reason in warning


def test_truncated_knowtator(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text(TEXT)
    path = tmp_path / "1.txt.knowtator.xml"
    path.write_text(knowtator("Drug", "Aspirin", (25, 32))[:-20])
    documents, (error,) = read(tmp_path)
    assert documents == []
    assert str(error).startswith(f"{path}:7: not well-formed XML")


# ---- BigBIO


def bigbio() -> dict[str, Any]:
    def piece(type: str, *parts: tuple[int, str]) -> dict[str, object]:
        offsets = [[start, start + len(text)] for start, text in parts]
        return {"id": "0", "type": type, "text": [text for _, text in parts], "offsets": offsets}

    return {
        "id": "0",
        "document_id": "1",
        "passages": [piece("title", (0, TITLE)), piece("abstract", (25, ABSTRACT))],
        "entities": [
            {**piece("Finding", (0, "Left"), (15, "knee pain")), "normalized": []},
            {**piece("Finding", (9, "right knee pain")), "normalized": []},
            {**piece("Drug", (25, "Aspirin")), "normalized": []},
        ],
        "events": [],
        "coreferences": [],
        "relations": [],
    }


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_bigbio(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([bigbio()]), path)
    else:
        path.write_text(json.dumps([bigbio()] if suffix == ".json" else bigbio()))
    assert detect_format(path) == "bigbio"
    assert read(path) == ([Document("1", TEXT, (LEFT, KNEE, ASPIRIN), PASSAGES)], [])


@pytest.mark.parametrize(
    "broken", [5, {}, {"text": ["a"]}, {"text": ["a"], "offsets": [[0.5, 1]]}, {"offsets": 1}]
)
def test_bigbio_malformed_entity(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: object
) -> None:
    path = tmp_path / "a.jsonl"
    record = bigbio()
    path.write_text(json.dumps({**record, "entities": [broken, *record["entities"]]}))
    assert read(path) == ([Document("1", TEXT, (LEFT, KNEE, ASPIRIN), PASSAGES)], [])
    (warning,) = warnings(caplog)
    assert warning.startswith(f"{path}:1: skipped an annotation: an entity is ")


def test_what_bigbio_and_bioc_do_not_keep_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = {**bigbio(), "relations": [{}], "events": [{}, {}], "coreferences": None}
    record["entities"] = [{**entity, "normalized": [{}]} for entity in bigbio()["entities"]]
    (tmp_path / "a.json").write_text(json.dumps([record]))
    (tmp_path / "b.xml").write_text(BIOC)
    with caplog.at_level(logging.INFO):
        read(tmp_path / "a.json")
        read(tmp_path / "b.xml")
    assert sorted(caplog.messages) == [
        f"{tmp_path}/a.json: 1 relations, passed over",
        f"{tmp_path}/a.json: 2 events, passed over",
        f"{tmp_path}/a.json: 3 concept identifiers, passed over",
        f"{tmp_path}/b.xml: 1 infons other than the type, passed over",
        f"{tmp_path}/b.xml: 1 relations, passed over",
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "a.jsonl:2: not JSON"),
        ("[]", "a.jsonl:2: the key 'passages' is None: expected a list"),
        ('{"passages": 1}', "a.jsonl:2: the key 'passages' is 1: expected a list"),
        ('{"passages": [{"text": ["a"]}]}', "a.jsonl:2: a passage is"),
        ('{"passages": [], "entities": []}', "a.jsonl:2: the key 'document_id' is None"),
        ('{"passages": [{"text": ["a"], "offsets": [["0", 1]]}]}', "expected lists 'text' and"),
    ],
)
def test_bigbio_broken_record(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(bigbio())}\n{line}\n{json.dumps(bigbio())}\n")
    documents, errors = read(path, "bigbio")
    assert len(documents) == 2
    assert reason in str(errors[0])


def test_bigbio_bad_files(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[")
    with pytest.raises(InputError, match=r"a\.json: not JSON"):
        read(tmp_path / "a.json", "bigbio")


# ---- IOBES, BILOU and further columns


@pytest.mark.parametrize(
    "tags",
    ["O B-D E-D S-D O S-C", "O B-D L-D U-D O U-C", "O B-D I-D B-D O B-C", "O I-D I-D B-D O I-C"],
)
@pytest.mark.parametrize("between", ["", "\tNN", "\tNN\tO"])
def test_schemes_and_columns(tmp_path: Path, tags: str, between: str) -> None:
    path = tmp_path / "a.conll"
    words = ["the", "colon", "cancer", "AML", ",", "Aspirin"]
    rows = [f"{word}{between}\t{tag}" for word, tag in zip(words, tags.split(), strict=True)]
    path.write_text("\n".join(rows) + "\n")
    assert detect_format(path) == "conll"
    (document,), errors = read(path)
    assert errors == []
    assert document.text == " ".join(words)
    assert mentions(document) == [("D", "colon cancer"), ("D", "AML"), ("C", "Aspirin")]


# ---- anything at all

SAMPLES: dict[str, tuple[str, bytes]] = {
    "brat": ("a.ann", b"T1\tDrug 0 7;9 12\tAspirin\nR1\tx Arg1:T1\n"),
    "cadec": ("text/a.txt", b"Aspirin helped\r\n"),
    "bionlp": ("a.a1", b"T1\tDrug 0 7;9 12\tAspirin\nE1\tx:T1\n"),
    "knowtator": (
        "a.txt.knowtator.xml",
        knowtator("x", "Aspirin", (0, 7), source="a.txt").encode(),
    ),
    "chemdner": ("a.abstracts.txt", f"1\t{TITLE}\t{ABSTRACT}\n".encode()),
    "bc2gm": ("a.in", SENTENCES.encode()),
    "genia": ("a.xml", GENIA.encode()),
    "bioc_xml": ("a.xml", BIOC.encode()),
    "bioc_json": ("a.json", json.dumps({"documents": [bioc_json()]}).encode()),
    "bigbio": ("a.json", json.dumps([bigbio()]).encode()),
    "jsonl": ("a.jsonl", b'{"text": "a b", "entities": [{"label": "x", "fragments": [[0, 1]]}]}\n'),
    "pubtator": ("a.pubtator", PUBTATOR.encode()),
    "conll": ("a.tsv", b"Aspirin\tB-Drug\nhelped\tO\n\nme\tO\n"),
    "nested_iob": ("a.iob2", b"Aspirin\tB-Drug\tO\nhelped\tO\tO\n\nme\tO\tB-x\n"),
    "text": ("a.txt", "Aspirin \u03b1\r\n".encode()),
    "lines": ("a.txt", "Aspirin \u03b1\r\n".encode()),
}
OTHERS = {
    "brat": ("a.txt", b"Aspirin, helped\r\n"),
    "bionlp": ("a.txt", b"Aspirin, helped\r\n"),
    "knowtator": ("a.txt", b"Aspirin, helped\r\n"),
    "cadec": ("original/a.ann", b"T1\tDrug 0 7\tAspirin\n"),
    "chemdner": ("a.annotations.txt", CHEMICALS.encode()),
    "bc2gm": ("GENE.eval", GENES.encode()),
}


Edits = list[tuple[int, int, bytes, bool]]

# Places are taken modulo the length, which for archives depends on the time of day.
JUNK = [
    *(b"\x00", b"\xff", b"\t", b"\n", b"\r", b"|", b"<", b"&x;", b"]]>", b"-1", b"9" * 30),
    *(b'"', b"null", b"[", b"{}", b"1e9", b"\xef\xbb\xbf", b"\xff\xfe"),
]
EDITS = st.lists(
    st.tuples(
        st.integers(0, 5000),
        st.integers(0, 20),
        st.one_of(st.sampled_from(JUNK), st.binary(max_size=4)),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


def damaged(data: bytes, edits: Edits) -> bytes:
    """The data with some bytes cut out, put in, repeated or replaced."""
    for place, length, junk, keep in edits:
        start = place % (len(data) + 1)
        end = start + length
        data = data[:start] + junk + (data[start:end] * 2 if keep else b"") + data[end:]
    return data


@pytest.mark.parametrize("packed", [None, "tar", "tgz", "zip"])
@pytest.mark.parametrize("name", [name for name in INPUT_FORMATS if name in SAMPLES])
@examples(25)
@given(st.data())
def test_damage_is_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, packed: str | None, data: st.DataObject
) -> None:
    """Whatever a file holds: documents, errors of ours, nothing else."""
    contents = dict(pair for pair in (SAMPLES[name], OTHERS.get(name)) if pair)
    victim = data.draw(st.sampled_from(sorted(contents)))
    contents[victim] = damaged(contents[victim], data.draw(EDITS))
    folder = tmp_path_factory.mktemp("damage")
    for file, content in contents.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(content)
    path = folder
    if packed:
        path = pack(folder, folder.with_suffix(f".{packed}"))
        if data.draw(st.booleans()):
            path.write_bytes(damaged(path.read_bytes(), data.draw(EDITS)))
    for input_format in (name, None):
        try:
            records = list(read_corpus(path, input_format))
        except InputError:
            continue
        assert all(isinstance(record, Document | InputError) for record in records)
