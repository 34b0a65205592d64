"""The fingerprint of data: it changes when what is trained on does, and only then."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from gftzoo.data import fingerprint, open_source
from gftzoo.data.fingerprint import Fingerprint, fingerprint_of


def picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((9, 9, 3), shade, np.uint8)).save(path)


def folder_source(root: Path) -> str:
    for number in range(6):
        picture(root / ("cat" if number % 2 else "dog") / f"{number}.bmp", 30 * number)
    return f"imagefolder:{root}"


def caption_source(root: Path) -> str:
    lines = []
    for number in range(6):
        picture(root / f"{number}.bmp", 30 * number)
        lines.append(json.dumps({"caption": f"number {number}", "image": f"{number}.bmp"}))
    (root / "data.jsonl").write_text("\n".join(lines))
    return f"jsonl:{root / 'data.jsonl'}"


def table_source(root: Path, shade: int = 0) -> str:
    pictures = [Image.fromarray(np.full((9, 9), 30 * number + shade, np.uint8)) for number in range(6)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    rows = {"image": pictures, "label": [0, 1] * 3}
    root.mkdir(exist_ok=True)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(root / "data.parquet")
    return f"hf:{root / 'data.parquet'}"


def taken(spec: str) -> Fingerprint:
    return fingerprint_of(open_source(spec))


@pytest.mark.parametrize("make", [folder_source, caption_source, table_source])
def test_a_copy_has_the_same_fingerprint(make: Callable[[Path], str], tmp_path: Path) -> None:
    found = taken(make(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")  # with new change times
    os.utime(next(path for path in (tmp_path / "b").rglob("*.*")), (1, 1))
    assert taken(make(tmp_path / "a").replace("/a", "/b")) == found
    assert Fingerprint.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("make", [folder_source, caption_source])
def test_a_picture_rewritten_in_place_is_seen_whatever_its_times_say(
    make: Callable[[Path], str], tmp_path: Path
) -> None:
    spec = make(tmp_path)
    before = taken(spec)
    path = sorted(tmp_path.rglob("*.bmp"))[3]
    size, when = path.stat().st_size, path.stat().st_mtime_ns
    picture(path, 255)
    os.utime(path, ns=(when, when))
    after = taken(spec)
    assert path.stat().st_size == size
    assert after.content != before.content and after.key != before.key and after.counts == before.counts


def test_a_table_with_another_picture_is_seen(tmp_path: Path) -> None:
    assert taken(table_source(tmp_path / "a")).content != taken(table_source(tmp_path / "b", shade=1)).content


def test_classes_and_counts_are_named(tmp_path: Path) -> None:
    spec = folder_source(tmp_path)
    picture(tmp_path / "cat" / "new.bmp", 7)
    found = taken(spec)
    assert (found.classes, found.counts, found.images) == (("cat", "dog"), (4, 3), 7)
    (tmp_path / "cat").rename(tmp_path / "zebra")
    assert taken(spec).classes == ("dog", "zebra")


def test_of_large_data_what_is_not_read_counts_by_its_change_time(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(fingerprint, "SAMPLES", 2)
    spec = folder_source(tmp_path)
    before = taken(spec)
    os.utime(tmp_path / "cat" / "3.bmp", (1, 1))
    after = taken(spec)
    assert before.times != after.times and before.content == after.content and before.key != after.key


def test_the_end_of_a_long_file_counts(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(fingerprint, "END", 64)
    spec = folder_source(tmp_path)
    before = taken(spec)
    path = tmp_path / "cat" / "1.bmp"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    assert before.times and taken(spec).content != before.content


def test_embedded_data_and_streams_have_one(tmp_path: Path) -> None:
    digits = taken("digits")
    assert digits == taken("digits") and sum(digits.counts) == digits.images and not digits.times
    table_source(tmp_path)
    before = taken(f"stream:{tmp_path}")
    assert before == taken(f"stream:{tmp_path}") and before.images is None
    table_source(tmp_path, shade=1)
    assert taken(f"stream:{tmp_path}").content != before.content
