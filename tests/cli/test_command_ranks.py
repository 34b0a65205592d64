"""Sampling, scoring, sweeping and caching on two ranks give what one process gives, once."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from nano import nano_model
from PIL import Image
from ranks import started, torchrun, wait_for
from ranks_commands import run_all

from gftzoo.data.listing import WORTH
from gftzoo.data.manifest import Manifest
from gftzoo.evaluate import ScoreRecord

STEPS = ["--steps", "2", "--device", "cpu"]


def commands(model: Path, pictures: Path, out: Path) -> list[list[str]]:
    sample = ["sample", str(model), "--beta", "0.5", "--batch-size", "2", *STEPS, "-n", "5", "--out"]
    scored = ["-n", "64", "--batch-size", "16", *STEPS]
    return [
        *([*sample, str(out / name)] for name in ("grid.png", "folder", "all.npz")),
        ["evaluate", str(model), "--beta", "0.5", *scored, "--out", str(out / "record.json")],
        ["sweep", str(model), "--beta", "1,0.5", *scored, "--out", str(out / "sweep")],
        ["cache", "digits", str(out / "cache"), "--model", "dit-nano", "--shard-rows", "512", "-odevice=cpu"],
        ["cache", f"imagefolder:{pictures}", str(out / "pictures"), "--model", "dit-nano", "-odevice=cpu"],
    ]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder whose listing is worth keeping, and which has been as it is for a while."""
    root = tmp_path / "pictures"
    (root / "grey").mkdir(parents=True)
    Image.new("L", (8, 8)).save(root / "grey" / "0.png")
    for number in range(1, WORTH):
        os.link(root / "grey" / "0.png", root / "grey" / f"{number}.png")
    for path in (root, root / "grey"):
        os.utime(path, (10**9, 10**9))
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "nano"
    nano_model("dit-nano", temperature=True).save(folder)
    return folder


def pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def test_two_ranks_do_what_one_does(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    (tmp_path / "commands.json").write_text(json.dumps(commands(model, pictures, two)))
    script = str(Path(__file__).parents[1] / "ranks_commands.py")
    with started(torchrun(script, str(tmp_path / "commands.json")), tmp_path) as job:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))  # what this one lists is not kept for those two
        assert run_all(commands(model, pictures, one)) == 0
        assert job.wait(timeout=300) == 0, (tmp_path / "output.txt").read_text()
    assert np.array_equal(pixels(one / "grid.png"), pixels(two / "grid.png"))
    names = [f"{index:06d}.png" for index in range(5)]
    assert sorted(path.name for path in (two / "folder").iterdir()) == names
    assert all(np.array_equal(pixels(one / "folder" / name), pixels(two / "folder" / name)) for name in names)
    with np.load(one / "all.npz") as alone, np.load(two / "all.npz") as together:
        assert np.array_equal(alone["arr_0"], together["arr_0"])
    for name in ("record.json", *(f"sweep/nano/records/beta={beta}-seed0.json" for beta in ("1", "0.5"))):
        alone, together = ScoreRecord.read(one / name), ScoreRecord.read(two / name)
        assert together.scores.model_dump() == pytest.approx(alone.scores.model_dump(), abs=1e-4)
        assert together.subject == alone.subject
    assert (two / "sweep" / "curves.png").exists()
    for name in ("cache", "pictures"):
        assert Manifest.read(two / name) == Manifest.read(one / name)
    output = (tmp_path / "output.txt").read_text()
    assert sorted(re.findall(r"Listed here: (\d)", output)) == ["0", "1"]
    assert len(re.findall(r"5 images of dit-nano", output)) == 3 and output.count("Done: ") == 2, output
    assert len(re.findall(r"64 images \(balanced", output)) == 1


def test_a_rank_that_dies_ends_the_job_with_a_sentence(model: Path, tmp_path: Path) -> None:
    words = ["sample", str(model), "--beta", "0.5", "-n", "100000", "--batch-size", "2", *STEPS]
    with started(torchrun("-m", "gftzoo", *words, "--out", str(tmp_path / "x.npz")), tmp_path) as job:
        wait_for(lambda: any(tmp_path.glob("x.npz.partial/done/*")), job, tmp_path)
        rank = next(p for p in psutil.Process(job.pid).children() if p.environ().get("RANK") == "1")
        rank.send_signal(signal.SIGKILL)
        begin = time.monotonic()
        assert job.wait(timeout=60) != 0
    output = (tmp_path / "output.txt").read_text()
    assert time.monotonic() - begin < 60
    assert re.search(r"Error: rank 0 .*(told to stop|lost another rank).*give the same command again", output), output
