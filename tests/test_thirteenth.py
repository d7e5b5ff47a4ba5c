"""A thirteenth format is one module and one structure: everything else finds it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAME = "single_lines"

DECODED = """
from collections import Counter
from benchmarks.always_parses import run
from tests.support.adversaries import KINDS
from constrained_ner.cli import main
from constrained_ner.documents import Document, Entity
from constrained_ner.formats import FORMATS, get_format
from constrained_ner.formats.grammar import Level
from tests.support.matching import reject

assert list(FORMATS).count("single_lines") == 1 and len(FORMATS) == 13
format = get_format("single_lines")
text = "BCL6 in activated lymphocytes."
gold = Document("d", text, (Entity("cell", ((8, 29),)), Entity("cell", ((18, 29),))))
answer = format.encode(gold, ["cell"], Level.FAITHFUL)
assert answer == "Answer:\\n- activated lymphocytes\\n- lymphocytes", answer
assert format.decode(answer, text, ["cell"]).entities == gold.entities
for level in (Level.SYNTAX, Level.FAITHFUL):
    assert reject(format.grammar(text, ["cell"], level), answer) is None

found = Counter()
for result in run(160, 3, ["single_lines"], kinds=list(KINDS)):
    assert result.fault is None, result
    found[result.task.level] += 1
assert len(found) == 2, found
print("decoded", sum(found.values()))
main(["formats", "single_lines"])
"""


def test_one_module_and_one_structure_are_a_format(tmp_path: Path) -> None:
    package = tmp_path / "constrained_ner"
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
    shutil.copytree(ROOT / "constrained_ner", package, ignore=ignored)
    shutil.copytree(ROOT / "grammars", package / "grammars", ignore=ignored)
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks", ignore=ignored)
    shutil.copytree(ROOT / "tests" / "support", tmp_path / "tests" / "support")
    here = Path(__file__).parent / "thirteenth"
    shutil.copy(here / f"{NAME}.py", package / "formats")
    shutil.copy(here / f"{NAME}.lark", package / "grammars")
    ran = subprocess.run(
        [sys.executable, "-c", DECODED],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "decoded 160" in ran.stdout
    assert "a hyphen, and the mention" in ran.stdout
