"""A source with damaged pictures is, to the bit, the source without them, and says which they are."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from command import call
from PIL import Image
from pooled import Pooled
from safetensors.torch import load_file

from gftzoo.data import decoding, open_source, readable
from gftzoo.data.beside import open_beside
from gftzoo.data.fingerprint import fingerprint_of
from gftzoo.data.lanes import Layout
from gftzoo.data.manifest import Manifest
from gftzoo.data.picture import Decoding
from gftzoo.data.preflight import preflight
from gftzoo.data.stream import StreamSource
from gftzoo.data.training import training_data
from gftzoo.engine import checkpoints, resolve, train
from gftzoo.engine.run.resolving import loading_processes
from gftzoo.errors import GftzooError
from gftzoo.evaluate.references import open_reference

COUNT = 12
BAD = (0, 4, 5, 11)  # the first of all, neighbours, and the last


def content(number: int, damaged: bool) -> bytes:
    """A PNG or JPEG; a damaged one is cut off, has a wrong byte in its data, or is none."""
    noise = np.random.default_rng(number).integers(0, 255, (10, 10, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG" if number % 2 else "JPEG")
    whole = file.getvalue()
    if not damaged:
        return whole
    torn = (whole[: len(whole) * 2 // 3], b"nothing", whole[:60] + b"\xff\0\xff" + whole[63:], b"")
    return torn[BAD.index(number)]


def rows(with_damaged: bool) -> list[tuple[int, bytes]]:
    return [(n, content(n, n in BAD)) for n in range(COUNT) if with_damaged or n not in BAD]


def folder(root: Path, with_damaged: bool) -> str:
    for number, data in rows(with_damaged):
        path = root / f"c{number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return f"imagefolder:{root}"


def lines(root: Path, with_damaged: bool) -> str:
    root.mkdir()
    entries = []
    for number, data in rows(with_damaged):
        (root / f"{number}.png").write_bytes(data)
        entries.append(json.dumps({"image": f"{number}.png", "caption": f"number {number}"}))
    (root / "x.jsonl").write_text("\n".join(entries))
    return f"jsonl:{root / 'x.jsonl'}"


def table(root: Path, with_damaged: bool) -> str:
    root.mkdir()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    found = rows(with_damaged)
    held = {"image": [{"bytes": data, "path": None} for _, data in found], "label": [n % 3 for n, _ in found]}
    datasets.Dataset.from_dict(held, features=features).to_parquet(root / "x.parquet")
    return f"hf:{root / 'x.parquet'}"


def tar(root: Path, with_damaged: bool) -> str:
    root.mkdir()
    with tarfile.open(root / "x.tar", "w") as archive:
        for number, data in rows(with_damaged):
            for suffix, part in (("png", data), ("cls", str(number % 3).encode())):
                member = tarfile.TarInfo(f"{number:02d}.{suffix}")
                member.size = len(part)
                archive.addfile(member, io.BytesIO(part))
    return f"hf:{root / 'x.tar'}"


def streamed(write: Callable[[Path, bool], str]) -> Callable[[Path, bool], str]:
    return lambda root, with_damaged: write(root, with_damaged).replace("hf:", "stream:")


INDEXED = {"imagefolder": folder, "jsonl": lines, "parquet": table, "tar": tar}
STREAMED = {"parquet": streamed(table), "tar": streamed(tar)}


@pytest.mark.parametrize("name", INDEXED)
def test_rows_are_those_of_the_data_without_the_damaged_pictures(name: str, tmp_path: Path) -> None:
    clean, damaged = (open_source(INDEXED[name](tmp_path / str(bad), bad)) for bad in (False, True))
    everything = range(len(clean))
    assert len(damaged) == len(clean) == COUNT - len(BAD) and damaged.channels == clean.channels
    assert torch.equal(damaged.images(everything, 8, 3), clean.images(everything, 8, 3))
    assert [damaged.condition_of(r) for r in everything] == [clean.condition_of(r) for r in everything]
    assert damaged.class_names == clean.class_names
    assert fingerprint_of(damaged).content == fingerprint_of(clean).content
    assert len(damaged.problems) == len(BAD) and not clean.problems
    assert "4 cannot be read and are left out, e.g. " in preflight(damaged, 8).sentence()


def weights(run: Path) -> dict[str, torch.Tensor]:
    newest = checkpoints.newest(run)
    assert newest is not None
    return load_file(newest / "raw.safetensors")


@pytest.mark.parametrize("name", ["imagefolder", "stream"])
def test_a_run_is_that_without_the_damaged_pictures(name: str, tmp_path: Path) -> None:
    write = folder if name == "imagefolder" else STREAMED["parquet"]
    options = {"batch_size": 4, "workers": 0, "sample_grid": (1, 1)}
    found = []
    for bad in (False, True):
        config = resolve("dit-nano", data=write(tmp_path / f"data{bad}", bad), steps=5, options=options)
        found.append(weights(train(config, tmp_path / f"run{bad}")))
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    log = (tmp_path / "runTrue" / "log.txt").read_text()
    assert log.count("skipped: ") == len(BAD) and "4 pictures could not be read and were passed over" in log


def test_a_cache_is_that_without_the_damaged_pictures(tmp_path: Path) -> None:
    stored = []
    for bad in (False, True):
        spec, out = folder(tmp_path / f"data{bad}", bad), tmp_path / f"cache{bad}"
        assert call("cache", spec, str(out), "--model", "dit-nano", "--shard-rows", "4", "--batch", "4") == 0
        stored.append([path.read_bytes() for path in sorted((out / "shards").iterdir())])
    assert stored[0] == stored[1] and len(stored[0]) == 2
    assert len(Manifest.read(tmp_path / "cacheTrue").unreadable) == len(BAD)


@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_goes_on_anywhere_as_without_the_damaged_pictures(name: str, tmp_path: Path, monkeypatch) -> None:
    """The order is that of the good samples, also where a run goes on behind rows that were never looked at."""
    batches = []
    for bad in (False, True):
        spec = STREAMED[name](tmp_path / str(bad), bad)
        for first in (0, 13):
            monkeypatch.setattr(readable, "_known", {})
            source = open_source(spec)
            assert isinstance(source, StreamSource)
            assert source.first_conditions(3) == [1, 2, 0]
            dataset, _ = training_data(source, 8, 3, 0, True, Layout(1, 1, 4, block=4))
            parts = dataset.__getitems__([(0, position) for position in range(first, 40)])
            batches.append(torch.stack([parts["images"].flatten(1).float().sum(1), parts["condition"]])[:, -27:])
    assert all(torch.equal(batches[0], other) for other in batches[1:])


def test_what_can_be_read_is_decided_once(tmp_path: Path, monkeypatch) -> None:
    """Pictures are decoded at the first start; the next one, in another process, remembers, until one changes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(readable, "WORTH", 1)
    decoded: list[object] = []
    really = readable.read_whole
    monkeypatch.setattr(readable, "read_whole", lambda *of: decoded.append(of) or really(*of))
    spec = folder(tmp_path / "data", True)
    for _ in range(3):
        monkeypatch.setattr(readable, "_known", {})  # as a new process has it
        assert len(open_source(spec).problems) == len(BAD) and len(decoded) == COUNT
    (kept,) = (tmp_path / "cache" / "gftzoo" / "pictures").iterdir()
    kept.write_text("{")
    monkeypatch.setattr(readable, "_known", {})
    assert len(open_source(spec)) == COUNT - len(BAD) and len(decoded) == 2 * COUNT
    (tmp_path / "data" / "c0" / "0.png").write_bytes(content(0, False))
    assert len(open_source(spec)) == COUNT - len(BAD) + 1 and len(decoded) == 3 * COUNT
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setattr(readable, "_known", {})
    assert len(open_source(spec)) == COUNT - len(BAD) + 1 and len(decoded) == 4 * COUNT


def test_a_picture_whose_caption_was_mended_is_looked_at(tmp_path: Path, monkeypatch) -> None:
    """It was not, as long as its caption could not be read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(readable, "WORTH", 1)
    data = tmp_path / "data"
    data.mkdir()
    whole, damaged = 1, BAD[1]
    for number in (whole, damaged):
        (data / f"{number}.png").write_bytes(content(number, number == damaged))
        (data / f"{number}.txt").write_bytes(b"\xff" if number == damaged else b"one")
    for wrong in ("the captions of", "cannot identify image"):
        monkeypatch.setattr(readable, "_known", {})  # as a new process has it
        source = open_beside(str(data), "train", Decoding(), "captions:data")
        assert len(source) == len(source.problems) == 1
        assert wrong in source.problems[0]
        (data / f"{damaged}.txt").write_bytes(b"mended")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_what_can_be_read_is_what_can_be_decoded(kind: str, tmp_path: Path) -> None:
    """The look at the start and the crop of a step are of one mind about files that are cut off anywhere."""
    file, decoding = io.BytesIO(), Decoding()
    noise = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, kind, **({"progressive": True} if kind == "JPEG" else {}))
    whole = file.getvalue()
    cut = [whole[:end] for end in range(0, len(whole), max(1, len(whole) // 60))]
    for number, data in enumerate([*cut, whole]):
        (tmp_path / "data" / "a").mkdir(parents=True, exist_ok=True)
        path = tmp_path / "data" / "a" / f"{number:03d}.png"
        path.write_bytes(data)
    source = open_source(f"imagefolder:{tmp_path / 'data'}")
    assert 1 <= len(source) < len(cut)
    source.images(range(len(source)), 16, 3)
    assert not source.unreadable and all(readable.is_readable(source.stored(r), decoding) for r in range(len(source)))


@pytest.mark.parametrize("name", [name for name in INDEXED if name != "jsonl"])
def test_a_class_is_not_lost_with_its_pictures(name: str, tmp_path: Path, monkeypatch) -> None:
    """It would give its number to the next one, without a word."""
    monkeypatch.setitem(globals(), "rows", lambda _: [(n, content(n, False) if n % 3 != 1 else b"") for n in range(6)])
    with pytest.raises(GftzooError, match=r"no picture of class 'c?1' in .* can be read \(e\.g\. .*mend its pictures"):
        open_source(INDEXED[name](tmp_path / "data", True))


def test_a_class_with_a_name_keeps_its_place(tmp_path: Path) -> None:
    """Without a picture it is never drawn."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])})
    held = [{"bytes": content(n, False) if n != 1 else b"", "path": None} for n in range(3)]
    table = datasets.Dataset.from_dict({"image": held, "label": [0, 1, 2]}, features=features)
    table.to_parquet(tmp_path / "x.parquet")
    card = resolve("dit-nano", data=f"hf:{tmp_path / 'x.parquet'}", steps=1, options={}).card
    assert card.class_names == ("a", "b", "c") and list(card.drawn_classes) == [0, 2]


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), MemoryError()])
def test_what_is_wrong_for_the_moment_is_not_remembered(error: Exception, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(readable, "WORTH", 1)
    spec, really, met = folder(tmp_path / "data", False), Image.open, []

    def failing(file, *more, **options):
        if not met:
            met.append(file)
            raise error
        return really(file, *more, **options)

    with monkeypatch.context() as context:
        context.setattr(Image, "open", failing)
        assert len(open_source(spec).problems) == 1
    monkeypatch.setattr(readable, "_known", {})  # as a new process has it
    assert not open_source(spec).problems


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    spec = lines(tmp_path / "data", False)
    os.mkfifo(tmp_path / "data" / "pipe.png")
    with (tmp_path / "data" / "x.jsonl").open("a") as file:
        file.write('\n{"image": "pipe.png", "caption": "a pipe"}')
    source = open_source(spec)
    assert len(source) == COUNT - len(BAD) and source.problems[0].endswith("cannot be read (it is not a file)")


def test_of_large_data_some_pictures_are_looked_at(tmp_path: Path, monkeypatch) -> None:
    """A damaged one among the others keeps its row, and is replaced by the next that can be read, each time alike."""
    monkeypatch.setattr(decoding, "LARGE", COUNT)
    monkeypatch.setattr(decoding, "SAMPLE", 3)
    spec = folder(tmp_path / "data", True)
    full, *some = (open_source(f"{spec}{check}") for check in ("#check=full", "", "#check=sampled", ""))
    assert len(full) == COUNT - len(BAD) and not full.looked_at
    everything = range(COUNT - 2)  # two of those that are looked at are damaged
    images = [source.images(everything, 8, 3) for source in some]
    assert all(len(source) == len(everything) and torch.equal(images[0], found) for source, found in zip(some, images))
    assert len(some[0].unreadable) == 2 and "3 of its pictures were looked at" in preflight(some[0], 8).sentence()
    for row in some[0].unreadable:
        assert torch.equal(images[0][row], images[0][some[0].readable(row)])  # type: ignore[attr-defined]
    with pytest.raises(GftzooError, match=r"turned out damaged while it was read.*#check=full"):
        open_reference(f"all:{spec}", Pooled(), 8)


def test_pictures_are_decoded_beside_the_training(tmp_path: Path) -> None:
    assert loading_processes(open_source("digits")) == 0
    assert loading_processes(open_source(folder(tmp_path / "data", False))) >= 1
    assert loading_processes(open_source(STREAMED["tar"](tmp_path / "tar", False))) == 1
