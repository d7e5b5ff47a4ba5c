"""Files that are written whole, where they may be, and for whom."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
from safetensors.torch import save_file

from constrained_ner.atomic import check_writable, ordinary_permissions, whole, whole_folder
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
