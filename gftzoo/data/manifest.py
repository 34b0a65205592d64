"""What a cache is: a manifest beside its shards, which says what was encoded, by what, and how."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, ValidationError
from torch import nn

from gftzoo import __version__
from gftzoo.atomic import written_whole
from gftzoo.data.sources import Split
from gftzoo.errors import GftzooError, UsageError
from gftzoo.zoo import Frozen, ModelCard, TokenizerSpec, validation_sentence

MANIFEST_FILE = "manifest.json"


class Shard(Frozen):
    """One Arrow file of a cache."""

    file: str
    rows: int
    bytes: int
    sha256: str
    skipped: tuple[str, ...] = Field((), description="pictures that could not be read, and why")


class Manifest(Frozen):
    """Everything that decides the bytes of a cache, and its shards once all are written."""

    version: Literal[1] = 1
    gftzoo: str = __version__
    model: str = Field(description="the model it was encoded for")
    family: str
    tokenizer: TokenizerSpec
    weights: str = Field(description="hash of the tokenizer's weights")
    resolution: int
    content: Literal["latents", "moments", "codes"]
    shape: tuple[int, ...] = Field(description="of one view: (C, h, w), (2C, h, w) of moments, or (N,) of codes")
    dtype: Literal["float32", "float16", "uint8", "uint16", "uint32"]
    crop: Literal["adm-center", "ten-crop"] = "adm-center"
    flip: bool = Field(False, description="whether every view is there mirrored too")
    source: str = Field(description="the data source as it was named")
    split: Split = "train"
    fingerprint: str = Field(description="of the source")
    images: int = Field(description="images of the source, with those that could not be read")
    condition: Literal["class", "text"]
    class_names: tuple[str, ...] = ()
    text_encoder: str | None = None
    text_shape: tuple[int, ...] | None = Field(None, description="of one caption's features, (T, D)")
    shard_rows: int = Field(gt=0)
    batch_size: int = Field(gt=0, description="images encoded together")
    shards: tuple[Shard, ...] = Field((), description="empty until all are written")

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
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except ValidationError as error:
            raise GftzooError(validation_sentence(str(path), error)) from error
        except (OSError, UnicodeDecodeError) as error:
            raise GftzooError(f"{str(path)!r} cannot be read ({error}).") from error

    def difference(self, other: Manifest) -> str | None:
        """The first field in which two plans differ, with both values; None if they are the same."""
        for name in type(self).model_fields:
            here, there = getattr(self, name), getattr(other, name)
            if name != "shards" and here != there:
                return f"{name.replace('_', ' ')} {_short(here)} and not {_short(there)}"
        return None

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
