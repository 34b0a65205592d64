"""What Windows and macOS lack, and what is done there instead; the system is played by what Python says of it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from encoded import writer
from PIL import Image

from gftzoo import systems
from gftzoo.data import Layout, open_source, training_data


def on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systems, "on_windows", lambda: True)


def test_no_module_takes_from_a_system_what_another_lacks() -> None:
    """All of that stands in `gftzoo.systems`, behind a question."""
    lacking = ("fcntl", "import resource", "sched_getaffinity", "getuid", "os.kill(", "symlink_to", "SIGUSR", "SIGALRM")
    root = Path(systems.__file__).parent
    found = [
        (path.relative_to(root).as_posix(), word)
        for path in root.rglob("*.py")
        for word in lacking
        if path.name != "systems.py" and word in path.read_text("utf-8")
    ]
    assert found == [("homes.py", "getuid")]  # behind the question, too


def test_processors_are_counted_without_an_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    assert systems.processors() >= 1
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert systems.processors() == 6


def test_a_process_is_known_to_run_until_it_ends() -> None:
    assert systems.is_running(os.getpid())
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert not systems.is_running(process.pid)


def test_windows_flushes_files_alone_and_through_a_handle_that_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_windows(monkeypatch)
    opened: list[tuple[Path, int]] = []
    original = os.open
    monkeypatch.setattr(os, "open", lambda path, flags: opened.append((path, flags)) or original(path, flags))
    (tmp_path / "file").write_text("x")
    systems.flush(tmp_path / "file")
    systems.flush(tmp_path)
    assert opened == [(tmp_path / "file", os.O_RDWR)]


@pytest.mark.parametrize("allowed", [True, False], ids=["links", "junctions"])
def test_a_link_moves_from_one_folder_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    made: list[tuple[str, str]] = []
    original = Path.symlink_to
    if not allowed:
        on_windows(monkeypatch)
        monkeypatch.setattr(sys, "platform", "win32")

        def junction(target: str, link: str) -> None:
            made.append((target, link))
            original(Path(link), target)

        def refused(*_: object, **__: object) -> None:
            raise OSError(1314, "a required privilege is not held by the client")

        monkeypatch.setattr(Path, "symlink_to", refused)
        monkeypatch.setattr(systems, "_winapi", SimpleNamespace(CreateJunction=junction), raising=False)
    for name in ("a", "b"):
        systems.link_folder(tmp_path / "best", Path(name))
        assert (tmp_path / "best").resolve() == tmp_path / name
    assert not list(tmp_path.glob(".best")) and all(Path(target).is_absolute() for target, _ in made)
    assert len(made) == (0 if allowed else 2)


@pytest.mark.parametrize("kind", ["memory", "folder", "cache"])
def test_data_travel_to_a_loading_process_that_is_not_forked(kind: str, tmp_path: Path) -> None:
    """macOS and Windows start them afresh."""
    name = "emoji-ten"
    if kind == "folder":
        for label in ("a", "b"):
            (tmp_path / label).mkdir()
            Image.new("RGB", (32, 32), "red" if label == "a" else "blue").save(tmp_path / label / "x.png")
        name = f"imagefolder:{tmp_path}"
    elif kind == "cache":
        writer("dit-nano", "digits", tmp_path / "cache").run()
        name = f"cache:{tmp_path / 'cache'}"
    data, _ = training_data(open_source(name, "train"), 32, 3, seed=0, hflip=True, layout=Layout(1, 1, 2))
    keys = [(0, 0), (1, 1)]
    here, there = data.__getitems__(keys), pickle.loads(pickle.dumps(data)).__getitems__(keys)
    assert all(torch.equal(value, there[key]) for key, value in here.items() if isinstance(value, torch.Tensor))
