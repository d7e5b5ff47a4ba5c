"""What commands say beside their results: how much, how far they are, and how to go on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from io import BytesIO
from pathlib import Path

import pytest

from constrained_ner.cli import progress as progress_module
from constrained_ner.cli.messages import messages
from constrained_ner.cli.progress import Progress, clock, progress
from tests.support.commands import cner

TEXT = ("predict", "-t", "Knee pain.", "--labels", "Disease", "--max-new-tokens", "20")


def test_quiet_and_verbose(tiny_folder: Path) -> None:
    model = ("--model", tiny_folder)
    quiet, plain, verbose = (cner(*TEXT, *model, *more) for more in (["-q"], [], ["-v"]))
    assert quiet.stderr == ""
    assert plain.stderr.startswith("1 document, ")
    assert "format: multi_term, faithful" in verbose.stderr
    assert "labels: Disease" in verbose.stderr
    assert plain.stderr.splitlines()[1:] == verbose.stderr.splitlines()[-3:]
    by_name = cner(*TEXT, *model, "--log-level", "warning")
    assert by_name.stderr == ""
    assert len({done.stdout for done in (quiet, plain, verbose, by_name)}) == 1


def test_a_file_name_that_is_no_text_ends_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    """Not where it is printed, either: the documents behind it are answered."""
    notes = tmp_path / "notes.tar"  # not every file system takes such a name
    with tarfile.open(notes, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in ((b"caf\xe9.txt", b"caf\xe9"), (b"z.txt", b"Knee pain.")):
            member = tarfile.TarInfo(name.decode(errors="surrogateescape"))
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    asked = [str(part) for part in (*TEXT[:1], notes, *TEXT[3:], "--model", tiny_folder)]
    done = subprocess.run(
        [sys.executable, "-m", "constrained_ner", *asked],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "caf\\udce9.txt" in done.stdout
    assert "2 documents" in done.stderr


def test_warnings_are_never_quiet(scored_folder: Path) -> None:
    done = cner(*TEXT, "--model", scored_folder, "--format", "multi_term", "-q")
    assert "warning: answers in multi_term are not to be trusted" in done.stderr
    # With -q nothing else is said.
    assert all(line.startswith("warning: ") for line in done.stderr.splitlines())


def test_how_far_a_command_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "monotonic", lambda: 1000.0)
    shown = Progress("documents", 4, 1000.0)
    shown.add(0, 250.0)
    shown._began -= 60
    assert shown.status == "0 of 4 documents, 25%, 1:00, 3:00 left"
    shown.add(3, 750.0)
    assert shown.status == "3 of 4 documents, 99%, 1:00, 0:01 left"
    shown.add(1)
    assert shown.status == "4 of 4 documents, 100%, 1:00, 0:00 left"
    unknown = Progress("documents")
    unknown.add(3)
    unknown._began -= 30
    assert unknown.status == "3 documents, 0.10/s, 0:30"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0:00"), (61.4, "1:01"), (3599.6, "1:00:00"), (90_061, "25:01:01")]
)
def test_clock(seconds: float, said: str) -> None:
    assert clock(seconds) == said


def test_without_a_terminal_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with messages():
        assert list(progress([1, 2, 3], "documents")) == [1, 2, 3]
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(progress_module, "EVERY", 0.0)
        assert list(progress([1, 2, 3], "documents")) == [1, 2, 3]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"{n} of 3 documents" for n in (1, 2, 3)]


def test_one_long_document_shows_how_far_it_is(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "EVERY", 0.0)
    text = "Knee pain. " * 5
    done = cner("predict", "-t", text, *TEXT[3:], "--model", tiny_folder)
    parts = [line for line in done.stderr.splitlines() if line.startswith("0 of 1 documents")]
    assert len(parts) == 5, done.stderr
    assert [line.split(", ")[1] for line in parts] == ["20%", "40%", "60%", "80%", "99%"]


def test_nothing_is_replaced_unless_asked(tiny_folder: Path, tmp_path: Path) -> None:
    notes, out = tmp_path / "notes.jsonl", tmp_path / "out.jsonl"
    notes.write_text('{"id": "1", "text": "Knee pain.", "entities": []}\n')
    outputs = [
        ("predict", notes, "--model", tiny_folder, *TEXT[3:], "-o", out),
        ("convert", notes, out),
        ("page", notes, out),
        ("evaluate", notes, notes, "-o", out),
        ("check", notes, "--labels", "Disease", "--format", "multi_term", "-o", out),
    ]
    for command in outputs:
        out.write_text("precious\n")
        done = cner(*command)
        assert done.exit_code == 1, command
        assert f"{out}: is there already: --overwrite replaces it" in done.stderr
        assert out.read_text() == "precious\n"
        assert cner(*command, "--overwrite").exit_code == 0, command
        assert out.read_text() != "precious\n"
    out.write_text("")  # nothing is lost: such as mktemp makes
    assert cner(*outputs[1]).exit_code == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--words", "fine"], "--words is for multi_bio"),
        (["--anchor", "offsets"], "--anchor is for multi_brat"),
        (["--free", "--confidence"], "--confidence is of masked answers"),
        (["--no-confidence", "--min-confidence", "0.5"], "--min-confidence, --precision and"),
        (["--limit", "3"], "--input-format and --limit go with an INPUT"),
        (["--resume", "--overwrite", "-o", "x.jsonl"], "--resume and --overwrite"),
    ],
)
def test_options_that_would_change_nothing_are_refused(
    tiny_folder: Path, more: list[str], said: str
) -> None:
    done = cner(*TEXT, "--model", tiny_folder, "--format", "multi_term", *more)
    assert done.exit_code == 2
    assert said in done.stderr


def test_after_ctrl_c_it_says_how_to_go_on(tiny_folder: Path, tmp_path: Path) -> None:
    notes, out = tmp_path / "notes.txt", tmp_path / "out.jsonl"
    notes.write_text("\n".join(f"Case {i}: left knee pain, no fever." for i in range(400)))
    command = [sys.executable, "-m", "constrained_ner", "predict", str(notes), "-o", str(out)]
    command += ["--input-format", "lines", "--labels", "Disease", "--model", str(tiny_folder)]
    command.append("--overwrite")
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1"},
        # Who starts tests in the background may have them pass the signal over.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None and not (out.exists() and out.stat().st_size):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    *_, last = said.decode().splitlines()
    there = re.fullmatch(
        rf"stopped: there are (\d+) records for {re.escape(str(out))}, and the same command with "
        "--resume in place of --overwrite goes on",
        last,
    )
    assert there is not None, last
    count = int(there[1])
    assert count == len(out.read_text().splitlines()) > 0
    assert all(json.loads(line)["id"] for line in out.read_text().splitlines())
