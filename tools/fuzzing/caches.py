"""Caches with a damaged manifest, or with a damaged shard whose size the manifest knows."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Features
from datasets.arrow_writer import ArrowWriter

from fuzzing.target import SilentChangeError, Target
from gftzoo.data import open_source
from gftzoo.data.cache import CacheSource
from gftzoo.data.columns import read_columns
from gftzoo.data.manifest import MANIFEST_FILE, Manifest, Shard
from gftzoo.data.planning import columns
from gftzoo.weights import sha256
from gftzoo.zoo import get_card

ROWS = 6
SHARD = "shards/data-00000-of-00001.arrow"


class CacheTarget(Target):
    """Latents and codes of classes, and moments with captions; even inputs are manifests, odd ones shards."""

    def prepare(self, folder: Path) -> None:
        self.root = folder / "cache"
        (self.root / "shards").mkdir(parents=True)

    @cached_property
    def plans(self) -> list[Manifest]:
        card = get_card("dit-nano")
        common = {"model": card.name, "family": card.family, "tokenizer": card.tokenizer, "weights": "0" * 16}
        common |= {"resolution": 8, "source": "digits", "fingerprint": "0" * 16, "images": ROWS}
        common |= {"shard_rows": ROWS, "batch_size": ROWS}
        classes = {"condition": "class", "class_names": ("a", "b", "c")}
        captions = {"condition": "text", "text_shape": (2, 3)}
        return [
            Manifest(content="latents", shape=(1, 4, 4), dtype="float32", **classes, **common),
            Manifest(content="codes", shape=(5,), dtype="uint8", flip=True, **classes, **common),
            Manifest(content="moments", shape=(2, 4, 4), dtype="float16", **captions, **common),
        ]

    @cached_property
    def valid(self) -> list[tuple[str, bytes]]:
        import tempfile

        found = []
        for index, plan in enumerate(self.plans):
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder), plan)
                found.append((f".{index}.json", (Path(folder) / MANIFEST_FILE).read_bytes()))
                found.append((f".{index}.arrow", (Path(folder) / SHARD).read_bytes()))
        return found

    def seeds(self) -> list[tuple[str, bytes]]:
        return self.valid

    def read(self, path: Path) -> None:
        index = int(path.suffixes[0][1:])
        (manifest, shard), data = self.valid[2 * index : 2 * index + 2], path.read_bytes()
        damaged = path.suffix == ".arrow"
        (self.root / SHARD).write_bytes(data if damaged else shard[1])
        found = json.loads(manifest[1])
        found["shards"][0]["bytes"] = len(data)
        (self.root / MANIFEST_FILE).write_bytes(json.dumps(found).encode() if damaged else data)
        source = open_source(f"cache:{self.root}")
        assert isinstance(source, CacheSource)
        for each in source.manifest.shards:
            read_columns(self.root, source.manifest, each)
        rows = range(len(source))
        encoded = source.encoded(rows, [row % source.manifest.views for row in rows])
        if encoded.shape != (len(rows), *source.manifest.shape) or len(source.conditions(rows)) != len(rows):
            raise SilentChangeError(f"{len(rows)} entries of {source.manifest.shape} are read as {encoded.shape}")
        for row in rows:
            condition = source.condition_of(row)
            if isinstance(condition, int):
                source.class_names[condition].encode(errors="surrogatepass")


def write(folder: Path, plan: Manifest) -> None:
    """A cache of that plan, its entries at random."""
    random, features = np.random.default_rng(0), Features(columns(plan))
    width = plan.views * int(np.prod(plan.shape))
    table = {"row": pa.array(range(ROWS)), plan.content: lists(random.integers(0, 9, (ROWS, width)), plan.dtype)}
    if plan.condition == "class":
        table["label"] = pa.array([row % 3 for row in range(ROWS)])
    else:
        table["caption"] = pa.array([f"a caption \u00e9 {row}" for row in range(ROWS)])
        table["text"] = lists(random.random((ROWS, 6)), "float16")
    (folder / "shards").mkdir()
    writer = ArrowWriter(path=str(folder / SHARD), features=features)
    writer.write_table(pa.table(table).cast(features.arrow_schema))
    writer.finalize()
    size = (folder / SHARD).stat().st_size
    shard = Shard(file=SHARD, rows=ROWS, bytes=size, sha256=sha256(folder / SHARD))
    plan.model_copy(update={"shards": (shard,)}).write(folder)


def lists(values: np.ndarray, dtype: str) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.astype(dtype).reshape(-1)), values.shape[1])
