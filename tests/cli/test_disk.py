"""Every writing command against a disk that is full, nearly full or read-only: one sentence, and nothing left.

The disks are small tmpfs mounts, so the tests need a user who may mount.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gftzoo import homes
from gftzoo.cli import main
from gftzoo.engine import resolve, train
from gftzoo.evaluate import embedded, keeping

BALLAST = "ballast"
SENTENCES = {"full": "No space left on device", "half": "No space left on device", "read-only": "Read-only file system"}
ROOM = {"full": 0, "half": 32 * 1024, "read-only": 512 * 1024}


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def mounted(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here ({done.stderr.strip()})")


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk of 512 KiB in the state that the test's parameter says, with a ballast file on it."""
    place, state = tmp_path / "disk", request.param
    place.mkdir()
    mounted("-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place))
    try:
        with (place / BALLAST).open("wb", buffering=0) as file:
            file.write(b"x")
            for _ in range((512 * 1024 - ROOM[state]) // 4096 - 1):
                file.write(bytes(4096))
        if state == "read-only":
            mounted("-o", "remount,ro", str(place))
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run, a folder of images and a cache folder for classifiers that are trained in a moment."""
    root = tmp_path_factory.mktemp("made")
    torch.manual_seed(0)
    train(resolve("dit-nano", data="digits", steps=1, options={"batch_size": 2, "sample_grid": (1, 2)}), root / "run")
    (root / "pictures").mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(root / "pictures" / f"{index}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "FEWEST_STEPS", 2)
        patch.setattr(embedded, "EPOCHS", 0)
        patch.setenv("XDG_CACHE_HOME", str(root / "home"))
        yield root


SCORING = ("--features", "embedded:digits", "--reference", "data:digits", "--few")
DRAWING = ("--beta", "0.5", "-n", "8", "--steps", "1")
COMMANDS = {
    "export": ("export", "{run}", "{out}", "--to", "safetensors"),
    "export below": ("export", "{run}", "{out}/a/b", "--to", "safetensors"),
    "import": ("import", "dit-nano", "{raw}", "{out}"),
    "new-plugin": ("new-plugin", "own", "--out", "{out}"),
    "sample png": ("sample", "{run}", *DRAWING, "--out", "{out}.png"),
    "sample folder": ("sample", "{run}", *DRAWING, "--out", "{out}"),
    "sample npz": ("sample", "{run}", *DRAWING, "--out", "{out}.npz"),
    "sample many": ("sample", "{run}", *DRAWING[:2], "-n", "5000", "--steps", "1", "--out", "{out}.npz"),
    "evaluate": ("evaluate", "{pictures}", *SCORING, "--out", "{out}/record.json"),
    "sweep": ("sweep", "{run}", "--beta", "1", *DRAWING[2:], *SCORING, "--out", "{out}"),
    "cache": ("cache", "digits", "{out}", "--model", "dit-nano"),
    "cache below": ("cache", "digits", "{out}/a/b", "--model", "dit-nano", "--shard-rows", "64"),
}
SMALL = {"new-plugin", "sample png", "sample folder", "sample npz", "evaluate", "sweep"}  # they fit half of a disk
CASES = [("full", name) for name in COMMANDS] + [("read-only", name) for name in COMMANDS]
CASES += [("half", name) for name in COMMANDS if name not in SMALL]


@pytest.mark.parametrize(("disk", "name"), CASES, indirect=["disk"])
def test_a_disk_that_does_not_take_it(disk: Path, name: str, made: Path, request, capsys) -> None:
    state = request.node.callspec.params["disk"]
    raw = next((made / "run" / "checkpoints").glob("*/raw.safetensors"))
    places = {"run": made / "run", "raw": raw, "pictures": made / "pictures", "out": disk / "out"}
    before = {path: path.stat().st_size for path in disk.rglob("*")}
    assert call(*(word.format(**places) for word in COMMANDS[name])) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error")]
    assert len(said) == 1 and SENTENCES[state] in said[0] and str(disk / "out") in said[0], said
    assert "unexpected" not in said[0] and ".partial" not in said[0]
    begun = {path: size for path, size in ((p, p.stat().st_size) for p in disk.rglob("*")) if path not in before}
    if name.startswith("cache") and "shards are complete" in said[0]:  # the same command goes on with what is kept
        assert not [path for path in begun if path.name.endswith(".partial")]
        return
    assert begun == {}


@pytest.mark.parametrize("disk", ["full", "read-only"], indirect=True)
def test_a_home_that_takes_nothing_still_gives_a_classifier(disk: Path, made: Path, monkeypatch, caplog) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(disk / "home"))
    monkeypatch.setattr(keeping, "_in_memory", {})
    hashes = {embedded.embedded_classifier("digits").weights_sha256 for _ in range(2)}
    monkeypatch.setenv("XDG_CACHE_HOME", str(made / "other"))
    monkeypatch.setattr(keeping, "_in_memory", {})
    assert hashes == {embedded.embedded_classifier("digits").weights_sha256}
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and "kept for this process only" in said[0] and str(disk) in said[0]
    assert [path.name for path in disk.iterdir()] == [BALLAST]


@pytest.mark.parametrize("damage", [b"", b"half", b"flipped"])
def test_a_damaged_classifier_heals_itself(damage: bytes, made: Path, tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = embedded.embedded_classifier("digits").weights_sha256
    (path,) = keeping.cache_folder("features").iterdir()
    whole = path.read_bytes()
    path.write_bytes({b"": b"", b"half": whole[:1000], b"flipped": whole[:-1] + bytes([whole[-1] ^ 1])}[damage])
    assert embedded.embedded_classifier("digits").weights_sha256 == first and path.read_bytes() == whole
    sentence = f"The feature network {str(path)!r} is damaged and is trained again."
    assert [record.getMessage() for record in caplog.records] == [sentence]


def test_libraries_get_another_place_than_a_home_that_takes_nothing(tmp_path: Path, monkeypatch) -> None:
    for name in ("XDG_CACHE_HOME", "HF_HOME", *homes.VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert homes.spare_a_home() is None
    monkeypatch.setenv("HOME", str(tmp_path / "nothing"))
    monkeypatch.setattr("os.environ", {**os.environ, "MPLCONFIGDIR": "mine"})
    folder = homes.spare_a_home()
    assert folder is not None and os.environ["MPLCONFIGDIR"] == "mine"
    assert os.environ["HF_DATASETS_CACHE"] == str(Path(folder) / "datasets")
