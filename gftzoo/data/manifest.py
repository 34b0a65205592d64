"""What a cache is: a manifest beside its shards, which says what was encoded, by what, and how."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError, field_validator, model_validator
from torch import nn

from gftzoo import __version__
from gftzoo.atomic import written_whole
from gftzoo.catalogue.cards import Frozen, ModelCard, TokenizerSpec, validation_sentence
from gftzoo.data.sources import Split
from gftzoo.documents import read_json
from gftzoo.errors import GftzooError, UsageError

MANIFEST_FILE = "manifest.json"
LARGEST_ROW = 2**31  # bytes of what is stored of one image
OF_SOURCE = ("fingerprint", "images", "unreadable", "class_names")  # what a manifest says about the pictures themselves


class Shard(Frozen):
    """One Arrow file of a cache."""

    file: str = Field(description="below the cache's folder, with forward slashes")
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str
    skipped: tuple[str, ...] = Field((), description="pictures that could no longer be read, and why")

    @field_validator("file")
    @classmethod
    def _below(cls, file: str) -> str:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or not path.parts or any(mark in file for mark in "\\:\0"):
            raise ValueError("a shard is named by its path below the cache's folder")
        return file


class Manifest(Frozen):
    """Everything that decides the bytes of a cache, and its shards once all are written."""

    version: Literal[1] = 1
    gftzoo: str = __version__
    model: str = Field(description="the model it was encoded for")
    family: str
    tokenizer: TokenizerSpec
    weights: str = Field(description="hash of the tokenizer's weights")
    resolution: int = Field(gt=0, le=2**16)
    content: Literal["latents", "moments", "codes"]
    shape: tuple[int, ...] = Field(description="of one view: (C, h, w), (2C, h, w) of moments, or (N,) of codes")
    dtype: Literal["float32", "float16", "uint8", "uint16", "uint32"]
    crop: Literal["adm-center", "ten-crop"] = "adm-center"
    flip: bool = Field(False, description="whether every view is there mirrored too")
    source: str = Field(description="the data source as it was named")
    split: Split = "train"
    fingerprint: str = Field(description="of the source")
    images: int = Field(ge=0, description="images of the source, without those that could not be read")
    unreadable: tuple[str, ...] = Field((), description="pictures of the source that could not be read, and why")
    condition: Literal["class", "text"]
    class_names: tuple[str, ...] = ()
    text_encoder: str | None = None
    text_shape: tuple[int, ...] | None = Field(None, description="of one caption's features, (T, D)")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="in which the tokenizer computed")
    shard_rows: int = Field(gt=0)
    batch_size: int = Field(gt=0, description="images encoded together")
    shards: tuple[Shard, ...] = Field((), description="empty until all are written")

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Manifest:
        for fault in (_of_shape(self), _of_conditions(self), _of_shards(self)):
            if fault is not None:
                raise ValueError(fault)
        return self

    @property
    def views(self) -> int:
        """Encoded versions of each image: crops times mirror images; the mirrored ones are the second half."""
        return (5 if self.crop == "ten-crop" else 1) * (2 if self.flip else 1)

    @property
    def shard_count(self) -> int:
        """Number of shards when complete."""
        return math.ceil(self.images / self.shard_rows)

    def write(self, folder: Path, keep: bool = False) -> None:
        """Writes `manifest.json`, whole or not at all; with `keep`, only if there is none."""
        with written_whole(folder / MANIFEST_FILE, keep) as partial:
            partial.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a cache; GftzooError if there is none or it is damaged."""
        path = folder / MANIFEST_FILE
        if not path.is_file():
            raise GftzooError(
                f"{str(folder)!r} is no cache (it has no {MANIFEST_FILE}); "
                "make one with `gftzoo cache SRC OUT --model NAME`."
            )
        return cls.checked(read_json(path), str(path))

    @classmethod
    def checked(cls, found: Any, where: str) -> Manifest:
        """The manifest of what a JSON file holds; GftzooError says `where` it is and what is wrong with it."""
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            raise GftzooError(validation_sentence(where, error)) from error

    def difference(self, other: Manifest) -> str | None:
        """The first field in which two plans differ, with both values; None if they are the same."""
        for name in type(self).model_fields:
            here, there = getattr(self, name), getattr(other, name)
            if name == "fingerprint" and here != there:
                return "other content, or other change times of its files"
            if name != "shards" and here != there:
                return f"{name.replace('_', ' ')} {_short(here)} and not {_short(there)}"
        return None

    def stale_for(self, other: Manifest) -> bool:
        """Whether two plans of the same source differ in nothing but its pictures."""
        names = [name for name in type(self).model_fields if name not in ("shards", *OF_SOURCE)]
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def check(self, card: ModelCard, where: str) -> None:
        """UsageError that names both where the cache was made for another tokenizer, resolution, family or text."""
        pairs = {
            "family": (self.family, card.family),
            "tokenizer": (self.tokenizer, card.tokenizer),
            "resolution": (self.resolution, card.resolution),
        }
        if self.condition == "text":
            pairs["text encoder"] = (self.text_encoder, text_encoder_of(card))
        for name, (here, there) in pairs.items():
            if here != there:
                raise UsageError(
                    f"{where} was encoded for {name} {_short(here)} and {card.name} has {_short(there)}; "
                    f"encode the data again with `gftzoo cache {self.source} OUT --model {card.name}`."
                )


def _of_shape(manifest: Manifest) -> str | None:
    """What is wrong with the shape of an entry; None if nothing is."""
    shape, codes = manifest.shape, manifest.content == "codes"
    if len(shape) != (1 if codes else 3) or min(shape) < 1 or (manifest.content == "moments" and shape[0] % 2):
        valid = {"codes": "(N,)", "latents": "(C, h, w)", "moments": "(2C, h, w)"}[manifest.content]
        return f"the shape of {manifest.content} is {valid} and not {shape}"
    if codes != manifest.dtype.startswith("uint"):
        return f"{manifest.content} are not stored as {manifest.dtype}"
    if math.prod(shape) * manifest.views * 4 > LARGEST_ROW:
        return f"entries of shape {shape} in {manifest.views} views are larger than {LARGEST_ROW:,} bytes"
    return None


def _of_conditions(manifest: Manifest) -> str | None:
    """What is wrong with the classes or the shape of text features; None if nothing is."""
    if manifest.condition == "class":
        return None if manifest.class_names else "the class names are missing"
    shape = manifest.text_shape
    if shape is None or len(shape) != 2 or min(shape) < 1 or math.prod(shape) * 4 > LARGEST_ROW:
        return f"the shape of text features is (T, D) and not {shape}"
    return None


def _of_shards(manifest: Manifest) -> str | None:
    """What is wrong with the list of shards; None if nothing is, or while there are none."""
    shards, size = manifest.shards, manifest.shard_rows
    if shards and len(shards) != manifest.shard_count:
        return f"it has {len(shards):,} shards and {manifest.images:,} images in shards of {size:,} make another number"
    for number, shard in enumerate(shards):
        wanted, held = min(size, manifest.images - number * size), shard.rows + len(shard.skipped)
        if held != wanted:
            return f"shard {shard.file!r} has {held:,} images, with those skipped, and not {wanted:,}"
    files = [shard.file for shard in shards]
    return None if len({*files}) == len(files) else "two shards have the same file"


def _short(value: object) -> str:
    """A value in a sentence; of a tokenizer its name, unless only something else of it is different."""
    if isinstance(value, TokenizerSpec):
        return f"{value.id!r} ({value.channels} channels, scale {value.scale:g})"
    return f"{value!r}"


def text_encoder_of(card: ModelCard) -> str | None:
    """Where a card's prompts become features; some families have it among the network's options."""
    return card.text_encoder or card.network.get("text_encoder")


def weights_hash(tokenizer: nn.Module) -> str:
    """A short hash of a tokenizer's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tokenizer.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
