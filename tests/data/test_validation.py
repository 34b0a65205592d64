"""A part of one's own data that training does not see, and classes that are seen as often as each other."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gftzoo.data import Layout, open_source, training_data
from gftzoo.data.preflight import MANY_EPOCHS, epochs_sentence
from gftzoo.data.training import BalancedSampler
from gftzoo.errors import GftzooError

COUNTS = {"cats": 24, "dogs": 9, "foxes": 3}


def draw(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, (name, count) in enumerate(COUNTS.items()):
        for picture in range(count):
            draw(tmp_path / "photos" / name / f"{picture:03d}.png", 80 * number + picture)
    return tmp_path / "photos"


def pictures(name: str, split: str) -> set[int]:
    """The grey values of a split's pictures, each of which has one of its own."""
    source = open_source(name, split)  # type: ignore[arg-type]
    return {int(source.image(row, 8, 1)[0, 0, 0]) for row in range(len(source))}


def test_parts_are_apart_and_whole_and_have_every_class(photos: Path) -> None:
    name = f"imagefolder:{photos}#validation=20%"
    train, held_out, everything = (pictures(name, split) for split in ("train", "held-out", "all"))
    assert train | held_out == everything and not train & held_out and len(everything) == 36
    source = open_source(name, "held-out")
    assert Counter(source.condition_of(row) for row in range(len(source))) == {0: 5, 1: 2, 2: 1}
    prints = {open_source(name, split).fingerprint for split in ("train", "held-out", "all")}
    assert len(prints) == 3 and pictures(f"imagefolder:{photos}", "train") == everything


def test_a_picture_keeps_its_part_when_others_come_or_the_folder_moves(photos: Path) -> None:
    before = pictures(f"imagefolder:{photos}#validation=20%", "held-out")
    moved = photos.rename(photos.parent / "moved")
    assert pictures(f"imagefolder:{moved}#validation=0.2", "held-out") == before
    draw(moved / "cats" / "new.png", 240)
    assert len(before ^ pictures(f"imagefolder:{moved}#validation=20%", "held-out")) <= 2


def test_captions_have_a_part_as_well(photos: Path) -> None:
    lines = [json.dumps({"caption": f"a {path.parent.name}", "image": str(path)}) for path in photos.rglob("*.png")]
    (photos / "captions.jsonl").write_text("\n".join(lines))
    name = f"jsonl:{photos / 'captions.jsonl'}#validation=25%"
    assert len(pictures(name, "held-out")) == 9 and len(pictures(name, "train")) == 27


def test_a_class_of_one_picture_cannot_be_in_both(photos: Path) -> None:
    shutil.copytree(photos / "foxes", photos / "owls")
    for path in sorted((photos / "owls").iterdir())[1:]:
        path.unlink()
    with pytest.raises(GftzooError, match=r"class 'owls' .* has one picture"):
        open_source(f"imagefolder:{photos}#validation=5%", "train")


@pytest.mark.parametrize("share", ["0", "60%", "much", "-5%", "nan"])
def test_a_share_is_a_share(share: str, photos: Path) -> None:
    with pytest.raises(GftzooError, match="validation"):
        open_source(f"imagefolder:{photos}#validation={share}", "train")


def test_balanced_classes_are_seen_as_often_and_each_picture_of_a_class_too(photos: Path) -> None:
    source = open_source(f"imagefolder:{photos}")
    classes = [int(source.condition_of(row)) for row in range(len(source))]
    keys = list(islice(iter(BalancedSampler(classes, seed=1)), 3 * 24 * 2))
    rows = [row for row, _ in keys]
    assert Counter(classes[row] for row in rows) == dict.fromkeys(range(3), 48)
    assert all({classes[row] for row in rows[start : start + 3]} == {0, 1, 2} for start in range(0, 144, 3))
    assert set(Counter(row for row in rows if classes[row] == 0).values()) == {2}
    assert set(Counter(row for row in rows if classes[row] == 2).values()) == {16}
    later = BalancedSampler(classes, seed=1)
    later.seek(50)
    assert list(islice(iter(later), 10)) == keys[50:60]
    assert rows != [row for row, _ in islice(iter(BalancedSampler(classes, seed=2)), 144)]


def test_ranks_share_a_balanced_order(photos: Path) -> None:
    source = open_source(f"imagefolder:{photos}")
    both = [training_data(source, 8, 1, 0, False, Layout(2, 1, 4), balance=True)[1] for _ in range(2)]
    one = training_data(source, 8, 1, 0, False, Layout(1, 1, 8), balance=True)[1]
    for rank, sampler in enumerate(both):
        sampler.rank, sampler.world = rank, 2
    taken = [list(islice(iter(sampler), 4)) for sampler in both]
    assert taken[0] + taken[1] == list(islice(iter(one), 8))


def test_captions_and_streams_are_not_balanced(photos: Path) -> None:
    (photos / "a.jsonl").write_text(json.dumps({"caption": "a", "image": str(photos / "cats" / "000.png")}))
    with pytest.raises(GftzooError, match="balance=true needs the class"):
        training_data(open_source(f"jsonl:{photos / 'a.jsonl'}"), 8, 1, 0, False, Layout(1, 1, 1), balance=True)


def test_epochs_are_said_beside_steps() -> None:
    assert epochs_sentence(1000, 100, 250) == "100 steps of 250 images are 25.0 epochs of 1,000."
    many = epochs_sentence(30, 140_000, 256)
    assert "1,194,667 epochs of 30" in many and f"try --steps {MANY_EPOCHS * 30 // 256}" in many
