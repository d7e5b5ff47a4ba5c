"""What is told of the committed results is made of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import compare, decode_speed, readme

SPEED = Path(decode_speed.__file__).parent / "results" / "decode_speed.json"


@pytest.fixture
def emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the README, its tables of results taken out."""
    copy = tmp_path / "README.md"
    copy.write_text(readme.README.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(readme, "README", copy)
    for name in ("compare", "decode_speed"):
        readme.put(name, ["nothing"], [])
    return copy


def test_the_tables_of_the_readme(emptied: Path) -> None:
    before = Path(readme.__file__).parent.parent / "README.md"
    assert emptied.read_bytes() != before.read_bytes()
    compare.write_readme(json.loads((compare.RESULTS / "results.json").read_bytes()))
    decode_speed.write_readme(json.loads(SPEED.read_bytes())["rows"])
    assert emptied.read_text(encoding="utf-8") == before.read_text(encoding="utf-8")


def test_the_card_of_the_default_model() -> None:
    results = json.loads((compare.RESULTS / "results.json").read_bytes())
    assert compare.CARD.read_text(encoding="utf-8") == compare.card_of(results)


def test_a_table_without_a_place(emptied: Path) -> None:
    with pytest.raises(LookupError, match="<!-- nowhere: begin -->"):
        readme.put("nowhere", ["nothing"], [])
