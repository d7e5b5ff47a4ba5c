"""The report: the same bytes for the same results, the results' own numbers, and safe to open."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from constrained_ner import markdown
from constrained_ner.benchmark.blocks import (
    EMPTY,
    Block,
    Fold,
    Items,
    Plots,
    Table,
    Tone,
    Words,
    entry,
    number,
    p_value,
    percent,
    signed,
)
from constrained_ner.benchmark.browser import browsable
from constrained_ner.benchmark.experiment import combine
from constrained_ner.benchmark.gather import gather
from constrained_ner.benchmark.grid import CorpusSample, Grid, Way, run, variants_of
from constrained_ner.benchmark.plots import _figure, _styled, _svg, clipped, points
from constrained_ner.benchmark.report import HTML, MARKDOWN, report_sections, write_report
from constrained_ner.benchmark.results import (
    Results,
    ShownDocument,
    load_results,
    save_results,
)
from constrained_ner.benchmark.summary import seen
from constrained_ner.benchmark.tables import paper
from constrained_ner.benchmark.tables.accuracy import by_label
from constrained_ner.benchmark.tables.cost import slowdowns
from constrained_ner.benchmark.tables.fields import verdict
from constrained_ner.benchmark.tables.overview import main_table
from constrained_ner.benchmark.tables.spans import distance_of
from constrained_ner.benchmark.tables.validity import confidence
from constrained_ner.benchmark.view import View
from constrained_ner.cli import main
from constrained_ner.corpora.fingerprints import FILE as FINGERPRINTS
from constrained_ner.corpora.fingerprints import fingerprint, save_fingerprints
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError, MissingExtraError
from constrained_ner.evaluation import Counts, Difference
from constrained_ner.evaluation.resampling import corrected
from constrained_ner.formats import get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.markdown import escape
from constrained_ner.pages import script_data
from tests.support.training import LABELS, TEN, silent, write_documents
from tests.test_benchmark import write_cell

MODEL = "tiny"
DATA = CorpusSample("ten", TEN, LABELS, 1)
Value = dict[str, Any]  # results as their file has them


def gathered(grid: Grid, folder: Path) -> Value:
    """Results as a file holds them."""
    found: Value = json.loads(json.dumps(gather(grid, folder, resamples=500).to_json()))
    return found


@pytest.fixture(scope="module")
def real(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Value:
    """A small grid that a model really answered."""
    folder = tmp_path_factory.mktemp("real")
    grid = Grid(
        (MODEL,),
        (replace(DATA, documents=TEN[:4]), CorpusSample("anatem", TEN[5:7], LABELS, 1)),
        variants_of(["multi_term", "multi_span", "multi_triple", "multi_brat+offsets"]),
        max_new_tokens=30,
        sources={MODEL: str(tiny_folder)},
    )
    run(grid, folder, silent)
    return gathered(grid, folder)


NESTED = Document(
    "n",
    "left and right knee pain, flu",
    (
        Entity("Disease", ((0, 4), (15, 24))),
        Entity("Disease", ((9, 24),)),
        Entity("Gene", ((15, 19),)),
    ),
)


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Value]:
    """Results of written answers: all gold ones at the levels `right`, else nothing."""

    def make(
        variants: str = "multi_term,multi_span",
        levels: tuple[Level, ...] = tuple(Level),
        right: tuple[Level, ...] = (Level.FAITHFUL,),
        data: CorpusSample = DATA,
        model: str = MODEL,
    ) -> Value:
        grid = Grid((model,), (data,), variants_of(variants.split(",")), levels)
        for cell in grid.cells():
            format = get_format(cell.variant.format)
            answers = {}
            if cell.level in right:
                for document in data.documents:
                    kept, _ = format.expressible(document, data.labels)
                    gold = replace(document, entities=kept)
                    answers[document.id] = format.encode(gold, data.labels, Level.FREE)
            write_cell(tmp_path, cell, data, answers)
        return gathered(grid, tmp_path)

    return make


def written(results: Value, folder: Path) -> tuple[str, str]:
    page, text = write_report(Results.from_json(results), folder)
    assert (page.name, text.name) == (HTML, MARKDOWN)
    return page.read_text(encoding="utf-8"), text.read_text(encoding="utf-8")


def test_documents_that_the_model_was_trained_on(
    made: Callable[..., Value], tmp_path: Path
) -> None:
    """Told by the documents themselves: a name says nothing, and without them nothing is said."""
    model = tmp_path / "model"
    model.mkdir()
    for name in ("ten", "other"):
        results = made(data=replace(DATA, name=name), model=str(model))
        assert results["seen"] == {}
        assert "it was trained on" not in words_of(results)
    respelled = replace(TEN[0], text=TEN[0].text.upper().replace(" ", "\n"), entities=())
    for known, times, said in (
        ([], 0, "None of the documents is among those that it was trained on, as a whole."),
        ([Document("x", "Another text.")], 0, "None of the documents is among those"),
        ([respelled], 1, "Seen before: 1 of 10 documents of other is among those that it was"),
        (TEN, 10, "Seen before: 10 of 10 documents of other are among those that it was trained"),
    ):
        save_fingerprints(map(fingerprint, known), model)
        results = made(data=replace(DATA, name="other"), model=str(model))
        assert results["seen"] == {str(model): {"other": times}}
        assert said in words_of(results)
    (model / FINGERPRINTS).write_bytes(b"four")
    with pytest.raises(InputError, match=r"damaged: 4 bytes: expected a multiple of 8"):
        made(model=str(model))
    view = View(Results.from_json(results))
    assert seen(view, replace(view.groups[0], names=(str(model), "one that cannot tell"))) is None


def test_confidence_is_that_of_the_answers(real: Value) -> None:
    view = View(Results.from_json(real))
    table = confidence(view, view.groups[0])
    assert [(row[0].text, row[1].text) for row in table.rows] == [
        (variant, level) for variant in real["variants"] for level in ("syntax", "faithful")
    ]
    for variant, level, entities, right, *_ in table.rows:
        cells = [
            cell
            for cell in real["cells"]
            if (cell["variant"], cell["level"]) == (variant.text, level.text)
        ]
        scores = [cell["scores"]["strict"] for cell in cells]
        predicted = sum(score["predicted"] for score in scores)
        assert entities.text == (str(predicted) if predicted else EMPTY.text)
        if predicted:
            assert right.text == percent(sum(score["correct"] for score in scores), predicted)
    assert all(cell["confidence"] is None for cell in real["cells"] if cell["level"] == "free")


def test_confidence_by_tenths(tmp_path: Path) -> None:
    grid = Grid((MODEL,), (DATA,), variants_of(["multi_term"]), (Level.FAITHFUL,))
    (cell,) = grid.cells()
    format = get_format("multi_term")
    gold = {d.id: format.encode(d, LABELS, Level.FREE) for d in TEN[1:2]}
    write_cell(tmp_path, cell, DATA, gold)
    path = tmp_path / cell.answers
    first, second, *others = path.read_text(encoding="utf-8").splitlines(keepends=True)
    record = json.loads(second)
    for entity, value in zip(record["entities"], (1.0, 0.95, 0.3), strict=True):
        entity["confidence"] = value
    record["entities"][1]["fragments"] = [[0, 1]]
    path.write_text(first + json.dumps(record) + "\n" + "".join(others), encoding="utf-8")
    (found,) = gathered(grid, tmp_path)["cells"]
    expected = [[0, 0, 0.0] for _ in range(10)]
    expected[9], expected[3] = [2, 1, 1.95], [1, 1, 0.3]
    assert found["confidence"] == expected


def blocks_of(results: Value) -> Iterator[Block]:
    def inside(blocks: tuple[Block, ...]) -> Iterator[Block]:
        for block in blocks:
            yield block
            if isinstance(block, Fold):
                yield from inside(block.blocks)

    for section in report_sections(View(Results.from_json(results))):
        yield from inside(section.blocks)


def words_of(results: Value) -> str:
    found = []
    for block in blocks_of(results):
        if isinstance(block, Words):
            found.append(block.text)
        elif isinstance(block, Items):
            found += [f"{lead} {text}" for lead, text in block.items]
    return "\n".join(found)


class Page(HTMLParser):
    """What a browser would load and run, and the text that it would show."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.handlers: list[str] = []
        self.shown: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_data(self, data: str) -> None:
        self.shown.append(data)


# ---- the same bytes -----------------------------------------------------------------------------


def test_the_same_results_give_the_same_bytes(real: Value, tmp_path: Path) -> None:
    before = copy.deepcopy(real)
    first = written(real, tmp_path / "first")
    assert written(real, tmp_path / "second") == first
    assert real == before
    (tmp_path / "results.json").write_text(json.dumps(real), encoding="utf-8")
    code = (
        "import pathlib\n"
        "from constrained_ner.benchmark.report import write_report\n"
        "from constrained_ner.benchmark.results import load_results\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "write_report(load_results(folder), folder / 'other')"
    )
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "MPLCONFIGDIR": str(tmp_path / seed)}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        for name, text in zip((HTML, MARKDOWN), first, strict=True):
            assert (tmp_path / "other" / name).read_text(encoding="utf-8") == text


def test_results_come_back_from_their_file(
    real: Value, made: Callable[..., Value], tmp_path: Path
) -> None:
    made()
    grid = Grid((MODEL,), (DATA,), variants_of(["multi_term", "multi_span"]))
    for results in (Results.from_json(real), gather(grid, tmp_path, resamples=50), of_runs(real)):
        save_results(results, tmp_path)
        assert load_results(tmp_path) == results


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": ["strict"]}, "unknown level 'strict'"),
        ({"variants": ["multi_xml"]}, "multi_xml"),
        ({"cells": [{}]}, "KeyError: 'model'"),
        ({"data": 3}, "expected what `cner benchmark` writes"),
    ],
)
def test_what_is_no_results(
    change: Value, message: str, made: Callable[..., Value], tmp_path: Path
) -> None:
    (tmp_path / "results.json").write_text(json.dumps(made() | change), encoding="utf-8")
    with pytest.raises(InputError, match=r"results\.json: not the results of a bench") as caught:
        load_results(tmp_path)
    assert message in str(caught.value)
    (tmp_path / "results.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"results\.json: not JSON"):
        load_results(tmp_path)


# ---- the numbers --------------------------------------------------------------------------------


def test_text_tables_and_plots_have_the_results_numbers(real: Value, tmp_path: Path) -> None:
    page, text = written(real, tmp_path)
    view = View(Results.from_json(real))
    (group,) = view.groups
    table = main_table(view, group)
    drawn = {(point.variant, point.level): point for point in points(view, group)}
    levels = real["levels"]
    tested = [cell["against_free"]["f1"] for cell in real["pooled"] if cell["level"] != "free"]
    changes = iter(corrected([Difference(**one) for one in tested]))
    assert len(real["pooled"]) == len(real["variants"]) * len(levels) == len(drawn)
    for cell in real["pooled"]:
        strict = cell["strict"]
        row = next(row for row in table.rows if row[0].text == cell["variant"])
        shown = row[1 + levels.index(cell["level"])]
        low, high = strict["intervals"]["f1"]
        assert shown.text == number(strict["f1"])
        assert shown.note == f"[{number(low)}, {number(high)}]"
        point = drawn[cell["variant"], cell["level"]]
        assert (point.f1, point.low, point.high) == (strict["f1"], low, high)
        cells = [
            c
            for c in real["cells"]
            if (c["variant"], c["level"]) == (cell["variant"], cell["level"])
        ]
        parsed, answers = (sum(c["health"][key] for c in cells) for key in ("parsed", "answers"))
        assert point.parsed == parsed / answers
        seconds = sum(c["costs"]["seconds"] for c in cells)
        assert point.seconds == pytest.approx(seconds / 6)
        if cell["level"] != "free":
            assert percent(parsed, answers) == "100 %"
            change = row[1 + len(levels) + levels.index(cell["level"]) - 1]
            expected = next(changes)
            assert change.text == signed(expected.difference)
            assert change.note.endswith(p_value(expected.p))
        # And both files have what the table has.
        assert f"{shown.text}<small>{shown.note}</small>" in page
        assert escape(f"{shown.text} {shown.note}") in text
    for name in (*real["variants"], *levels):
        assert f">{name}</text>" in page  # in the plots


def test_the_first_screen_says_what_the_tables_say(
    real: Value, made: Callable[..., Value], tmp_path: Path
) -> None:
    """Three sentences and three plots."""
    first, *_ = report_sections(View(Results.from_json(made())))
    (_, items, plots) = first.blocks
    assert isinstance(items, Items)
    assert isinstance(plots, Plots)
    assert len(plots.plots) == 3
    said = [text for _, text in items.items]
    assert said[0].startswith("the highest F1, faithful: multi_term, 1.000 [1.000, 1.000]; free: 0")
    assert said[1].startswith("faithful against free, F1 is higher in 2 of 2 formats, lower in 0")
    assert said[2].startswith("of faithful answers 100 % follow their format, with 0 places that")
    for text in (said[1], "the highest F1"):
        assert text in written(made(), tmp_path / "out")[0]
    accuracy = plots.plots[0].svg
    assert accuracy.count("> better</text>") == 2
    # Without free answers there is nothing to hold the others against.
    first, *_ = report_sections(
        View(Results.from_json(made(levels=(Level.SYNTAX, Level.FAITHFUL))))
    )
    assert isinstance(first.blocks[1], Items)
    assert [lead for lead, _ in first.blocks[1].items] == [
        "What is found:",
        "What they guarantee and cost:",
    ]


def test_every_table_stands_in_both_files(real: Value, tmp_path: Path) -> None:
    page, text = written(real, tmp_path)
    shown = "".join(Page(page).shown)
    tables = [block for block in blocks_of(real) if isinstance(block, Table)]
    assert len(tables) > 15
    for table in tables:
        assert table.caption in shown
        assert escape(table.caption) in text
        for row in table.rows:
            assert len(row) == len(table.columns)
        assert sum(width for _, width in table.groups) == len(table.columns)


def test_what_is_said_of_differences(made: Callable[..., Value]) -> None:
    """Better and worse where the interval does not include 0; losses beside gains."""
    results = made(right=(Level.SYNTAX,))
    words = words_of(results)
    assert re.search(r"syntax against free: F1 is higher in 2 of 2 formats: multi_term \+1", words)
    assert "F1 is lower in 0 of 2 formats. No difference shown in 0." in words
    assert "faithful against free: F1 is higher in 0 of 2 formats." in words
    assert "No difference shown in 2: multi_term, multi_span." in words
    for cell in results["pooled"]:
        if cell["level"] == "faithful":
            worse = {"difference": -0.2, "interval": [-0.3, -0.1], "p": 0.01}
            cell["against_free"]["f1"] |= worse
    words = words_of(results)
    assert "F1 is lower in 2 of 2 formats: multi_term \N{MINUS SIGN}0.200" in words
    view = View(Results.from_json(results))
    row = main_table(view, view.groups[0]).rows[0]
    assert [(e.tone, e.lead) for e in row[4:6]] == [
        (Tone.BETTER, "better"),
        (Tone.WORSE, "worse"),
    ]


@pytest.mark.parametrize(
    ("interval", "p", "tone"),
    [
        ((0.003, 0.05), 0.032, Tone.BETTER),
        ((-0.05, -0.003), 0.032, Tone.WORSE),
        ((-0.01, 0.016), 0.695, Tone.PLAIN),
        # The two disagree, which is said.
        ((-0.027, -0.001), 0.125, Tone.UNCLEAR),
        ((-0.001, 0.026), 0.047, Tone.UNCLEAR),
        # As they are printed: [-0.022, 0.000] and p = 0.050.
        ((-0.022, -0.0001), 0.056, Tone.PLAIN),
        ((0.0001, 0.02), 0.047, Tone.UNCLEAR),
        ((0.003, 0.05), 0.0499, Tone.UNCLEAR),
    ],
)
def test_verdicts_contradict_no_number_beside_them(
    interval: tuple[float, float], p: float, tone: Tone, made: Callable[..., Value]
) -> None:
    difference = Difference(sum(interval) / 2, interval, p)
    assert verdict(difference) is tone
    # And it is the same in the words, in the main table and in the others.
    results = made("multi_term", (Level.FREE, Level.FAITHFUL))
    for cell in (*results["cells"], *results["pooled"]):
        if cell["level"] == "faithful":
            cell["against_free"]["f1"] = asdict(difference)
    shown = [
        (field.tone, field.note)
        for block in blocks_of(results)
        if isinstance(block, Table)
        for row in block.rows
        for field in row
        if field.text == signed(difference.difference)
    ]
    assert shown == [(tone, f"[{signed(interval[0])}, {signed(interval[1])}], {p_value(p)}")] * 2
    words = words_of(results)
    for other, said in (
        (Tone.BETTER, "F1 is higher in 1 of 1 format: multi_term"),
        (Tone.WORSE, "F1 is lower in 1 of 1 format: multi_term"),
        (Tone.PLAIN, "No difference shown in 1: multi_term"),
        (Tone.UNCLEAR, "Unclear in 1, where interval and p-value disagree: multi_term"),
    ):
        assert (said in words) == (other is tone)


def test_numbers_of_axes_are_written_whole() -> None:
    with _styled():
        figure = _figure(4, 3)
        axes = figure.subplots()
        axes.plot([0.575, 0.625], [0.001, 0.005])
        axes.set_xticks([0.575, 0.625])
        axes.set_yticks([0.005])
        text = _svg(figure, "x")
    assert all(f">{number}</text>" in text for number in ("0.575", "0.625", "0.005"))
    assert re.search(r'd="[^"]*\d\.\d{3}', text) is None


def test_numbers() -> None:
    assert [number(x) for x in (0.0, -0.0001, -0.5, 1)] == ["0.000", "0.000", "−0.500", "1.000"]
    assert [signed(x) for x in (0.0, 0.25, -0.25)] == ["0.000", "+0.250", "−0.250"]
    # All is all, and none is none.
    assert percent(1999, 2000) == ">99.9 %"
    assert [percent(*x) for x in ((3, 3), (0, 3), (9999, 10000), (1, 10**5), (1, 8), (0, 0))] == [
        *("100 %", "0 %", ">99.9 %", "<0.1 %", "12.5 %", "–")
    ]
    assert [p_value(x) for x in (0.0001, 0.03)] == ["p < 0.001", "p = 0.030"]
    assert [entry(values).text for values in ([], [None], [0.5], [0.25, 0.75, None])] == [
        *("not run", "–", "0.500", "0.500")
    ]
    assert entry([0.25, 0.75]).note == "± 0.354"


def test_formats_with_offsets(made: Callable[..., Value]) -> None:
    """Their distance to terms, and how much of it are boundaries."""
    words = words_of(made("multi_term,multi_span", right=tuple(Level)))
    assert "multi_span, free: F1 1.000, 0.000 below multi_term" in words
    results = made("multi_term,multi_span", right=())
    assert "F1 0.000, 0.000 below multi_term" in words_of(results)
    # Without its format with terms there is no distance.
    assert "below" not in words_of(made("multi_span"))


def test_shifts_far_away_are_counted_at_the_edge() -> None:
    found = clipped({-40: 2, -15: 1, 0: 5, 3: 1, 22: 4})
    assert (found[-15], found[0], found[3], found[15], sum(found.values())) == (3, 5, 1, 4, 13)


# ---- safe to open -------------------------------------------------------------------------------


def test_nothing_is_loaded(real: Value, tmp_path: Path) -> None:
    page = written(real, tmp_path)[0]
    parsed = Page(page)
    assert all(link.startswith("#") for link in parsed.links)
    assert "@import" not in page
    assert set(re.findall(r"url\(([^)]?)", page)) <= {"#"}
    assert parsed.tags.count("script") == 3
    assert not {"link", "img", "iframe", "object", "embed", "base"} & set(parsed.tags)
    assert not parsed.handlers
    assert len(set(parsed.ids)) == len(parsed.ids)


HOSTILE = '</script><script>alert("x")</script><!--<img src=x onerror=alert(1)>&amp;|`*_$\u2028'


def replaced(value: Any, old: str, new: str) -> Any:
    """A JSON value with one string for another one, in keys, too."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, list):
        return [replaced(item, old, new) for item in value]
    if isinstance(value, dict):
        return {replaced(k, old, new): replaced(v, old, new) for k, v in value.items()}
    return value


def test_everything_is_escaped(real: Value, tmp_path: Path) -> None:
    plain = Page(written(real, tmp_path / "plain")[0])
    hostile = real
    for old in ("Gene", "ten", "BCL6 in flu", "d0", MODEL):
        assert old in json.dumps(hostile)
        hostile = replaced(hostile, old, f"{old}{HOSTILE}")
    page, text = written(hostile, tmp_path / "hostile")
    parsed = Page(page)
    assert parsed.tags.count("script") == 3
    assert "img" not in parsed.tags
    assert not parsed.handlers
    assert set(parsed.tags) == set(plain.tags)
    assert not re.search(r"(?<!\\)<", text)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1


def test_data_in_a_script() -> None:
    value = [{"text": HOSTILE}]
    text = script_data(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value


def test_markdown() -> None:
    assert escape("multi_term") == "multi_term"
    assert escape("a | b\n*c* <i> _d_") == r"a \| b \*c\* \<i\> \_d\_"
    written = markdown.table(["label", "F1"], [["a|b", "0.5"]])
    assert written.splitlines() == ["| label | F1 |", "| --- | ---: |", r"| a\|b | 0.5 |"]


# ---- the documents ------------------------------------------------------------------------------


def test_hits_and_false_alarms() -> None:
    gold = [["Gene", [[0, 4]]], ["Disease", [[8, 11]]]]
    answer = {"error": None, "answers": ["x"], "entities": [gold[1], ["Gene", [[8, 11]]]]}
    document = {"model": "m", "data": "d", "id": "1", "text": "BCL6 in flu", "gold": gold}
    value = {**document, "found": {"multi_term.free": answer}}
    (found,) = browsable([ShownDocument.from_json(value)])
    way = found["ways"]["multi_term.free"]
    assert way["hits"] == [1]
    assert way["false"] == [["Gene", [[8, 11]]]]
    assert found["gold"] == gold


def test_documents_are_in_the_page(real: Value, tmp_path: Path) -> None:
    page = written(real, tmp_path)[0]
    data = re.search(r'<script type="application/json" id="answers">(.*?)</script>', page, re.S)
    assert data is not None
    documents = json.loads(data[1])
    assert [d["id"] for d in documents] == [d["id"] for d in real["documents"]]
    assert set(documents[0]["ways"]) == {
        f"{variant}.{level}" for variant in real["variants"] for level in real["levels"]
    }
    # Where no texts may be shown there is no place for them.
    assert 'id="answers"' not in written({**real, "documents": []}, tmp_path / "none")[0]


# ---- what is not there --------------------------------------------------------------------------


def test_missing_cells_are_called_so(real: Value, tmp_path: Path) -> None:
    results = copy.deepcopy(real)
    gone = results["cells"].pop(0)
    keys = ("model", "data", "format", "variant", "level")
    results["missing"].append({key: gone[key] for key in keys})
    way = (gone["variant"], gone["level"])
    results["pooled"] = [c for c in results["pooled"] if (c["variant"], c["level"]) != way]
    for document in results["documents"]:
        document["found"].pop(".".join(way), None)
    view = View(Results.from_json(results))
    row = main_table(view, view.groups[0]).rows[0]
    assert [field.text for field in row].count("not run") == 3
    page, text = written(results, tmp_path)
    assert "<b>Not run:</b> 1 of 24 cells." in page
    assert "not run" in text


@pytest.mark.parametrize("level", Level)
def test_one_level_and_one_format(level: Level, made: Callable[..., Value], tmp_path: Path) -> None:
    page, _ = written(made("multi_span", (level,), right=(level,)), tmp_path / "out")
    assert "not measured, for" in page
    assert "1.000" in page


def test_no_free_level(made: Callable[..., Value], tmp_path: Path) -> None:
    page, _ = written(made(levels=(Level.SYNTAX, Level.FAITHFUL)), tmp_path / "out")
    assert "not measured, for no free answers are among the results." in page
    assert "F1 against free" in page


def test_a_model_that_finds_nothing(made: Callable[..., Value], tmp_path: Path) -> None:
    results = made(right=())
    page, _ = written(results, tmp_path / "out")
    assert "free: 0 in every format" in page
    assert all(cell["strict"]["f1"] == 0 for cell in results["pooled"])
    # Nothing stands out where all are 0.
    assert 'class="best"' not in page


def test_a_model_that_is_always_wrong(made: Callable[..., Value], tmp_path: Path) -> None:
    grid = Grid((MODEL,), (DATA,), variants_of(["multi_term", "multi_span"]))
    made()
    for cell in grid.cells():
        broken = {document.id: "Sorry, I cannot." for document in TEN}
        if cell.level is not Level.FREE:
            format = get_format(cell.variant.format)
            wrong = (Entity("Gene", ((0, 2),)),)
            broken = {d.id: format.write(d.text, wrong, LABELS) for d in TEN}
        write_cell(tmp_path, cell, DATA, broken)
    results = gathered(grid, tmp_path)
    page, _ = written(results, tmp_path / "out")
    assert re.search(r"(?<!\d)0 %", page)
    assert "free: 0 in every format" in page


def test_answers_that_failed(tmp_path: Path) -> None:
    """Every prediction an error: there is no health, no ceiling, and nothing predicted."""
    grid = Grid((MODEL,), (DATA,), variants_of(["multi_triple", "multi_brat"]))
    for cell in grid.cells():
        write_cell(tmp_path, cell, DATA, {})
        path = tmp_path / cell.answers
        made_by = {"error": "too long", "format": cell.variant.format, "level": cell.level}
        lines = [json.dumps({"id": document.id, **made_by}) for document in TEN]
        path.write_text("".join(f"{line}\n" for line in lines))
    page, _ = written(gathered(grid, tmp_path), tmp_path / "out")
    assert "too long" in page


def test_data_without_entities(made: Callable[..., Value], tmp_path: Path) -> None:
    page, _ = written(made(data=CorpusSample("none", TEN[4:5], LABELS, 1)), tmp_path / "out")
    assert "0 gold entities" in page


def test_no_data_at_all(tmp_path: Path) -> None:
    page, text = written(gathered(Grid((MODEL,), ()), tmp_path), tmp_path / "out")
    assert "nothing was measured" in page
    assert "nothing was measured" in text


def test_nested_and_discontinuous_entities(made: Callable[..., Value], tmp_path: Path) -> None:
    results = made("multi_term", data=CorpusSample("ten", (*TEN, NESTED), LABELS, 2))
    page, _ = written(results, tmp_path / "out")
    assert "nested entities (ten) and discontinuous entities (ten)" in page
    plain = written(made("multi_term"), tmp_path / "plain")[0]
    assert "No data set has nested or discontinuous entities." in plain


@pytest.mark.parametrize("module", ["matplotlib", "matplotlib.figure"])
def test_without_the_extra(
    module: str, made: Callable[..., Value], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"constrained_ner\[benchmark\]"):
        write_report(Results.from_json(made()), tmp_path / "out")


# ---- the paper's tables -------------------------------------------------------------------------


def test_the_papers_own_numbers() -> None:
    widths = {
        "TABLE_2": (7, 12),
        "TABLE_3": (9, 12),
        "TABLE_4": (4, 4),
        "TABLE_5": (8, 7),
        "TABLE_6": (3, 12),
        "TABLE_9": (7, 6),
    }
    for name, (rows, width) in widths.items():
        found = paper.rows_of(getattr(paper, name))
        assert len(found) == rows
        assert {len(values) for values in found.values()} == {width}
    assert len(paper.rows_of(paper.TABLE_7, 2)) == 20
    # F1 is the harmonic mean of what stands before it, as far as two digits and means allow.
    for name in ("TABLE_2", "TABLE_6"):
        for key, values in paper.rows_of(getattr(paper, name)).items():
            means = [float(value) for value in values[::2]]
            for p, r, f1 in (means[:3], means[3:]):
                assert f1 == pytest.approx(2 * p * r / (p + r), abs=0.02), (name, key)


def of_runs(results: Value) -> Results:
    """Three draws of two configurations, as an experiment leaves them."""
    runs = []
    for configuration in ("all", "multi_triple"):
        for draw in range(3):
            name = f"base, {configuration}, draw {draw}"
            found = replaced(results, MODEL, name)
            for cell in found["pooled"]:
                cell["strict"]["f1"] = 0.25 * draw
            training = {"seconds": 3600.0 + 60 * draw, "kwh": 0.5, "co2_kg": 0.025}
            trained = {
                "model": "base",
                "configuration": configuration,
                "draw": draw,
                "training": training,
            }
            found |= {"runs": {name: trained}, "documents": []}
            runs.append(Results.from_json(found))
    return combine(runs)


def test_draws_become_mean_and_standard_deviation(
    made: Callable[..., Value], tmp_path: Path
) -> None:
    results = of_runs(
        made("multi_triple,multi_term", data=replace(DATA, name="anatem"), right=tuple(Level))
    )
    assert len(results.models) == 6
    view = View(results)
    assert [group.title for group in view.groups] == [
        "base, all, 3 draws",
        "base, multi_triple, 3 draws",
    ]
    page, text = written(results.to_json(), tmp_path / "out")
    row = main_table(view, view.groups[0]).rows[0]
    assert (row[1].text, row[1].note) == ("0.250", "± 0.250")
    tables = {table.caption[:7]: table for table in paper.tables(view)}
    assert list(tables) == [f"Table {n}" for n in (2, 3, 4, 5, 6, 7, 9)]
    energy = {row[0].text: [field.text for field in row[7:]] for row in tables["Table 9"].rows}
    assert energy["all"] == ["01:01:00", "25.00", "0.5000"]
    assert energy["7best"] == ["not measured"] * 3
    # Ours stand beside the paper's.
    ours = {row[0].text: row for row in tables["Table 6"].rows}
    assert [field.text for field in ours["all"][1:4]] == ["0.88", "0.86", "0.87"]
    assert [(field.text, field.note) for field in ours["only"][7:10]] == [("1.00", "± 0.00")] * 3
    assert ours["7best"][7].text == "not measured"
    for table in tables.values():
        assert table.caption in "".join(Page(page).shown)
        assert escape(table.caption) in text


def test_gold_entities_of_labels_are_those_of_the_first_draw(made: Callable[..., Value]) -> None:
    """As in the setup, which says how many the data sets have."""
    results = of_runs(made("multi_term", right=tuple(Level)))

    cells = tuple(
        replace(
            result,
            breakdowns={
                by: tuple((name, replace(score, counts=Counts(1, 1, 1, 1))) for name, score in rows)
                for by, rows in result.breakdowns.items()
            },
        )
        if result.cell.model.endswith("draw 2")
        else result
        for result in results.cells
    )
    (data,) = results.data
    expected = Counter(e.label for document in DATA.documents for e in document.entities)
    view = View(replace(results, cells=cells))
    columns = by_label(view, view.groups[0], data).columns[-len(data.labels) :]
    assert [column.name for column in columns] == [
        f"{label} ({expected[label]})" for label in data.labels
    ]


def test_differences_are_of_the_same_draws(made: Callable[..., Value]) -> None:
    results = of_runs(made("multi_term,multi_span", right=tuple(Level)))
    ways = {variant.format: Way(variant, Level.FAITHFUL) for variant in results.variants}
    term, span = ways["multi_term"], ways["multi_span"]
    gone = {("base, all, draw 0", term), ("base, all, draw 1", span)}
    kept = tuple(r for r in results.cells if (r.cell.model, r.cell.way) not in gone)
    view = View(replace(results, cells=kept))
    group = view.groups[0]
    ((own, of_term),) = view.paired_draws(group, span, term)
    assert {result.cell.model for result in (*own, *of_term)} == {"base, all, draw 2"}
    assert distance_of(view, group, span) == [0.0]
    assert [len(slowdowns(view, group, way)) for way in (term, span)] == [2, 2]


def test_a_model_as_it_is_stands_beside_the_papers(real: Value) -> None:
    view = View(Results.from_json(real))
    found = paper.table_3(view)
    column = next(i for i, c in enumerate(found.columns) if c.group == f"ours: {MODEL}, free")
    shown = {row[0].text: row[column].text for row in found.rows}
    (pooled,) = (
        cell
        for cell in real["pooled"]
        if (cell["variant"], cell["level"]) == ("multi_term", "free")
    )
    assert shown["multi_term"] == number(pooled["strict"]["f1"], 2)
    assert shown["conv_term"] == "not measured"


# ---- the command --------------------------------------------------------------------------------


def test_the_command_writes_it(tiny_folder: Path, tmp_path: Path) -> None:
    data = write_documents(tmp_path / "ten.jsonl")
    out = tmp_path / "out"
    arguments = ["benchmark", "--data", data, "--model", tiny_folder, "-o", out]
    arguments += ["--formats", "multi_triple", "--documents", 2, "--resamples", 20]
    arguments += ["--levels", "faithful"]
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    for name in ("results.json", HTML, MARKDOWN):
        assert str(out / name) in done.output
        assert (out / name).stat().st_size > 1000


def test_no_report_becomes_a_part_of_its_data(tiny_folder: Path, tmp_path: Path) -> None:
    write_documents(tmp_path / "ten.jsonl")
    out = tmp_path / "out"
    arguments = ["benchmark", "--data", f"ten={tmp_path}", "--model", tiny_folder, "-o", out]
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert (done.exit_code, out.exists()) == (1, False)
    assert f"{out}: lies in the input folder" in done.output


def test_the_extra_is_missed_before_anything_is_answered(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    data = write_documents(tmp_path / "ten.jsonl")
    out = tmp_path / "out"
    arguments = ["benchmark", "--data", data, "--model", tiny_folder, "-o", out]
    arguments += ["--formats", "multi_triple", "--documents", 1, "--resamples", 20]
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 1
    assert "constrained_ner[benchmark]" in done.output
    assert not out.exists()
