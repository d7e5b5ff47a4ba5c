"""The page of predictions: one file, everything escaped, and what a browser makes of it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from constrained_ner import pages
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError
from constrained_ner.evaluation.records import Record, record_of
from constrained_ner.pages import write_page
from constrained_ner.pipeline.prediction import Prediction
from tests.support.browser import browser, probe, told_by
from tests.support.commands import cner
from tests.support.training import write_documents

HOSTILE = "</script><script>alert(1)</script> <b>&amp; 😀 \u2028 كحة knee pain\r\nleft"


def record(document: Document, entities: Sequence[Entity], **more: Any) -> dict[str, Any]:
    """A prediction of the labels A and B, as a run writes it."""
    return {
        "id": document.id,
        "text": document.text,
        "format": "multi_term",
        "level": "faithful",
        "entities": [
            {"label": e.label, "fragments": [list(f) for f in e.fragments], "confidence": 0.5}
            for e in entities
        ],
        "answers": [
            {
                "labels": ["A", "B"],
                "answer": "Answer: []",
                "problems": [],
                "parses": True,
                "tokens": 3,
                "ended": True,
                "forced": False,
            }
        ],
        **more,
    }


def read(document: Document, entities: Sequence[Entity]) -> Record:
    """The same as it is read."""
    return record_of(Prediction.from_json(record(document, entities)))


def span(text: str, surface: str) -> tuple[int, int]:
    start = text.index(surface)
    return start, start + len(surface)


def seen(path: Path, script: str) -> Any:
    """What an expression of JavaScript gives on the page once it is shown."""
    told = path.with_name("told.html")
    # What the page does to its own elements is done by then.
    told.write_text(path.read_text(encoding="utf-8") + probe(script), encoding="utf-8")
    return told_by(told.as_uri())


def test_a_page_is_one_file_and_nothing_ends_its_data(tmp_path: Path) -> None:
    document = Document(HOSTILE, HOSTILE)
    path = tmp_path / "page.html"
    write_page([(read(document, ()), None)], path, title=HOSTILE)
    page = path.read_text(encoding="utf-8")
    assert page.count("<script") == page.count("</script>") == 2
    assert "alert(1)</" not in page
    assert "://" not in page
    assert "default-src 'none'" in page
    (shown,) = shown_in(path)
    assert (shown["id"], shown["text"]) == (HOSTILE, HOSTILE)
    with pytest.raises(InputError, match="cannot be written"):
        write_page([], tmp_path)


def shown_in(path: Path) -> list[dict[str, Any]]:
    """The documents that a page holds."""
    data = re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    assert data
    found: list[dict[str, Any]] = json.loads(data[1])
    return found


@pytest.mark.parametrize("title", ["/* documents */", "</title><script>", "{{ data }}"])
def test_any_title(title: str, tmp_path: Path) -> None:
    write_page([], tmp_path / "page.html", title=title)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"<title>{html.escape(title)}" in page


def test_a_title_from_a_file_name_in_another_encoding(tmp_path: Path) -> None:
    write_page(
        [(InputError("caf\udce9.jsonl: broken"), None)], tmp_path / "a.html", title="caf\udce9"
    )
    assert "<title>caf\\udce9" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_pages_from_files(tmp_path: Path) -> None:
    text = "knee pain, a flu"
    pain, flu = (Entity(label, (span(text, s),)) for label, s in (("A", "knee pain"), ("C", "flu")))
    gold = write_documents(tmp_path / "gold.jsonl", [Document(n, text, (pain, flu)) for n in "ab"])
    lines = [json.dumps(record(Document(n, text), [pain])) for n in "bcb"]
    made_by = {"format": "multi_term", "level": "faithful"}
    bare = json.dumps({"id": "d", "text": text, "answers": [], **made_by})
    records = tmp_path / "records.jsonl"
    records.write_text("\n".join([*lines, bare, '{"id": "e", "error": "no"}', "{broken"]))

    def page(*arguments: str | Path) -> Result:
        return cner("page", *arguments, tmp_path / "page.html", "--overwrite")

    done = page(records, "--gold", gold)
    assert done.exit_code == 1
    assert "left out: " in done.output
    assert "records.jsonl:6: not JSON" in done.output
    one, other, again, bare_one, failed, broken = shown_in(tmp_path / "page.html")
    # By id, each gold document once; labels that were not asked for are not missed.
    assert [gold["label"] for gold in one["gold"]] == ["A"]
    assert "gold" not in other
    assert "gold" not in again
    assert bare_one["answers"] == []
    assert failed["error"] == "no"
    assert "records.jsonl:6: not JSON" in broken["error"]
    # Any annotated documents.
    assert page(gold).exit_code == 0
    assert [len(shown["entities"]) for shown in shown_in(tmp_path / "page.html")] == [2, 2]
    assert page(gold, "--gold", gold).exit_code == 0
    assert [len(shown["gold"]) for shown in shown_in(tmp_path / "page.html")] == [2, 2]
    other_text = write_documents(tmp_path / "other.jsonl", [Document("b", "knee  pain", (pain,))])
    half = tmp_path / "half.jsonl"
    half.write_text(gold.read_text() + "{broken\n")
    done = page(gold, "--gold", half)
    assert done.exit_code == 1
    assert "half.jsonl:3: not JSON" in done.output
    assert len(shown_in(tmp_path / "page.html")) == 2
    before = (tmp_path / "page.html").read_bytes()
    assert "differ at offset 5" in page(records, "--gold", other_text).output
    assert (tmp_path / "page.html").read_bytes() == before  # no half page


@browser
def test_a_browser_shows_the_texts_as_they_are(tmp_path: Path) -> None:
    documents = [Document(f"{n} {HOSTILE}", f"{HOSTILE} {n}") for n in range(60)]
    path = tmp_path / "page.html"
    records = [read(d, [Entity("A", (span(d.text, "knee pain"),))]) for d in documents[:59]]
    broken = Record("broken", None, "line 3: <b>")
    write_page([(one, None) for one in (*records, broken)], path)
    texts = seen(path, '[...document.querySelectorAll(".text")].map((e) => e.textContent)')
    assert texts == [d.text for d in documents[:25]]  # the first page
    turned = (
        '(document.querySelectorAll("nav button")[1].click(),'
        'document.querySelectorAll("nav button")[1].click(),'
        '[...document.querySelectorAll("article")].map((e) => e.children[1].textContent))'
    )
    assert seen(path, turned) == [*(d.text for d in documents[50:59]), "line 3: <b>"]
    assert seen(path, 'document.getElementById("counts").textContent') == (
        "60 documents · 59 entities · 1 document could not be answered"
    )


@browser
def test_a_browser_compares_with_gold(tmp_path: Path) -> None:
    text = "😀 left and right knee pain, a flu"
    left = Entity("A", (span(text, "left"), span(text, "knee pain")))
    right, flu = Entity("A", (span(text, "right knee pain"),)), Entity("B", (span(text, "flu"),))
    knee = Entity("B", (span(text, "knee"),))
    other = Entity("C", (span(text, "pain"),))  # not asked for: neither here nor there
    document = Document("d", text, (left, right, flu, other))
    path = tmp_path / "page.html"
    write_page([(read(document, (left, knee, flu)), document)], path)
    tags = '[...document.querySelectorAll(".text .tag")].map((e) => [e.className, e.dataset.label])'
    assert seen(path, tags) == [
        ["tag hit", "A"],
        ["tag miss", "A"],
        ["tag false", "B"],
        ["tag hit", "B"],
    ]
    key = 'document.getElementById("key").textContent'
    assert seen(path, key) == "2 as in the gold annotation1 not in it1 only in it"
    hidden = f'(document.querySelector("#labels button").click(), {tags})'
    assert seen(path, hidden) == [["tag false", "B"], ["tag hit", "B"]]
    told = '[...document.querySelectorAll(".text .on")].map((e) => [e.textContent, e.title])'
    (piece, title), *_ = seen(path, told)
    assert piece == "left"
    assert title == "A: left knee pain · 2–6, 17–26 · confidence 0.50 · in the gold annotation"


@browser
def test_a_browser_counts_false_alarms_where_there_is_no_gold_entity(tmp_path: Path) -> None:
    pain = Entity("A", (span("knee pain", "knee pain"),))
    documents = [Document("a", "knee pain", (pain,)), Document("b", "knee pain")]
    path = tmp_path / "page.html"
    write_page([(read(one, (pain,)), one) for one in documents], path)
    key = 'document.getElementById("key").textContent'
    assert seen(path, key) == "1 as in the gold annotation1 not in it0 only in it"
    # Texts that nobody has annotated are compared with nothing.
    bare = [replace(one, entities=()) for one in documents]
    write_page([(read(one, (pain,)), one) for one in bare], path)
    assert seen(path, 'document.querySelectorAll(".text .tag.false").length') == 0


@browser
def test_hits_below_the_threshold_are_missed(tmp_path: Path) -> None:
    """A gold entity has a mark at any threshold: what is not shown as found is shown as missed."""
    text = "knee pain"
    pain = Entity("A", (span(text, text),))
    path = tmp_path / "page.html"
    write_page([(read(Document("d", text), [pain]), Document("d", text, (pain,)))], path)
    set_to = (
        '(Object.assign(document.getElementById("least"), {{ value: "{}" }})'
        '.dispatchEvent(new Event("input")),'
        '[[...document.querySelectorAll(".text .tag")].map((e) => e.className),'
        'document.getElementById("key").textContent])'
    )
    hit = ["tag hit"], "1 as in the gold annotation0 not in it0 only in it"
    missed = ["tag miss"], "0 as in the gold annotation0 not in it1 only in it"
    for least, shown in (("0.5", hit), ("0.55", missed)):
        assert seen(path, set_to.format(least)) == list(shown)


def test_what_a_page_tells_of_answers(tmp_path: Path) -> None:
    """All that is not as usual: segments, what was settled, problems, allowed mass."""
    document = Document("d", "knee pain. flu")
    value = record(document, [])
    usual, other = dict(value["answers"][0]), dict(value["answers"][0])
    other |= {
        "segment": [11, 14],
        "settled": "Answer: [1]",
        "problems": [["unparsable", "at 3"]],
        "allowed_mass": [0.5, 0.25],
        "forced": True,
    }
    value |= {"answers": [usual, other], "left_out": [[0, 10, "too long"]]}
    path = tmp_path / "page.html"
    write_page([(record_of(Prediction.from_json(value)), None)], path)
    (shown,) = shown_in(path)
    told = {"labels": ["A", "B"], "answer": "Answer: []"}
    kept = ("segment", "settled", "problems", "allowed_mass", "forced")
    assert shown["answers"] == [told, told | {key: other[key] for key in kept}]
    assert (shown["format"], shown["left_out"]) == ("multi_term, faithful", value["left_out"])


def test_gold_that_goes_with_nothing_is_refused(tmp_path: Path) -> None:
    gold = write_documents(tmp_path / "gold.jsonl", [Document(n, "flu") for n in ("1", "2")])
    other = write_documents(tmp_path / "other.jsonl", [Document(n, "flu") for n in ("3", "4")])
    done = cner("page", other, "--gold", gold, tmp_path / "page.html")
    assert done.exit_code == 1
    assert "none of the documents is in the gold annotation: '3', '4' on one side" in done.output
    assert not (tmp_path / "page.html").exists()


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.1 defines it, of `#rgb` or `#rrggbb`."""
    digits = colour.removeprefix("#")
    whole = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    parts = [int(whole[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_words_can_be_read_on_light_and_dark_pages() -> None:
    """Words on the page, and those of tags on their colours, have the contrast of WCAG's AA."""
    css = (Path(pages.__file__).parent / "templates" / "page.css").read_text(encoding="utf-8")
    schemes = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]+);", scheme))
        assert {f"c{n}" for n in range(10)} < colours.keys()
        for name in colours.keys() - {"line", "paper", "head", "edge"}:
            for ground in ("paper", "head") if name in ("ink", "soft", "wrong") else ("paper",):
                low, high = sorted(luminance(colours[one]) for one in (name, ground))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (name, ground)
