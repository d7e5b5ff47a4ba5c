"""What is told of the committed results is made of them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import compare, decode_speed, page, splitters, study
from benchmarks.machine import weights_of
from constrained_ner.adapters import DEFAULT_MODEL
from constrained_ner.benchmark.report import HTML, MARKDOWN, write_report
from constrained_ner.benchmark.results import Results
from constrained_ner.benchmark.view import View
from constrained_ner.formats import FORMATS
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.manifest import load_manifest
from tests.support.browser import browser, probe, told_by

SPLITTERS = Path(splitters.__file__).parent / "results" / "splitters.json"
SPEED = Path(decode_speed.__file__).parent / "results" / "decode_speed.json"


@pytest.fixture
def emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the page, its tables of results taken out."""
    copy = tmp_path / "measurements.md"
    copy.write_text(page.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(page, "PAGE", copy)
    for name in ("compare", "decode_speed", "splitters"):
        page.put(name, ["nothing"], [])
    return copy


@pytest.fixture(scope="module")
def results() -> Results:
    return compare.load(compare.RESULTS)


def test_the_tables_of_the_page(emptied: Path, results: Results) -> None:
    before = Path(page.__file__).parent.parent / "docs" / "measurements.md"
    assert emptied.read_bytes() != before.read_bytes()
    compare.write_table(results)
    decode_speed.write_table(json.loads(SPEED.read_bytes())["rows"])
    splitters.write_table(json.loads(SPLITTERS.read_bytes()))
    assert emptied.read_text(encoding="utf-8") == before.read_text(encoding="utf-8")


def test_the_table_of_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, copy = study.PAGE.read_bytes(), tmp_path / "study.md"
    copy.write_bytes(before)
    monkeypatch.setattr(study, "PAGE", copy)
    page.put("mixing", ["nothing"], [], copy)
    assert copy.read_bytes() != before
    study.write_table(json.loads(study.MIXING.read_bytes()))
    assert copy.read_bytes() == before


@pytest.mark.parametrize(
    ("folder", "names"), [(compare.RESULTS, [HTML, MARKDOWN]), (study.RESULTS, [MARKDOWN])]
)
def test_the_report_is_that_of_the_results(folder: Path, names: list[str], tmp_path: Path) -> None:
    def read(path: Path) -> str:
        # Plots are drawn by a package that may draw otherwise some day.
        return re.sub(r"<svg.*?</svg>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)

    write_report(compare.load(folder), tmp_path)
    for name in names:
        assert read(tmp_path / name) == read(folder / name)


@browser
@pytest.mark.parametrize("width", [1280, 500])
def test_the_tables_of_the_report_fit(width: int, tmp_path: Path) -> None:
    """A screen as they are; a phone as cards, whose fields say which column they are of."""
    look = probe("""(() => {
        document.querySelectorAll("details").forEach((one) => { one.open = true; });
        const frames = [...document.querySelectorAll(".wide")];
        const field = document.querySelector("#summary .wide td");
        return {
            tables: frames.length,
            wider: frames.filter((one) => one.scrollWidth > one.clientWidth + 1).length,
            page: document.documentElement.scrollWidth,
            head: getComputedStyle(field, "::before").content,
        };
    })()""")
    page = tmp_path / "report.html"
    text = (compare.RESULTS / page.name).read_text(encoding="utf-8")
    page.write_text(text.replace("</main>", f"{look}</main>"), encoding="utf-8")
    found = told_by(page.as_uri(), width=width)
    assert found["tables"] > 50
    assert found["wider"] == 0
    assert found["page"] <= width
    assert found["head"] == ("none" if width == 1280 else '"strict F1, free"')


@pytest.mark.parametrize("folder", [compare.RESULTS, study.RESULTS])
def test_results_are_read_and_written_alike(folder: Path, tmp_path: Path) -> None:
    compare.save(compare.load(folder), tmp_path)
    for path in tmp_path.rglob("*.json"):
        assert path.read_bytes() == (folder / path.relative_to(tmp_path)).read_bytes()


def test_all_of_it_was_run(results: Results) -> None:
    cells = [result.cell for result in results.cells]
    assert results.missing == ()
    trained = load_manifest(DEFAULT_MODEL)
    assert trained is not None
    assert {cell.data for cell in cells} == {*compare.CORPORA, compare.OWN}
    assert {data.name for data in trained.datasets} < set(compare.CORPORA)
    assert {cell.level for cell in cells} >= {Level.FREE, Level.FAITHFUL}
    assert {cell.variant.format for cell in cells} == set(FORMATS)
    # They are those of the model that is shipped.
    assert results.weights == weights_of(DEFAULT_MODEL)
    assert {document.data for document in results.documents} == {compare.OWN}


def test_the_card_of_the_default_model(results: Results) -> None:
    assert compare.CARD.read_text(encoding="utf-8") == compare.card_of(results)


def test_a_table_without_a_place(emptied: Path) -> None:
    with pytest.raises(LookupError, match="<!-- nowhere: begin -->"):
        page.put("nowhere", ["nothing"], [])


def test_levels_go_from_free_to_faithful_however_they_were_asked_for(results: Results) -> None:
    turned = View(replace(results, levels=results.levels[::-1]))
    assert turned.levels == View(results).levels
    assert turned.levels == tuple(level for level in Level if level in results.levels)
