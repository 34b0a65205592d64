"""What is kept of a listing: read by the next run and by other ranks, and never where the data has changed."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from gftzoo.data import Source, folder, open_source
from gftzoo.data.listing import Listing, listed_once
from gftzoo.errors import GftzooError


class Place:
    """Data below a folder, and how often it was listed."""

    def __init__(self, root: Path) -> None:
        self.root, self.kept, self.listed = root, root / "home" / "gftzoo" / "listings", 0
        for name in ("cat/1.png", "cat/deep/2.png", "dog/3.png", "dog/4.png"):
            self.add(f"pictures/{name}")
        self.write_lines("a cat", ["a dog", "an animal"])
        self.age()

    def add(self, name: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(self.root / name, "png")

    def write_lines(self, *captions: str | list[str], image: str = "pictures/cat/1.png") -> None:
        lines = [json.dumps({"caption": caption, "image": image}) for caption in captions]
        (self.root / "lines.jsonl").write_text("\n".join(lines))

    def age(self) -> None:
        """Everything has been there for a while."""
        for path in self.root.rglob("*"):
            os.utime(path, (10**9, 10**9), follow_symlinks=False)

    def open(self, kind: str = "imagefolder") -> Source:
        return open_source(f"{kind}:{self.root / {'imagefolder': 'pictures', 'jsonl': 'lines.jsonl'}[kind]}")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("gftzoo.data.listing.WORTH", 1)
    made = Place(tmp_path)
    for name in ("list_folder", "list_captions"):
        monkeypatch.setattr(folder, name, counting(made, getattr(folder, name)))
    yield made


def counting(place: Place, find: Callable[..., object]) -> Callable[..., object]:
    def found(*asked: object) -> object:
        place.listed += 1
        return find(*asked)

    return found


def told(source: Source) -> list[object]:
    """All that a listing says."""
    rows = range(len(source))
    conditions = [(source.drawn_condition(row, 0), source.drawn_condition(row, 1)) for row in rows]
    return [[source.stored(row) for row in rows], conditions, source.class_names, source.left_out, source.problems]


@pytest.mark.parametrize("kind", ["imagefolder", "jsonl"])
def test_what_was_listed_is_not_listed_again(place: Place, kind: str) -> None:
    (place.root / "pictures" / "cat" / "notes.txt").touch()
    place.age()
    first = told(place.open(kind))
    assert told(place.open(kind)) == first and place.listed == 1


@pytest.mark.parametrize("kind", ["imagefolder", "jsonl"])
def test_of_several_at_once_one_lists(place: Place, kind: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = [told(source) for source in pool.map(place.open, [kind] * 4)]
    assert found == [found[0]] * 4 and place.listed == 1


CHANGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a file more": ("imagefolder", lambda root: Image.new("RGB", (4, 4)).save(root / "pictures/cat/deep/9.png")),
    "a file less": ("imagefolder", lambda root: (root / "pictures/dog/4.png").unlink()),
    "a file of another name": (
        "imagefolder",
        lambda root: (root / "pictures/dog/4.png").rename(root / "pictures/dog/5.png"),
    ),
    "a folder of another name": ("imagefolder", lambda root: (root / "pictures/dog").rename(root / "pictures/bear")),
    "another folder in its place": (
        "imagefolder",
        lambda root: [(root / "pictures").rename(root / "old"), (root / "old/cat").rename(root / "pictures")],
    ),
    "other lines": (
        "jsonl",
        lambda root: (root / "lines.jsonl").write_text((root / "lines.jsonl").read_text().replace("three", "third")),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_listed_anew(place: Place, change: str) -> None:
    kind, apply = CHANGES[change]
    place.write_lines("one", "two", "three")
    place.age()
    before = told(place.open(kind))
    apply(place.root)
    after = told(place.open(kind))
    assert after != before and place.listed == 2


def sealed(body: object) -> bytes:
    """What another version of this code may have written."""
    content = json.dumps(body).encode()
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def damage_file(kept: Path, damaged: Callable[[bytes], bytes]) -> None:
    (file,) = kept.iterdir()
    file.write_bytes(damaged(file.read_bytes()))


@pytest.mark.parametrize(
    "damaged",
    [
        lambda content: b"",
        lambda content: content[:-9],
        lambda content: content.replace(b"cat/1", b"cat/2"),
        lambda content: b"\xff\n{}",
        lambda content: sealed([]),
        lambda content: sealed({"watched": {"/": None}}),
        lambda content: sealed({"files": [], "watched": {}}),
        lambda content: sealed(json.loads(content.split(b"\n")[1]) | {"more": 1}),
    ],
)
def test_a_damaged_file_is_as_none(place: Place, damaged: Callable[[bytes], bytes]) -> None:
    first = told(place.open())
    damage_file(place.kept, damaged)
    assert told(place.open()) == first and place.listed == 2
    assert told(place.open()) == first and place.listed == 2


def test_a_home_that_cannot_be_written_keeps_nothing(place: Place, capsys, caplog) -> None:
    (place.root / "home").touch()
    first = told(place.open())
    assert told(place.open()) == first and place.listed == 2
    assert not capsys.readouterr().err and not caplog.records


def link(place: Place) -> None:
    (place.root / "pictures/cat/link.png").symlink_to(place.root / "pictures/dog/3.png")


HANG_ON_MORE: dict[str, tuple[str, Callable[[Place], object]]] = {
    "a link": ("imagefolder", link),
    "no suffix": ("imagefolder", lambda place: place.add("pictures/cat/5")),
    "a path that is looked into": (
        "jsonl",
        lambda place: place.write_lines("a", image="pictures/../pictures/cat/1.png"),
    ),
}


@pytest.mark.parametrize("case", HANG_ON_MORE)
def test_what_hangs_on_more_than_folders_is_not_kept(place: Place, case: str) -> None:
    kind, apply = HANG_ON_MORE[case]
    apply(place)
    place.age()
    assert told(place.open(kind)) == told(place.open(kind)) and place.listed == 2


def test_what_changed_just_now_is_not_kept(place: Place) -> None:
    """It may change again, within a tick of the file system's clock."""
    place.add("pictures/cat/7.png")
    place.open()
    assert not list(place.kept.glob("*.json"))


def test_what_an_object_store_shows_is_not_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folders may not change when files come."""
    device = place.root.stat().st_dev
    mounts = place.root / "mountinfo"
    mounts.write_text(f"22 27 {os.major(device)}:{os.minor(device)} / /data rw - fuse.gcsfuse bucket rw,user_id=0\n")
    monkeypatch.setattr("gftzoo.data.listing.MOUNTS", mounts)
    place.open()
    place.open()
    assert place.listed == 2 and not list(place.kept.glob("*.json"))


def test_who_waited_for_nothing_lists_beside_the_others(place: Place) -> None:
    listing, together = threading.Event(), threading.Barrier(2, timeout=10)

    def find() -> Listing:
        if not listing.is_set():
            listing.set()
            time.sleep(0.3)  # while the others come to wait
        else:
            together.wait()
        return Listing(["a.png"], [0], lasting=False)

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(listed_once, ["asked"], find)
        listing.wait()
        rest = [pool.submit(listed_once, ["asked"], find) for _ in range(2)]
        assert [each.result().files for each in (first, *rest)] == [["a.png"]] * 3


def test_an_error_reaches_everyone_who_waits(place: Place) -> None:
    place.write_lines()

    def refused(_: int) -> str:
        with pytest.raises(GftzooError) as error:
            place.open("jsonl")
        return str(error.value)

    with ThreadPoolExecutor(3) as pool:
        sentences = set(pool.map(refused, range(3)))
    assert len(sentences) == 1 and "has no lines" in sentences.pop()
