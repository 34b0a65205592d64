"""Files and folders whole or not at all: what is left after a failure, of other writers, and what is said."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from safetensors import SafetensorError

from gftzoo.atomic import DiskError, folder_written_whole, is_free, written_whole

Writer = Callable[[Path], AbstractContextManager[Path]]


def fill(place: Path, text: str = "mine") -> None:
    """Writes into the place of a file or of a folder."""
    (place / "inner" / "a" if place.is_dir() else place).parent.mkdir(exist_ok=True)
    (place / "inner" / "a" if place.is_dir() else place).write_text(text)


def entries(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@pytest.mark.parametrize("writer", [written_whole, folder_written_whole])
@pytest.mark.parametrize("below", ["x", "new/deep/x"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("a")])
def test_a_failure_leaves_nothing(writer: Writer, below: str, error: BaseException, tmp_path: Path) -> None:
    expected = DiskError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), writer(tmp_path / below) as place:
        fill(place)
        raise error
    assert entries(tmp_path) == []
    with writer(tmp_path / below) as place:
        fill(place)
    assert [name for name in entries(tmp_path) if "partial" in name] == []


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    with pytest.raises(ValueError, match="a"), written_whole(tmp_path / "x") as place:
        place.write_text("half")
        raise ValueError("a")
    assert entries(tmp_path) == ["x"] and (tmp_path / "x").read_text() == "old"


def test_an_empty_folder_is_filled_and_one_in_use_is_not(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    with folder_written_whole(Path()) as place:
        fill(place)
    assert tmp_path.stat().st_ino == before and entries(tmp_path) == ["inner", "inner/a"]
    with pytest.raises(DiskError, match=r"could not be written \(File exists\)"), folder_written_whole(Path()) as place:
        fill(place, "other")
    assert (tmp_path / "inner" / "a").read_text() == "mine" and len(entries(tmp_path)) == 2


def test_a_folder_made_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="Directory not empty"), folder_written_whole(tmp_path / "x") as place:
        fill(place)
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "theirs").touch()
    assert entries(tmp_path) == ["x", "x/theirs"]


@pytest.mark.parametrize("name", ["written_whole", "folder_written_whole"])
def test_what_a_killed_process_left_goes_with_the_next_write(name: str, tmp_path: Path) -> None:
    code = f"import os, pathlib; from gftzoo.atomic import {name} as w\n"
    code += f"with w(pathlib.Path({str(tmp_path / 'x')!r})) as p:\n p.touch(); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert len(entries(tmp_path)) == 1 and is_free(tmp_path) and is_free(tmp_path / "x")
    with written_whole(tmp_path / "x") as ours, written_whole(tmp_path / "x") as other:
        assert len(entries(tmp_path)) == 0
        other.write_text("other")
        ours.write_text("ours")
    assert entries(tmp_path) == ["x"] and not is_free(tmp_path / "x") and not is_free(tmp_path)


FAULTS: dict[str, tuple[BaseException, str]] = {
    "full": (OSError(errno.ENOSPC, "x"), r"\(No space left on device\); make room there or name another place\.$"),
    "quota": (OSError(errno.EDQUOT, "x"), "your quota there is used up"),
    "read-only": (OSError(errno.EROFS, "x"), "name a place that can be written"),
    "permission": (PermissionError(errno.EACCES, "x"), "you may not write there"),
    "safetensors": (SafetensorError("I/O error: No space left on device (os error 28)"), "make room"),
    "arrow": (OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left"), "make room"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_disk_are_one_sentence(fault: str, tmp_path: Path) -> None:
    error, sentence = FAULTS[fault]
    with pytest.raises(DiskError, match=sentence) as caught, written_whole(tmp_path / "x"):
        raise error
    assert str(caught.value).startswith(f"{str(tmp_path / 'x')!r} could not be written (") and caught.value.__cause__


def test_a_writer_inside_of_another_tells_of_the_outer_place(tmp_path: Path) -> None:
    outer = folder_written_whole(tmp_path / "x")
    with pytest.raises(DiskError) as caught, outer as folder, written_whole(folder / "inner" / "a"):
        raise OSError(errno.ENOSPC, "x")
    assert str(caught.value).startswith(f"{str(tmp_path / 'x')!r} could not") and ".partial" not in str(caught.value)


def test_a_file_in_the_way_and_a_name_too_long(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, sentence in ((tmp_path / "file" / "x", "Not a directory"), (tmp_path / ("n" * 300), "a shorter name")):
        for writer in (written_whole, folder_written_whole):
            with pytest.raises(DiskError, match=sentence), writer(path) as place:
                place.touch()
    assert entries(tmp_path) == ["file"]


def test_faults_of_other_files_are_not_the_disks(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such"), written_whole(tmp_path / "x"):
        (tmp_path.parent / "no-such").read_text()
    with pytest.raises(OSError, match="odd") as caught, written_whole(tmp_path / "x"):
        raise OSError("odd")
    assert not isinstance(caught.value, DiskError) and entries(tmp_path) == []


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    longest = tmp_path / ("ä" * (os.pathconf(tmp_path, "PC_NAME_MAX") // 2))
    with written_whole(longest) as place:
        place.touch()
    assert longest.is_file()
