"""The page about one's own pictures, from folder to report: its commands on 60 pictures in 3 unequal classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from command import call
from PIL import Image
from tool import TOOLS, load

from gftzoo.report.reading import RunFolder

COUNTS = {"cats": 36, "dogs": 18, "foxes": 6}
# So that it takes seconds: fewer steps of smaller batches, and fewer images.
LESS = {
    "train": [
        *("--steps", "4", "-o", "batch_size=6", "-o", "checkpoint_every=2", "-o", "sample_grid=[1, 3]"),
        *("-o", "score.every=4", "-o", "score.images=4"),
    ],
    "evaluate": ["-n", "12", "--steps", "2"],
    "sweep": ["-n", "12", "--steps", "2"],
    "sample": ["-n", "3", "--steps", "2"],
}


def photos(folder: Path) -> None:
    """Pictures that a class can be told of: bright above, below or left."""
    random = np.random.default_rng(0)
    places = (np.s_[:4, :], np.s_[4:, :], np.s_[:, :4])
    for place, (name, count) in zip(places, COUNTS.items(), strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 60, (8, 8), np.uint8)
            pixels[place] += 180
            Image.fromarray(pixels).save(folder / name / f"{number:03d}.png")


def test_the_page_about_own_pictures_does_what_it_says(tmp_path: Path, monkeypatch, capsys) -> None:
    docs = load("docs_snippets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for limit in ("FEWEST_STEPS", "MOST_STEPS"):
        monkeypatch.setattr(f"gftzoo.evaluate.embedded.{limit}", 3)  # of the classifier that scores
    photos(tmp_path / "photos")
    page = TOOLS.parent / "docs" / "own-data.md"
    blocks = [block for block in docs.snippets(page) if block.language == "sh" and block.runs]
    commands = [words for block in blocks for words in docs.commands(block)]
    assert [words[1] for words in commands] == ["train", "evaluate", "sweep", "sample", "runs", "report"]
    for words in commands:
        assert call(*words[1:], *LESS.get(words[1], [])) == 0, words
    said = capsys.readouterr()
    assert "are 0.5 epochs of 48." in said.err and "A batch of 6" in said.err
    run = RunFolder(tmp_path / "runs" / "mine")
    assert run.config["data"].endswith("photos#validation=20%") and run.state == "finished"
    assert [record["name"] for record in run.scores] == ["beta-0.5", "step-00000004"]
    assert all(record["measure"]["reference"].endswith("held-out (12 images)") for record in run.scores)
    assert "mine" in said.out and any(key.startswith("score.FD-") for key in run.rows[-1])
    report = (run.path / "report.html").read_text()
    assert "validation loss" in report and "<h2>Scores</h2>" in report and "cats" in report
    assert (run.path / "checkpoint_best").is_dir() and (tmp_path / "best.png").is_file()
    assert len(list((tmp_path / "sweep").rglob("curve.csv"))) == 1
