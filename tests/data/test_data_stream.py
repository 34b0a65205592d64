"""Streams: the same samples at the same positions, whatever the protocol, and nothing read twice or left out."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from encoded import writer
from PIL import Image
from safetensors.torch import load_file

from gftzoo.data import Layout, open_source, training_data
from gftzoo.data.lanes import Lane, Sample
from gftzoo.data.preflight import preflight
from gftzoo.data.stream import StreamSource, find_shards
from gftzoo.engine import Job, TrainConfig, checkpoints, resolve, train
from gftzoo.errors import GftzooError, UsageError

datasets = pytest.importorskip("datasets")
ROWS = (5, 3, 4, 6)


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), value).save(file, "PNG")
    return file.getvalue()


def rows_of(number: int) -> range:
    start = sum(ROWS[:number])
    return range(start, start + ROWS[number])


def write_parquet(folder: str) -> str:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["even", "odd", "no"])})
    for number in range(len(ROWS)):
        images = [{"bytes": png(10 * row), "path": None} for row in rows_of(number)]
        table = datasets.Dataset.from_dict(
            {"image": images, "label": [r % 2 for r in rows_of(number)]}, features=features
        )
        buffer = io.BytesIO()
        table.to_parquet(buffer)
        with fsspec.open(f"{folder}/part-{number}.parquet", "wb", auto_mkdir=True) as file:
            file.write(buffer.getvalue())
    return f"{folder}/*.parquet"


def write_tar(folder: str, times: int = 1) -> str:
    for number in range(len(ROWS)):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for row in [row for row in rows_of(number) for _ in range(times)]:
                for suffix, content in (("png", png(10 * row)), ("cls", str(row % 2).encode())):
                    member = tarfile.TarInfo(f"{len(archive.getmembers()) // 2:04d}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        with fsspec.open(f"{folder}/part-{number}.tar", "wb", auto_mkdir=True) as file:
            file.write(buffer.getvalue())
    return f"{folder}/part-{{0..3}}.tar"


WRITERS: dict[str, Callable[[str], str]] = {"parquet": write_parquet, "tar": write_tar}


@pytest.fixture(params=["parquet", "tar"])
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> StreamSource:
    folder = f"memory://{tmp_path.name}" if request.param == "parquet" else f"file://{tmp_path}/shards"
    source = open_source(f"stream:{WRITERS[request.param](folder)}")
    assert isinstance(source, StreamSource)
    return source


def test_a_stream_gives_every_sample_once_a_pass(stream: StreamSource) -> None:
    assert len(stream.shards) == 4 and stream.condition == "class"
    assert [stream.rows(shard) for shard in stream.shards] == list(ROWS)
    dataset, sampler = training_data(stream, 8, 1, 0, True, Layout(1, 1, 6, block=6))
    keys = iter(sampler)
    batch = dataset.__getitems__([next(keys) for _ in range(36)])  # two passes
    values = (batch["images"][:, 0, 0, 0] // 10).tolist()
    assert sorted(values[:18]) == sorted(values[18:]) == list(range(18)) and values[:18] != values[18:]
    assert torch.equal(batch["condition"], torch.tensor([value % 2 for value in values]))
    assert batch["position"].tolist() == list(range(36)) and batch["images"].shape[1:] == (1, 8, 8)
    with pytest.raises(GftzooError, match="is a stream, which has no length"):
        len(stream)
    with pytest.raises(GftzooError, match="which is read in order and cannot be looked up"):
        stream.image(0, 8, 1)
    assert "4 parquet shards, streamed" in preflight(stream, 8).sentence() or stream.kind == "webdataset"
    assert stream.first_conditions(3) == [0, 1, 0]


def numbered(shard: str, start: int) -> Iterator[tuple[str, int]]:
    return iter([(shard, row) for row in range(start, len(shard))])


def test_a_lane_goes_on_anywhere_as_if_it_had_never_stopped() -> None:
    shards = ["aaa", "bbbbb", "c", "dd"]
    whole = Lane(shards, numbered, len, seed=1, lane=0, size=4)
    samples = [whole[offset] for offset in range(48)]
    for start in (0, 3, 4, 17, 40):
        again = Lane(shards, numbered, len, seed=1, lane=0, size=4)
        assert [again[offset] for offset in range(start, 48)] == samples[start:]
    everything = {Sample(shard, row, (shard, row)) for shard in shards for row in range(len(shard))}
    assert set(samples[:44]) == everything and all(samples[:44].count(sample) == 4 for sample in everything)
    assert samples[:44] != [Lane(shards, numbered, len, seed=2, lane=0, size=4)[offset] for offset in range(44)]
    with pytest.raises(GftzooError, match="hold no samples"):
        Lane([""], numbered, len, seed=0, lane=0, size=4)[0]


def test_lanes_share_a_run_without_gap_or_overlap() -> None:
    for world, workers, batch in ((1, 1, 4), (2, 3, 4), (3, 2, 1)):
        layout = Layout(world, workers, batch)
        places = [layout.place(position) for position in range(layout.lanes * batch * 5)]
        assert sorted(places) == [(lane, n) for lane in range(layout.lanes) for n in range(batch * 5)]
        rank_lanes = {layout.place(position)[0] // workers for position in range(0, 60 * world, world)}
        assert rank_lanes == {0}


def test_too_few_shards_are_one_sentence(stream: StreamSource, caplog) -> None:
    with pytest.raises(
        UsageError, match=r"has 4 shards for 2 ranks with 3 workers each, which need at least 6; use -o w"
    ):
        stream.check_processes(2, 3)
    stream.check_processes(3, 1)
    assert "4 shards over 3 loading processes" in caplog.text


def trained(config: TrainConfig, run: Path) -> dict[str, torch.Tensor]:
    newest = checkpoints.newest(train(config, run))
    assert newest is not None
    return load_file(newest / "raw.safetensors")


def test_a_run_from_a_stream_resumes_to_the_bit(tmp_path: Path, monkeypatch) -> None:
    data = f"stream:{write_tar(f'file://{tmp_path}/shards', times=15)}"
    options = {
        "batch_size": 4,
        "ema_decay": 0.9,
        "checkpoint_every": 1,
        "keep_last": 3,
        "workers": 2,
        "sample_grid": (1, 1),
    }
    config = resolve("dit-nano", data=data, steps=3, options=options)
    assert config.card.classes == 10  # tar files do not say how many classes there are
    whole = trained(config, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "step-00000003" / "state.json").unlink()
    (tmp_path / "run" / "checkpoints" / "step-00000002" / "state.json").unlink()
    train(TrainConfig.read(tmp_path / "run"), tmp_path / "run", resume=True)
    again = load_file(tmp_path / "run" / "checkpoints" / "step-00000003" / "raw.safetensors")
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_an_unreadable_picture_of_a_stream_is_replaced_and_reported(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    images = [{"bytes": b"nothing", "path": None}, {"bytes": png(90), "path": None}]
    table = datasets.Dataset.from_dict({"image": images, "text": ["torn", "grey"]}, features=features)
    table.to_parquet(tmp_path / "a.parquet")
    source = open_source(f"stream:{tmp_path}")
    dataset, _ = training_data(source, 8, 3, 0, True, Layout(1, 1, 4, block=8))
    batch = dataset.__getitems__([(0, position) for position in range(8)])
    assert batch["condition"] == ["grey"] * 8 and batch["images"].unique().tolist() == [90]
    assert (
        len(batch["problems"]) == 1
        and f"{tmp_path / 'a.parquet'} cannot be read (cannot identify" in batch["problems"][0]
    )
    assert not dataset.__getitems__([(0, position) for position in range(8, 16)])["problems"]  # told once


def test_a_cache_is_streamed_too(tmp_path: Path) -> None:
    assert writer("llamagen-nano", "digits", tmp_path / "cache", shard_rows=512).run() is not None
    near, far = open_source(f"cache:{tmp_path / 'cache'}"), open_source(f"stream:file://{tmp_path}/cache")
    assert isinstance(far, StreamSource) and far.class_names == near.class_names and len(far.shards) == 3
    far.check(resolve("llamagen-nano", data="digits").card)
    with pytest.raises(UsageError, match="encoded for family 'llamagen'"):
        resolve("var-nano", data=far.name)
    dataset, _ = training_data(far, 8, 1, 0, True, Layout(1, 1, 8))
    batch = dataset.__getitems__([(0, position) for position in range(1024)])
    assert batch["latents"].dtype == torch.int64 and batch["latents"].shape == (1024, 64)
    known = {(int(near.condition_of(row)), *near.encoded([row], [0])[0].tolist()) for row in range(len(near))}
    seen = {(int(c), *codes) for c, codes in zip(batch["condition"], batch["latents"].tolist(), strict=True)}
    assert len(seen) > 1000 and seen <= known
    assert near.first_conditions(5) == far.first_conditions(5)
    config = resolve("llamagen-nano", data=far.name)
    jobs = [Job(config, source=source) for source in (near, far, open_source("digits"))]
    assert [job.tokenizer_needed for job in jobs] == [False, False, True]


def test_a_streamed_cache_of_other_weights_is_refused(tmp_path: Path) -> None:
    assert writer("llamagen-nano", "digits", tmp_path / "cache").run() is not None
    manifest = tmp_path / "cache" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "weights": "0123456789abcdef"}))
    for kind in ("cache:", "stream:"):
        config = resolve("llamagen-nano", objective="gft", data=f"{kind}{tmp_path / 'cache'}", steps=1)
        with pytest.raises(UsageError, match="was encoded by weights 0123456789abcdef of tokenizer"):
            train(config, tmp_path / f"run-{kind[:-1]}")


def test_what_is_no_stream_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(GftzooError, match="names no file"):
        open_source(f"stream:{tmp_path}/*.parquet")
    (tmp_path / "a.parquet").write_bytes(b"nothing")
    with pytest.raises(GftzooError, match="could not be read"):
        open_source(f"stream:{tmp_path}/a.parquet")
    (tmp_path / "b.tar").write_bytes(b"nothing")
    with pytest.raises(GftzooError, match=r"valid are only .parquet or only .tar"):
        open_source(f"stream:{tmp_path}")
    with pytest.raises(GftzooError, match="could not be read"):
        open_source("stream:nowhere://bucket/a.parquet")
    assert find_shards("http://host/a-{08..11}.tar")[0][2] == "http://host/a-10.tar"
    images = {"picture": [1], "label": [0]}
    datasets.Dataset.from_dict(images).to_parquet(tmp_path / "c.parquet")
    with pytest.raises(UsageError, match="has no image column; it has picture, label"):
        open_source(f"stream:{tmp_path}/c.parquet")


def test_a_class_that_the_model_does_not_have_is_one_sentence(stream: StreamSource) -> None:
    stream.classes = 1
    with pytest.raises(UsageError, match="has class 1, and the model has classes 0 to 0"):
        stream.as_condition(np.int64(1))
    with pytest.raises(UsageError, match="has the label 'even'; a stream takes whole numbers"):
        stream.as_condition("even")
