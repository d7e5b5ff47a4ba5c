"""Files that are written whole, where they may be, and for whom."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
from safetensors.torch import save_file

from constrained_ner import atomic as atomic_module
from constrained_ner.atomic import (
    check_writable,
    ordinary_permissions,
    whole,
    whole_folder,
    whole_lines,
)
from constrained_ner.errors import InputError


def test_a_block_that_fails_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")

    def fail() -> None:
        with whole(path) as part:
            part.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_comes_whole_or_not_at_all(tmp_path: Path) -> None:
    def fill(folder: Path, name: str) -> None:
        with whole_folder(folder) as part:
            (part / "a.txt").write_text("a")
            (part / name).write_text("b")

    with pytest.raises(OSError, match=r"out/no/b\.txt") as failed:
        fill(tmp_path / "out", "no/b.txt")
    assert failed.value.filename == str(tmp_path / "out" / "no" / "b.txt")
    assert os.listdir(tmp_path) == []
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        fill(tmp_path / name, "b.txt")
        assert sorted(os.listdir(tmp_path / name)) == ["a.txt", "b.txt"]
    assert sorted(os.listdir(tmp_path)) == ["empty", "new"]


def test_two_that_write_at_a_time_do_not_mix(tmp_path: Path) -> None:
    path, folder = tmp_path / "a.txt", tmp_path / "folder"
    with whole(path) as one, whole(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"  # it was the last to end

    def fill_at_once() -> None:
        with whole_folder(folder) as part:
            (part / "a.txt").write_text("late")
            with whole_folder(folder) as sooner:
                (sooner / "b.txt").write_text("sooner")

    with pytest.raises(InputError, match="expected a new or an empty folder"):
        fill_at_once()
    assert os.listdir(folder) == ["b.txt"]
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "folder"]


def test_what_is_replaced_stays_as_private_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    path.chmod(0o600)
    with whole(path) as part:
        part.write_text("after")
    assert path.read_text() == "after"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_where_a_volume_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be moved into it from beside it, nor take the place of a file."""
    folder, path = tmp_path / "volume", tmp_path / "a.txt"
    folder.mkdir()
    path.write_text("before")
    rename = Path.rename

    def within(self: Path, target: Path) -> Path:
        if self.parent.parent != folder:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, target)

    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(Path, "rename", within)
    monkeypatch.setattr(os, "replace", busy)
    monkeypatch.setattr(atomic_module, "_is_apart", lambda folder: True)
    with whole_folder(folder) as part:
        (part / "b.txt").write_text("b")
    assert os.listdir(folder) == ["b.txt"]
    with whole(path) as part:
        part.write_text("after")
    assert path.read_text() == "after"
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "volume"]


def test_a_damaged_journal_says_where(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"{}\n{\xff}\n")
    with pytest.raises(InputError, match="is damaged: line 2 is not UTF-8"):
        whole_lines(path)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    check_writable(tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"a.txt: cannot be written: there is no folder '.*/no'"):
        check_writable(tmp_path / "no" / "a.txt")
    with pytest.raises(InputError, match="cannot be written: a folder has this name"):
        check_writable(tmp_path)


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_permissions_are_those_of_new_files(umask: int, tmp_path: Path) -> None:
    """Weights by safetensors, in a folder by tempfile, are for their owner only."""
    before = os.umask(umask)
    try:
        folder = Path(mkdtemp(dir=tmp_path))
        save_file({"a": torch.zeros(2)}, folder / "weights.safetensors")
        ordinary_permissions(folder)
        (tmp_path / "new").mkdir()
        (tmp_path / "new.txt").write_text("")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)

    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(folder) == mode(tmp_path / "new") == 0o777 & ~umask
    assert mode(folder / "weights.safetensors") == mode(tmp_path / "new.txt") == 0o666 & ~umask
