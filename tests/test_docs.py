"""What the README and the docs say can be run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import click
import pytest

from constrained_ner.cli import main
from constrained_ner.engines.models import LoadedModel
from constrained_ner.formats import get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.budget import derived_budget
from constrained_ner.pipeline.conversation import Conversation
from constrained_ner.pipeline.prompts import Target
from tests.support.commands import cner

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(text: str) -> list[list[str]]:
    """The `cner` commands of a page, lines that go on put together."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    found = [line for line in lines if re.match(r"    (\$ )?cner ", line)]
    return [shlex.split(line.strip().removeprefix("$ "), comments=True)[1:] for line in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_the_docs_exist(page: Path) -> None:
    for words in commands(page.read_text(encoding="utf-8")):
        command: click.Command = main
        context = click.Context(command)
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            inner = command.get_command(context, words[0])
            assert inner is not None, words
            command, words = inner, words[1:]
            context = click.Context(command, parent=context)
        usage = [word for word in words if not re.fullmatch(r"[\[\]|.]+|\[.*|.*\]", word)]
        command.make_parser(context).parse_args(args=usage)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_the_docs_lead_somewhere(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("    "))
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target


def test_the_pages_make_a_site(tmp_path: Path) -> None:
    """Each is in the navigation, and all links hold, those to headings, too."""
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs"]
    done = subprocess.run(
        [*sphinx, "-d", tmp_path / "cache", ".", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "index.html").exists()
    page = (tmp_path / "site" / "README.html").read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|<link[^>]* href)="https?:[^"]*"', page)  # nothing is loaded


def test_the_version_is_told_alike() -> None:
    version = metadata("constrained_ner")["Version"]
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.model
@pytest.mark.parametrize(
    ("page", "number", "said"),
    [
        ("README.md", 0, "Chemical ((0, 7),) Aspirin 0."),
        ("README.md", 1, "Answer: "),
        ("docs/predict.md", 0, "n1 Chemical ((0, 7),) Aspirin 0."),
    ],
)
def test_the_python_of_the_pages_runs(
    page: str, number: int, said: str, smollm2: LoadedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    exec(blocks[number], {})
    assert capsys.readouterr().out.startswith(said)


@pytest.mark.model
def test_one_sentence_is_as_the_page_says(smollm2: LoadedModel) -> None:
    page = (ROOT / "docs" / "one_sentence.md").read_text(encoding="utf-8")
    text, labels = "Aspirin eased the knee pain.", ("Disease", "Chemical")
    format = get_format("multi_term")
    chat = Conversation(format, text, Target(labels)).messages()
    for line in [
        *chat[0]["content"].splitlines(),
        *format.grammar(text, labels, Level.FAITHFUL).source.strip().splitlines(),
    ]:
        assert f"    {line}\n" in page
    vocabulary = smollm2.vocabulary
    assert f"{derived_budget(format, text, labels, vocabulary)} tokens, derived" in page
    assert f"{vocabulary.size:,} tokens" in page
    found = re.search(r"```json\n(.*?)```", page, re.DOTALL)
    answer = re.search(r"^    (Answer: \[\{.*)$", page, re.MULTILINE)
    assert found
    assert answer
    record = json.loads(found[1])
    decoded = format.decode(answer[1], text, labels)
    assert [[entity.label, entity.surface(text)] for entity in decoded.entities] == [
        [entity["label"], entity["surface"]] for entity in record["entities"]
    ]
    assert len(vocabulary.tokenize(answer[1])) + 1 == record["answers"][0]["tokens"]
    # And so the model answers; how sure it is differs a little between processors.
    (command,) = [words for words in commands(page) if "-t" in words]
    written = json.loads(cner(*command, "-q").stdout)
    for shown, said in zip(record["entities"], written["entities"], strict=True):
        assert said.pop("confidence") == pytest.approx(shown.pop("confidence"), abs=0.03)
        assert said == shown
    assert written["answers"][0]["answer"] == answer[1]


@pytest.mark.model
def test_the_note_of_the_docs(smollm2: LoadedModel) -> None:
    """What the model is sure of is the same wherever it runs."""
    page = (ROOT / "docs" / "predict.md").read_text(encoding="utf-8")
    (words,) = [words for words in commands(page) if any("notes.jsonl" in word for word in words)]
    shown = re.findall(r"^      (\w+ +.*\]  0\.(?:8[5-9]|9\d)  .*)$", page, re.MULTILINE)
    assert len(shown) >= 5
    result = cner(*words)
    assert result.exit_code == 0, result.output
    confidence = re.compile(r"\]  \d\.\d\d  ")
    printed = [confidence.sub("]  ", line.strip()) for line in result.stdout.splitlines()]
    for line in shown:
        assert confidence.sub("]  ", line) in printed
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    of_the_note = re.findall(r"^      (\w+ +.*\]  \d\.\d\d  .*)$", readme, re.MULTILINE)
    assert of_the_note
    assert all(f"      {line}\n" in page for line in of_the_note)
