"""Writing a cache: every image of a source encoded once, in Arrow shards, by any number of ranks.

A shard is a function of the plan and its number alone, so that neither an interruption nor the number of ranks shows
in the result. Beside each finished shard lies its entry for the manifest, until all are there.
Suffixes: B images, V views of each, C channels, R resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from datasets import Features, Value
from datasets import Sequence as FixedList
from datasets.arrow_writer import ArrowWriter
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from gftzoo.atomic import DiskError, disk_errors, written_whole
from gftzoo.data.manifest import MANIFEST_FILE, Manifest, Shard, text_encoder_of, weights_hash
from gftzoo.data.sources import Source, Split
from gftzoo.errors import GftzooError, UsageError
from gftzoo.family import Family
from gftzoo.model import Model
from gftzoo.tokenizers import Tokenizer
from gftzoo.weights import sha256
from gftzoo.zoo import ModelCard

TEN_CROP_SCALE = 1.1  # LlamaGen's: five crops of a picture that is this much larger
Content = Literal["latents", "moments", "codes"]


class EncodingModel(Model):
    """A model for its tokenizer and conditions; its network has no weights."""

    def __init__(self, card: ModelCard, tokenizer: Tokenizer, family: Family, device: torch.device) -> None:
        with torch.device("meta"):
            network = family.build_network(card)
        super().__init__(card, network, tokenizer.to(device).eval(), family)
        self._device = device

    @property
    def device(self) -> torch.device:
        return self._device


def plan_cache(
    model: Model,
    source: Source,
    *,
    split: Split = "train",
    flip: bool = False,
    ten_crop: bool = False,
    half: bool = False,
    shard_rows: int = 1024,
    batch_size: int = 64,
) -> Manifest:
    """What the cache of a source for a model will be, from its first image.

    Args:
        model: an `EncodingModel`, or any model with its tokenizer.
        source: of images.
        split: of the source.
        flip: every view mirrored too.
        ten_crop: LlamaGen's ten crops (which are mirrored) in place of ADM's centre crop.
        half: floats as float16.
        shard_rows: images of a shard; a multiple of the batch.
        batch_size: images encoded together.

    Raises:
        UsageError: mirror images of what a mirror image is none of.
    """
    card = model.card
    flip = flip or ten_crop
    if flip and not source.mirrorable:
        raise UsageError(f"data {source.name!r} has no mirror images of its kind; leave out --flip and --crops.")
    content, encoded_BV = encode(model, views_of(source, [0], card, ten_crop, flip))
    text_shape = None
    if card.condition == "text":
        text_shape = tuple(model.encode_condition([source.condition_of(0)]).shape[1:])
    return Manifest(
        model=card.name,
        family=card.family,
        tokenizer=card.tokenizer,
        weights=weights_hash(model.require_tokenizer()),
        resolution=card.resolution,
        content=content,
        shape=tuple(encoded_BV.shape[2:]),
        dtype=storage_type(content, card.tokenizer.codebook, half),
        crop="ten-crop" if ten_crop else "adm-center",
        flip=flip,
        source=source.name,
        split=split,
        fingerprint=source.fingerprint,
        images=len(source),
        condition=card.condition,
        class_names=source.class_names,
        text_encoder=text_encoder_of(card),
        text_shape=text_shape,
        shard_rows=-(-shard_rows // batch_size) * batch_size,
        batch_size=batch_size,
    )


def storage_type(
    content: Content, codebook: int | None, half: bool
) -> Literal["float32", "float16", "uint8", "uint16", "uint32"]:
    """The smallest type that holds codes without loss; of floats what was asked for."""
    if content != "codes":
        return "float16" if half else "float32"
    assert codebook is not None, "a tokenizer that gives codes has a codebook"
    return "uint8" if codebook <= 2**8 else "uint16" if codebook <= 2**16 else "uint32"


def views_of(source: Source, rows: Sequence[int], card: ModelCard, ten_crop: bool, flip: bool) -> Tensor:
    """All views of images (B, V, C, R, R), uint8; the second half is mirrored."""
    side, channels = card.resolution, card.tokenizer.image_channels
    if ten_crop:
        views_BVCRR = five_crops(source.images(rows, int(side * TEN_CROP_SCALE), channels), side)
    else:
        views_BVCRR = source.images(rows, side, channels)[:, None]
    return torch.cat([views_BVCRR, views_BVCRR.flip(-1)], 1) if flip else views_BVCRR


def five_crops(images_BCHW: Tensor, side: int) -> Tensor:
    """The four corners and the centre (B, 5, C, side, side)."""
    end = images_BCHW.shape[-1] - side
    middle = round(end / 2)
    corners = [(0, 0), (0, end), (end, 0), (end, end), (middle, middle)]
    return torch.stack([images_BCHW[..., top : top + side, left : left + side] for top, left in corners], 1)


@torch.no_grad()
def encode(model: Model, views_BVCRR: Tensor) -> tuple[Content, Tensor]:
    """What is stored of images, (B, V, ...): codes; latents; or, of a tokenizer that draws, what it draws from."""
    tokenizer = model.require_tokenizer()
    images = views_BVCRR.flatten(0, 1).to(model.device).float() / 127.5 - 1
    content: Content = "moments"
    encoded = tokenizer.moments(images)
    if encoded is None:
        encoded = tokenizer.encode(images)
        content = "latents" if encoded.is_floating_point() else "codes"
    return content, encoded.unflatten(0, views_BVCRR.shape[:2]).cpu()


class CacheWriter:
    """Writes the shards of a plan that fall to one of `world` ranks.

    Args:
        plan: from `plan_cache`.
        folder: of the cache; may hold the same plan, unfinished.
        tell: called with the number of images done, after each batch.

    Raises:
        UsageError: the folder holds something else.
    """

    def __init__(
        self, model: Model, source: Source, plan: Manifest, folder: Path, tell: Callable[[int], None] | None = None
    ) -> None:
        self.model, self.source, self.plan, self.folder = model, source, plan, folder
        self.tell = tell or (lambda _: None)
        self.features = Features(columns(plan))
        self._claim()

    def _claim(self) -> None:
        if self._holds_something_else():
            raise UsageError(f"{str(self.folder)!r} exists already and is no cache; name a new folder.")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / MANIFEST_FILE).exists():
                self.plan.write(self.folder, keep=True)  # other ranks may write the same one meanwhile, and complete it
            (self.folder / "shards").mkdir(exist_ok=True)
            difference = Manifest.read(self.folder).difference(self.plan)
            if difference is not None:
                raise UsageError(f"cache {str(self.folder)!r} was begun with {difference}; name a new folder.")
        except OSError as error:
            raise GftzooError(f"cache {str(self.folder)!r} cannot be written ({error.strerror or error}).") from error

    def _holds_something_else(self) -> bool:
        if not self.folder.is_dir():
            return self.folder.exists()
        begun = f".{MANIFEST_FILE}."  # of a rank that is writing it
        others = [path for path in self.folder.iterdir() if not path.name.startswith(begun)]
        return bool(others) and not (self.folder / MANIFEST_FILE).exists()

    def run(self, rank: int = 0, world: int = 1) -> Manifest | None:
        """Writes what is missing; the complete manifest, or None while other ranks still have shards to write.

        Raises GftzooError where the disk is full; finished shards stay.
        """
        found = Manifest.read(self.folder)
        if found.shards:
            self.tell(found.images)
            return found
        try:
            for number in range(rank, self.plan.shard_count, world):
                if self.entry(number) is not None or Manifest.read(self.folder).shards:  # completed by another rank
                    self.tell(len(self.rows(number)))
                else:
                    self.write(number)
            with disk_errors(self.folder):
                return self.finish()
        except DiskError as error:
            done = sum(self.entry(number) is not None for number in range(self.plan.shard_count))
            raise GftzooError(
                f"cache {str(self.folder)!r} could not be written ({error.reason}); {done} of its "
                f"{self.plan.shard_count} shards are complete, and the same command goes on from there."
            ) from error

    def rows(self, number: int) -> range:
        """The images of a shard."""
        first = number * self.plan.shard_rows
        return range(first, min(first + self.plan.shard_rows, self.plan.images))

    def file(self, number: int) -> Path:
        """Where a shard lies, as the datasets library names its shards."""
        return self.folder / "shards" / f"data-{number:05d}-of-{self.plan.shard_count:05d}.arrow"

    def entry(self, number: int) -> Shard | None:
        """What the manifest will say of a shard; None if it is not complete."""
        try:
            return Shard.model_validate_json(self.file(number).with_suffix(".json").read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            return None

    def write(self, number: int) -> None:
        """Encodes and writes one shard, then its entry."""
        path, skipped = self.file(number), []
        parts: list[dict[str, Any]] = []
        rows = self.rows(number)
        for start in range(rows.start, rows.stop, self.plan.batch_size):
            part, problems = self.encoded(range(start, min(start + self.plan.batch_size, rows.stop)))
            parts.append(part)
            skipped += problems
            self.tell(min(self.plan.batch_size, rows.stop - start))
        arrays = {name: join([part[name] for part in parts]) for name in parts[0]}
        table = pa.table({name: arrow(array) for name, array in arrays.items()}).cast(self.features.arrow_schema)
        with written_whole(path) as partial:
            writer = ArrowWriter(path=str(partial), features=self.features, writer_batch_size=self.plan.shard_rows)
            writer.write_table(table)
            writer.finalize()
            shard = Shard(
                file=str(path.relative_to(self.folder)),
                rows=table.num_rows,
                bytes=partial.stat().st_size,
                sha256=sha256(partial),
                skipped=tuple(skipped),
            )
        with written_whole(path.with_suffix(".json")) as partial:
            partial.write_text(shard.model_dump_json() + "\n", encoding="utf-8")

    def encoded(self, rows: range) -> tuple[dict[str, Any], list[str]]:
        """The columns of a batch without the pictures that could not be read, and what is wrong with those."""
        views = views_of(self.source, rows, self.model.card, self.plan.crop == "ten-crop", self.plan.flip)
        bad = {row: self.source.unreadable[row] for row in rows if row in self.source.unreadable}
        good = [row for row in rows if row not in bad]
        _, encoded = encode(self.model, views)
        kept = encoded[torch.tensor([row - rows.start for row in good], dtype=torch.int64)]
        part: dict[str, Any] = {"row": np.asarray(good, np.int64)}
        part[self.plan.content] = kept.flatten(1).numpy().astype(self.plan.dtype)
        conditions = [self.source.condition_of(row) for row in good]
        if self.plan.condition == "class":
            part["label"] = np.asarray(conditions, np.int64)
        else:
            part["caption"] = conditions
            part["text"] = self.features_of(conditions)
        return part, list(bad.values())

    def features_of(self, captions: list[int | str]) -> NDArray[Any]:
        """The text features of captions, one row each."""
        kind = np.float16 if self.plan.dtype == "float16" else np.float32
        if not captions:
            assert self.plan.text_shape is not None
            return np.empty((0, int(np.prod(self.plan.text_shape))), kind)
        with torch.no_grad():
            return self.model.encode_condition(captions).flatten(1).cpu().numpy().astype(kind)

    def finish(self) -> Manifest | None:
        """Completes the manifest if all shards are there; any rank may find that."""
        entries = [self.entry(number) for number in range(self.plan.shard_count)]
        manifest = Manifest.read(self.folder)  # only now: a rank that completes it removes the entries
        if not manifest.shards:
            if any(entry is None for entry in entries):
                return None
            manifest = self.plan.model_copy(update={"shards": tuple(entry for entry in entries if entry is not None)})
            manifest.write(self.folder)
        for number in range(self.plan.shard_count):
            self.file(number).with_suffix(".json").unlink(missing_ok=True)
        for left in (self.folder / "shards").glob(".*.partial"):  # of processes that were killed
            left.unlink(missing_ok=True)
        return manifest


def columns(plan: Manifest) -> dict[str, Any]:
    """The features of a shard's rows."""
    size = plan.views * int(np.prod(plan.shape))
    found: dict[str, Any] = {"row": Value("int64"), plan.content: FixedList(Value(plan.dtype), length=size)}
    if plan.condition == "class":
        return {**found, "label": Value("int64")}
    kind = "float16" if plan.dtype == "float16" else "float32"
    assert plan.text_shape is not None
    text = FixedList(Value(kind), length=int(np.prod(plan.text_shape)))
    return {**found, "caption": Value("string"), "text": text}


def join(parts: list[Any]) -> Any:
    """The parts of a column in one."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [value for part in parts for value in part]


def arrow(values: Any) -> pa.Array:
    """A column: numbers, texts, or rows of numbers as lists of a fixed length."""
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    return pa.array(values)
