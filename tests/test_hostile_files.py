"""Files that broke readers, or kept them busy for hours: each is an error of ours, and soon."""

from __future__ import annotations

import io
import json
import lzma
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from constrained_ner.cli.output import Output
from constrained_ner.corpora import passages, read, write, xml
from constrained_ner.corpora.spelling import spelled_alike
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import CnerError, InputError, ModelError
from constrained_ner.evaluation.ceiling import ceiling
from constrained_ner.evaluation.records import Setting
from constrained_ner.pipeline.manifest import load_manifest
from constrained_ner.pipeline.view import in_one_line
from tests.support.commands import cner

BIG = "9" * 4300  # the longest number that Python reads, the sum of two of which it cannot print


def outcome(path: Path, input_format: str | None = None) -> tuple[list[str], list[str]]:
    """The texts that are read, and the errors."""
    try:
        records = list(read(path, input_format))
    except CnerError as error:
        return [], [str(error)]
    texts = [record.text for record in records if isinstance(record, Document)]
    return texts, [str(record) for record in records if isinstance(record, InputError)]


def json_lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


# ---- a time that grows with what a file holds


def test_surfaces_in_ascii_are_compared_in_no_time() -> None:
    assert not spelled_alike("μ" * 60, "mu" * 40 + "x")
    assert spelled_alike("μ" * 60, "mu" * 40 + "u" * 20)


def test_long_offsets_of_a_short_surface(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.txt").write_text("α " * 500_000)
    rows = (f"T{n}\tX 0 {900_000 + n}\ta\n" for n in range(2000))
    (tmp_path / "a.ann").write_text("".join(rows))
    texts, errors = outcome(tmp_path)
    assert (len(texts), errors) == (1, [])
    assert "the surface 'a' is far shorter than what 0 900000 give" in caplog.text


def test_rows_with_a_quote_that_is_not_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from constrained_ner.corpora import text_table

    path = tmp_path / "a.csv"
    path.write_text("text,id\n" + 'x","\n' * 400)
    assert len(outcome(path)[1]) == 400
    monkeypatch.setattr(text_table, "GIVEN_BACK_LIMIT", 10_000)
    errors = outcome(path)[1]
    assert len(errors) == text_table.GIVEN_BACK_TIMES + 1
    assert errors[-1].endswith("nothing after it is read")


def test_a_long_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text," + ",".join(f"c{n}" for n in range(50_000)) + "\n")
    assert outcome(path) == ([], [])


def test_long_tags_of_xml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.xml"
    monkeypatch.setattr(xml, "TOKEN_LIMIT", 10**6)
    path.write_text("<collection a='" + "a" * 3_000_000)
    assert "a tag, attribute or comment of over 1000000 bytes" in outcome(path, "bioc_xml")[1][0]
    monkeypatch.setattr(xml, "SUBTREE_LIMIT", 1000)
    path.write_text(f"<collection><document a='{'a' * 2000}'></document></collection>")
    assert "of over 1000 characters" in outcome(path, "bioc_xml")[1][0]


def test_gaps_between_passages_count_together(tmp_path: Path) -> None:
    parts = [{"offset": n * 90_000, "infons": {}, "text": "a"} for n in range(3)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"documents": [{"id": "1", "infons": {}, "passages": parts}]}))
    assert f"expected {passages.GAP_LIMIT} at most" in outcome(path, "bioc_json")[1][0]


# ---- archives


def tar_of(path: Path, *names: str, **pax: str) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = 600, dict(pax)
            archive.addfile(member, io.BytesIO(b"a" * 600))
    return path


def patched(path: Path, member: int, change: Callable[[bytearray], None]) -> None:
    """A tar with the header of a member of 600 bytes changed, and its checksum mended."""
    data = bytearray(path.read_bytes())
    at = member * 3 * 512
    header = data[at : at + 512]
    change(header)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[at : at + 512] = header
    path.write_bytes(data)


def test_a_member_of_a_negative_size(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tar_of(tmp_path / "a.tar", "a.txt", "b.txt", "c.txt")

    def negative(header: bytearray) -> None:
        header[124:136] = b"\xff" * 10 + b"\xfe\x00"

    patched(path, 1, negative)
    _, errors = outcome(path)
    # Newer versions of Python take such a header for none.
    assert "a member of a negative size" in "".join(errors) or "broken off" in caplog.text


@pytest.mark.parametrize("size", [3 * 512 + 100, 3 * 512])
def test_a_tar_that_breaks_off(tmp_path: Path, size: int, caplog: pytest.LogCaptureFixture) -> None:
    path = tar_of(tmp_path / "a.tar", "a.txt", "b.txt")
    path.write_bytes(path.read_bytes()[:size])
    assert len(outcome(path, "text")[0]) == 1
    assert f"broken off: nothing after byte {3 * 512} is read" in caplog.text


def test_a_whole_tar_is_not_said_to_break_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(outcome(tar_of(tmp_path / "a.tar", "a.txt", "b.txt"), "text")[0]) == 2
    assert caplog.messages == []


@pytest.mark.parametrize(
    "pax", [{"GNU.sparse.size": "x"}, {"GNU.sparse.map": "x"}, {"GNU.sparse.major": "1"}]
)
def test_headers_of_sparse_members(tmp_path: Path, pax: dict[str, str]) -> None:
    outcome(tar_of(tmp_path / "a.tar", "a.txt", **pax, **{"GNU.sparse.minor": "0"}))


def test_a_size_beyond_all_files(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar", "a.txt", "b.txt")

    def huge(header: bytearray) -> None:
        header[124:136] = b"\x80" + b"\x7f" * 11

    patched(path, 0, huge)
    outcome(path)


def test_a_member_without_a_name(tmp_path: Path) -> None:
    outcome(tar_of(tmp_path / "a.tar", ".", "a.txt"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(".", b"a")
        archive.writestr("a.txt", b"knee")
    assert outcome(tmp_path / "a.zip")[0] == ["knee"]


def test_damaged_lzma(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        member = tarfile.TarInfo("a.txt")
        content = os.urandom(20_000).hex().encode()
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    data = bytearray(lzma.compress((tmp_path / "b.tar").read_bytes()))
    data[len(data) // 2 : len(data) // 2 + 20] = bytes(20)
    (tmp_path / "a.tar.xz").write_bytes(data)
    assert "cannot be read" in outcome(tmp_path / "a.tar.xz")[1][0]
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as zipped:
        zipped.writestr("a.txt", content)
    whole = bytearray((tmp_path / "a.zip").read_bytes())
    whole[60:90] = bytes(30)
    (tmp_path / "a.zip").write_bytes(whole)
    assert outcome(tmp_path / "a.zip")[1]


# ---- ids that meet


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.txt", "a.TXT", "a.ann"], "a.txt: passed over: "),
        (["a/text/1.txt", "a/original/1.ann", "b/text/1.txt"], "1.txt: passed over: another"),
        (["a.xmi", "a.json"], None),
    ],
)
def test_a_document_whose_id_another_one_has(
    tmp_path: Path, names: list[str], expected: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"%TYPES": 1}' if name.endswith("json") else "")
    outcome(tmp_path)
    if expected is not None:
        assert expected in caplog.text
    else:
        assert "passed over: " in caplog.text


# ---- values of other types, and out of bounds


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bioc_json", {"documents": [{"id": "1", "infons": {}, "passages": [], "relations": 5}]}),
        (
            "prodigy",
            {"text": "a", "tokens": [], "spans": [], "answer": "accept", "_input_hash": []},
        ),
        (
            "inception",
            {
                "%TYPES": {},
                "%FEATURE_STRUCTURES": [{"%ID": 1, "%TYPE": "x.Y"}],
                "%VIEWS": {},
            },
        ),
        (
            "inception",
            {
                "%TYPES": {},
                "%FEATURE_STRUCTURES": [
                    {"%ID": 1, "%TYPE": "uima.cas.Sofa", "sofaString": ["a"], "sofaNum": 1}
                ],
                "%VIEWS": {"_InitialView": {"%SOFA": 1, "%MEMBERS": []}},
            },
        ),
    ],
)
def test_values_of_other_types(tmp_path: Path, name: str, content: Any) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    outcome(path, name)


@pytest.mark.parametrize(
    ("name", "file", "content", "beside"),
    [
        ("chemdner", "a.abstracts.txt", "1\tA\tb\n", ("a.annotations.txt", "1\tA\t{}\t{}\tx\tY\n")),
        ("bc2gm", "a.in", "id knee pain\n", ("GENE.eval", "id|{} {}|x\n")),
    ],
)
def test_numbers_that_cannot_be_printed(
    tmp_path: Path, name: str, file: str, content: str, beside: tuple[str, str]
) -> None:
    (tmp_path / file).write_text(content)
    (tmp_path / beside[0]).write_text(beside[1].format(BIG, BIG))
    outcome(tmp_path, name)
    passage: dict[str, Any] = {"offset": 0, "infons": {}, "text": "knee"}
    passage["annotations"] = [
        {"id": "0", "infons": {"type": "x"}, "locations": [{"offset": int(BIG), "length": 1}]}
    ]
    record = {"documents": [{"id": "1", "infons": {}, "passages": [passage]}]}
    (tmp_path / "b.json").write_text(json.dumps(record))
    assert outcome(tmp_path / "b.json", "bioc_json")[0] == ["knee"]


def test_rows_of_parquet_that_python_has_no_values_for(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    days = pa.array([1, 2147483647, 3], pa.int32()).cast(pa.date32())
    broken = pa.array([b"knee", b"\xff", b"hip"]).cast(pa.binary())
    texts = pa.Array.from_buffers(pa.string(), 3, broken.buffers())
    pq.write_table(pa.table({"text": ["a", "b", "c"], "day": days}), path)
    found, (error,) = outcome(path)
    assert found == ["a", "c"]
    assert "row 2: " in error
    pq.write_table(pa.table({"text": texts}), path)
    found, (error,) = outcome(path)
    assert found == ["knee", "hip"]
    assert "row 2: " in error


def test_numbers_that_json_has_not(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"], "x": [float("inf")]}), path)
    (document,) = read(path)
    assert isinstance(document, Document)
    assert document.meta == {"x": None}


def test_data_sets_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text("[]")
    (tmp_path / "state.json").write_text('{"_data_files": []}')
    assert "not a data set" in outcome(tmp_path)[1][0]


def test_a_label_with_half_a_pair_of_surrogates(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.json"
    passage: dict[str, Any] = {"offset": 0, "infons": {}, "text": "knee"}
    places = [{"offset": 0, "length": 4}]
    passage["annotations"] = [{"id": "0", "infons": {"type": "\ud800"}, "locations": places}]
    record = {"documents": [{"id": "1", "infons": {}, "passages": [passage]}]}
    path.write_text(json.dumps(record))
    (document,) = read(path, "bioc_json")
    assert isinstance(document, Document)
    assert document.entities == ()
    assert "its label has a lone surrogate" in caplog.text
    write([document], tmp_path / "out", "brat")


@pytest.mark.parametrize(
    ("format", "record"),
    [
        (
            "bioc_json",
            {"documents": [{"id": "\ud800", "passages": [{"offset": 0, "text": "knee"}]}]},
        ),
        (
            "bigbio",
            {"document_id": "\ud800", "passages": [{"offsets": [[0, 4]], "text": ["knee"]}]},
        ),
        ("label_studio", [{"data": {"text": "knee", "document_id": "\ud800"}, "annotations": []}]),
    ],
)
def test_an_id_with_half_a_pair_of_surrogates(format: str, record: Any, tmp_path: Path) -> None:
    """What is written of the document in the end can be read again."""
    path, out = tmp_path / "a.json", tmp_path / "out.jsonl"
    path.write_text(json.dumps(record))
    (document,) = read(path, format)
    assert isinstance(document, Document), document
    assert document.id == "?"
    write([document], out)
    assert list(read(out)) == [Document("?", "knee")]


def test_what_lies_in_a_folder_but_is_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Links are named; what is hidden is not read."""
    notes, real = tmp_path / "notes", tmp_path / "real"
    for folder in (notes / ".trash" / "old", real):
        folder.mkdir(parents=True)
        (folder / "2.txt").write_text("Two.")
    (notes / "1.txt").write_text("One.")
    (notes / "linked").symlink_to(real)
    (notes / "3.txt").symlink_to(notes / "nowhere")
    assert [one.id for one in read(notes) if isinstance(one, Document)] == ["1"]
    assert f"{notes}/linked: passed over: a link to a folder" in caplog.text
    assert f"{notes}/3.txt: passed over: a link that leads nowhere" in caplog.text


def test_xml_in_an_encoding_that_is_named(tmp_path: Path) -> None:
    """It is that of the file, whatever the file declares."""
    passage = "<passage><offset>0</offset><text>Fièvre</text></passage>"
    for declared, encoding in (("ISO-8859-1", "latin-1"), ("utf-16", "utf-16")):
        path = tmp_path / f"{encoding}.xml"
        text = f'<?xml version="1.0" encoding="{declared}"?>\n<collection><document><id>1</id>'
        path.write_text(f"{text}{passage}</document></collection>", encoding=encoding)
        (document,) = read(path, encoding=encoding)
        assert isinstance(document, Document), document
        assert document.text == "Fièvre"


def test_keys_that_only_look_like_those_of_a_tool(tmp_path: Path) -> None:
    path = json_lines(
        tmp_path / "a.jsonl", {"id": 1, "text": "a", "labels": [[0, 1, "X"]], "label": 3}
    )
    (document,) = read(path, "doccano")
    assert isinstance(document, Document)
    assert document.meta == {"label": 3}
    record = {"text": "a", "tokens": [], "spans": [], "answer": "accept", "labels": ["b"]}
    (document,) = read(json_lines(path, record), "prodigy")
    assert isinstance(document, Document)
    assert document.meta == {"labels": ["b"]}


# ---- paths


def test_a_path_that_cannot_be(tmp_path: Path) -> None:
    (error,) = outcome(Path("a" * 300))[1]
    assert "cannot be read" in error or "no such file" in error  # as the version of Python has it


@pytest.mark.parametrize("encoding", ["rot13", "hex", "nothing"])
def test_codecs_that_are_none_of_texts(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a")
    with pytest.raises(InputError, match=f"unknown encoding '{encoding}'"):
        list(read(path, encoding=encoding))


def test_a_pipe_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    rows = "knee\tB-x\npain\tI-x\n\n"
    writer = threading.Thread(target=path.write_text, args=(rows,))
    writer.start()
    assert outcome(path, "conll")[0] == ["knee pain"]
    writer.join()


@pytest.mark.parametrize("command", [("convert",), ("predict", "--text-column", "note", "-o")])
def test_the_format_of_a_pipe_is_not_looked_for(command: tuple[str, ...], tmp_path: Path) -> None:
    """It could not be read again."""
    pipe, (name, *given) = tmp_path / "pipe", command
    os.mkfifo(pipe)
    done = cner(name, pipe, *given, tmp_path / "out.jsonl")
    assert done.exit_code == 2
    assert "is a pipe, which is read once: expected --input-format" in done.output


def test_a_page_of_what_comes_from_a_pipe(tiny_folder: Path, tmp_path: Path) -> None:
    """It is read once, though the page is made of records and gold in the end."""
    pipe, page = tmp_path / "pipe", tmp_path / "page.html"
    os.mkfifo(pipe)
    gold = {"id": "1", "text": "knee pain", "entities": [{"label": "x", "fragments": [[0, 4]]}]}
    writer = threading.Thread(target=pipe.write_text, args=(json.dumps(gold),))
    writer.start()
    given = ("--model", tiny_folder, "--labels", "x", "--input-format", "jsonl", "-o", page)
    done = cner("predict", pipe, *given)
    writer.join()
    assert done.exit_code == 0, done.output
    assert "knee pain" in page.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir() if "page" in path.name] == ["page.html"]


def test_a_page_has_every_record(tmp_path: Path) -> None:
    """Also where the input has become shorter since it was answered."""
    output = Output(tmp_path / "page.html", "html", lambda: False)
    record = {"format": "multi_term", "level": "faithful", "options": {}, "entities": []}
    lines = [{"id": str(i), "text": f"pain {i}", **record, "answers": []} for i in (1, 2)]
    output.records.write_text("".join(json.dumps(line) + "\n" for line in lines))
    output.finish([Document("1", "pain 1")])
    assert all(f"pain {i}" in output.path.read_text(encoding="utf-8") for i in (1, 2))


def test_entities_of_white_space(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing can write them, and they end nothing: they are missed, and counted."""
    path = tmp_path / "a.jsonl"
    blank, fever = Entity("D", ((2, 3),)), Entity("D", ((5, 10),))
    document = Document("2", "a  b fever ", (blank, fever, Entity("D", ((0, 1), (10, 11)))))
    write([document], path)
    assert list(read(path)) == [document]
    assert in_one_line(document).entities == (Entity("D", ((4, 9),)),)
    assert "document '2': mentions of white space are left out" in caplog.messages
    found = ceiling([document], ["D"], Setting("multi_term"))
    assert (found.entities, found.expressible, found.dropped) == (3, 1, {"white space": 2})


def test_one_hint_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_bytes("боль\tB-x\n\n".encode("cp1251") * 3)
    errors = outcome(path, "conll")[1]
    assert [("--encoding" in error) for error in errors] == [True, False, False]


def test_a_manifest_with_a_key_too_many(tmp_path: Path) -> None:
    known = {"base": "b", "formats": [], "datasets": [], "dev": {"multi_bio": {"f1": 0.5, "x": 1}}}
    (tmp_path / "cner.json").write_text(json.dumps(known))
    with pytest.raises(ModelError, match=r"unknown key 'dev\.multi_bio\.x'"):
        load_manifest(tmp_path)
