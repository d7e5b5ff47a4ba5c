"""UIMA CAS: what INCEpTION exports, and what it imports.

The files are of our own making, in the shapes that INCEpTION writes.
"""

from __future__ import annotations

import logging
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cassis import Cas, load_cas_from_xmi, load_dkpro_core_typesystem, load_typesystem
from hypothesis import given

from constrained_ner.corpora import detect_format, read, write
from constrained_ner.corpora.inception import NAMED_ENTITY, SENTENCE, TOKEN, TYPES
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError, MissingExtraError
from tests.support.strategies import documents, examples

TEXT = "Took \N{GRINNING FACE} aspirin & <eased>\r\nthe knee."
ASPIRIN, KNEE = Entity("DRUG", ((7, 14),)), Entity("SITE", ((30, 34),))


def cas_of(*spans: tuple[str, int, int, dict[str, Any]], types: Any = None) -> Cas:
    cas = Cas(typesystem=types or load_dkpro_core_typesystem())
    cas.sofa_string, cas.sofa_mime = TEXT, "text"
    for layer, begin, end, features in spans:
        cas.add(cas.typesystem.get_type(layer)(begin=begin, end=end, **features))
    return cas


def read_all(path: Path) -> tuple[list[Document], list[InputError]]:
    records = list(read(path))
    return (
        [record for record in records if isinstance(record, Document)],
        [record for record in records if isinstance(record, InputError)],
    )


def exported(folder: Path) -> Path:
    """What INCEpTION exports of a document: its layers, and the project's type system."""
    folder.mkdir(parents=True, exist_ok=True)
    types = load_dkpro_core_typesystem()
    drug = types.create_type("webanno.custom.Drug", "uima.tcas.Annotation")
    types.create_feature(drug, "label", "uima.cas.String")
    types.create_feature(drug, "dose", "uima.cas.String")
    types.create_type("webanno.custom.Site", "uima.tcas.Annotation")
    treats = types.create_type("webanno.custom.Treats", "uima.tcas.Annotation")
    types.create_feature(treats, "Governor", drug)
    types.create_feature(treats, "Dependent", drug)
    cas = cas_of(
        (SENTENCE, 0, 24, {}),
        (TOKEN, 0, 4, {}),
        (NAMED_ENTITY, 7, 14, {"value": "DRUG", "identifier": "D1"}),
        ("webanno.custom.Drug", 7, 14, {"label": "NSAID", "dose": "5 mg"}),
        ("webanno.custom.Site", 30, 34, {}),
        ("webanno.custom.Treats", 7, 14, {}),
        (NAMED_ENTITY, 0, 4, {}),
        ("de.tudarmstadt.ukp.dkpro.core.api.lexmorph.type.pos.POS", 0, 4, {"PosValue": "VBD"}),
        types=types,
    )
    cas.to_xmi(folder / "letter 7.xmi")
    types.to_xml(folder / TYPES)
    return folder


@pytest.mark.parametrize("kind", ["folder", "file", "zip", "json"])
def test_inception(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    path = folder = exported(tmp_path / "in")
    if kind == "zip":
        path = tmp_path / "letter 7.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in folder.iterdir():
                archive.write(file, file.name)
    elif kind != "folder":
        path = folder / "letter 7.xmi"
    if kind == "json":
        types = load_typesystem(folder / TYPES)
        load_cas_from_xmi(path, types).to_json(tmp_path / "letter 7.json")
        path = tmp_path / "letter 7.json"
    assert detect_format(path) == "inception"
    with caplog.at_level(logging.INFO):
        found, errors = read_all(path)
    entities = (ASPIRIN, Entity("NSAID", ((7, 14),)), Entity("Site", ((30, 34),)))
    assert (found, errors) == ([Document("letter 7", TEXT, entities)], [])
    messages = [message.partition(": ")[2] for message in caplog.messages]
    assert "skipped an annotation: it has no label" in messages
    assert "1 concept identifiers, passed over" in messages
    assert "2 annotations of other layers, passed over" in messages


def test_without_a_type_system_custom_layers_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = exported(tmp_path / "in")
    (folder / TYPES).unlink()
    with caplog.at_level(logging.INFO):
        (found,), _ = read_all(folder)
    assert found.entities == (ASPIRIN,)
    assert any(
        "3 annotations of types that the type system has not, passed over" in message
        for message in caplog.messages
    )


@pytest.mark.parametrize(
    ("layer", "features", "values", "label"),
    [
        ("webanno.custom.Drug", ["kind"], {"kind": "NSAID"}, "NSAID"),
        ("webanno.custom.Drug", ["kind", "value"], {"kind": "x", "value": "NSAID"}, "NSAID"),
        ("webanno.custom.Drug", ["kind", "dose"], {"kind": "NSAID", "dose": "5 mg"}, "Drug"),
        ("webanno.custom.Drug", [], {}, "Drug"),
        ("webanno.custom.Drug", ["kind"], {}, None),
        (f"{NAMED_ENTITY}Kind", [], {}, "NamedEntityKind"),
        (f"{NAMED_ENTITY}Kind", [], {"value": "DRUG"}, "DRUG"),
    ],
)
def test_what_the_label_of_a_layer_is(
    tmp_path: Path, layer: str, features: list[str], values: dict[str, str], label: str | None
) -> None:
    types = load_dkpro_core_typesystem()
    supertype = NAMED_ENTITY if layer.startswith(NAMED_ENTITY) else "uima.tcas.Annotation"
    made = types.create_type(layer, supertype)
    for feature in features:
        types.create_feature(made, feature, "uima.cas.String")
    cas_of((layer, 7, 14, values), types=types).to_json(tmp_path / "a.json")
    (found,), errors = read_all(tmp_path / "a.json")
    assert ([entity.label for entity in found.entities], errors) == ([label] if label else [], [])


def test_a_project(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its archive has one for each user and document; what was curated is taken."""
    exported(tmp_path / "in")
    types = load_dkpro_core_typesystem()
    cas_of((NAMED_ENTITY, 7, 14, {"value": "curated"}), types=types).to_xmi(tmp_path / "c.xmi")
    cas_of(types=types).to_xmi(tmp_path / "none.xmi")
    archive = tmp_path / "project.zip"
    with zipfile.ZipFile(archive, "w") as outer:
        outer.writestr("exportedproject.json", '{\n  "name" : "p"\n}')
        outer.writestr("source/a.txt", TEXT)
        for name, xmi in (
            ("annotation/a.txt/INITIAL_CAS.zip", tmp_path / "none.xmi"),
            ("annotation/a.txt/bob.zip", tmp_path / "none.xmi"),
            ("annotation/a.txt/alice.zip", tmp_path / "in" / "letter 7.xmi"),
            ("annotation/b.txt/alice.zip", tmp_path / "none.xmi"),
            ("curation/b.txt/CURATION_USER.zip", tmp_path / "c.xmi"),
            ("annotation/c.txt/INITIAL_CAS.zip", tmp_path / "none.xmi"),
        ):
            inner = tmp_path / "inner.zip"
            with zipfile.ZipFile(inner, "w") as packed:
                packed.write(xmi, f"{Path(name).stem}.xmi")
                packed.write(tmp_path / "in" / TYPES, TYPES)
            outer.write(inner, name)
        outer.writestr("annotation/d.txt/alice.zip", b"no zip")
    assert detect_format(archive) == "inception"
    with caplog.at_level(logging.INFO):
        found, (error,) = read_all(archive)
    assert [(document.id, {e.label for e in document.entities}) for document in found] == [
        ("a.txt", {"DRUG", "NSAID", "Site"}),
        ("b.txt", {"curated"}),
        ("c.txt", set()),
    ]
    assert str(error).startswith(f"{archive}/annotation/d.txt/alice.zip: cannot be read")
    assert caplog.messages[:2] == [
        "2 annotations of a document by further users, left out",
        "1 documents that nobody has annotated, read as they were imported",
    ]


def test_white_space_of_any_kind_is_written(tmp_path: Path) -> None:
    text = "Hepatitis B\u00a0. Then\u2028he left\x1f. No\u3000."
    item = Document("1", text, (Entity("Disease", ((0, 11),)),))
    write([item], tmp_path / "a.inception")
    ((back,), errors) = read_all(tmp_path / "a.inception")
    assert (back.entities, errors) == (item.entities, [])


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("<xmi:XMI", f"{BOMB}<xmi:XMI"), "it declares the entity 'a', which is refused"),
        (("<xmi:XMI", f"{OUTSIDE}<xmi:XMI"), "it declares the entity 'a', which is refused"),
        (("Took", "Took&x;"), "undefined entity"),
        (("Took", "Took\x01"), "not well-formed XML"),
        (("</xmi:XMI>", ""), "not well-formed XML"),
        (('sofaString="', 'sofaURI="'), "it has no text"),
        (('end="15"', 'end="6"'), "an offset lies outside the text"),
        (('end="15"', 'end="99"'), "an offset lies outside the text"),
        (('end="15"', 'end="x"'), "not a UIMA CAS: ValueError"),
        (('sofa="1" begin="8"', 'sofa="77" begin="8"'), "not a UIMA CAS: KeyError"),
    ],
)
def test_a_broken_cas_does_not_lose_the_others(
    tmp_path: Path, change: tuple[str, str], reason: str
) -> None:
    item = Document("a", TEXT, (ASPIRIN,))
    folder = tmp_path / "a.inception"
    write([item, Document("b", TEXT, (ASPIRIN,)), Document("c", TEXT)], folder)
    path = folder / "b.xmi"
    content = path.read_text(encoding="utf-8")
    assert change[0] in content
    path.write_text(content.replace(*change), encoding="utf-8")
    found, (error,) = read_all(folder)
    assert found == [item, Document("c", TEXT)]
    assert str(error).startswith(str(path))
    assert reason in str(error)


def test_a_type_system_is_refused_for_the_same_reasons(tmp_path: Path) -> None:
    write([Document("a", TEXT)], tmp_path / "a.inception")
    path = tmp_path / "a.inception" / TYPES
    content = path.read_text(encoding="utf-8")
    path.write_text(content.replace("<typeSystem", f"{BOMB}<typeSystem", 1), encoding="utf-8")
    found, (error,) = read_all(tmp_path / "a.inception")
    assert found == []
    assert "it declares the entity 'a'" in str(error)
    path.write_text("<typeSystemDescription>", encoding="utf-8")
    _, (error,) = read_all(tmp_path / "a.inception")
    assert "not well-formed XML" in str(error)


def test_a_json_cas_that_is_broken(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"%TYPES": {}, "%FEATURE_STRUCTURES": [{"%ID": 1}]}')
    (tmp_path / "b.json").write_text('{"%TYPES": ')
    cas_of((NAMED_ENTITY, 7, 14, {"value": "DRUG"})).to_json(tmp_path / "c.json")
    found, errors = read_all(tmp_path)
    assert found == [Document("c", TEXT, (ASPIRIN,))]
    assert ["not a UIMA CAS" in str(error) for error in errors] == [True, True]


@examples(30)
@given(documents(["DRUG", "cell type", "\x01"], boundaries="character"))
def test_cassis_reads_what_is_written(
    tmp_path_factory: pytest.TempPathFactory, item: Document
) -> None:
    """Each entity is made of tokens and lies in one sentence, as INCEpTION's layer wants it."""
    folder = tmp_path_factory.mktemp("cas") / "a.inception"
    losses = write([item], folder)
    cas = load_cas_from_xmi(folder / "d.xmi", load_typesystem(folder / TYPES))
    if "texts or labels with characters that XML cannot hold" not in losses.counts:
        assert cas.sofa_string == item.text
    kept = [entity for entity in item.entities if not entity.discontinuous]
    found = [(e.begin, e.end) for e in cas.select(NAMED_ENTITY)]
    assert sorted(found) == sorted((e.start, e.end) for e in kept)
    tokens = [(token.begin, token.end) for token in cas.select(TOKEN)]
    sentences = [(sentence.begin, sentence.end) for sentence in cas.select(SENTENCE)]
    assert all(a[1] <= b[0] for some in (tokens, sentences) for a, b in pairwise(some))
    for begin, end in found:
        assert begin in {token[0] for token in tokens}
        assert end in {token[1] for token in tokens}
        assert any(s <= begin and end <= e for s, e in sentences)
    covered = "".join(cas.sofa_string[s:e] for s, e in tokens)
    assert covered == "".join(cas.sofa_string.split())


def test_the_folder_has_to_be_new_and_cassis_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write([Document("a", TEXT)], tmp_path / "a.inception")
    with pytest.raises(InputError, match="expected a new or an empty folder"):
        write([Document("a", TEXT)], tmp_path / "a.inception")
    monkeypatch.setattr("constrained_ner.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"constrained_ner\[inception\]"):
        write([], tmp_path / "b.inception")
    with pytest.raises(MissingExtraError):
        list(read(tmp_path / "a.inception"))
