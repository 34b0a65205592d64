"""The plan of a cache: its manifest without shards, and the columns of a shard."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from datasets import Sequence as FixedList
from datasets import Value

from gftzoo.data.encoding import Content, encode, views_of
from gftzoo.data.fingerprint import fingerprint_of
from gftzoo.data.manifest import Manifest, text_encoder_of, weights_hash
from gftzoo.data.sources import Source, Split
from gftzoo.errors import UsageError
from gftzoo.model import Model
from gftzoo.precision import name_of, of_tokenizer

LARGEST_SHARD = 4 * 2**30  # bytes of a shard's encoded images, which are held in memory until it is written


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
        UsageError: mirror images of what a mirror image is none of, or shards that are too large.
    """
    card, of_text = model.card, model.card.condition == "text"
    flip = flip or ten_crop
    if flip and not source.mirrorable:
        raise UsageError(f"data {source.name!r} has no mirror images of its kind; leave out --flip and --crops.")
    content, encoded_BV = encode(model, views_of(source, [0], card, ten_crop, flip))
    plan = Manifest(
        **_of_model(model),
        **_of_source(source, split),
        content=content,
        shape=tuple(encoded_BV.shape[2:]),
        dtype=storage_type(content, card.tokenizer.codebook, half),
        crop="ten-crop" if ten_crop else "adm-center",
        flip=flip,
        text_shape=tuple(model.encode_condition([source.condition_of(0)]).shape[1:]) if of_text else None,
        shard_rows=-(-shard_rows // batch_size) * batch_size,
        batch_size=batch_size,
    )
    _refuse_large_shards(plan)
    return plan


def _of_model(model: Model) -> dict[str, Any]:
    """What of a manifest the model says."""
    card = model.card
    return {
        "model": card.name,
        "family": card.family,
        "tokenizer": card.tokenizer,
        "weights": weights_hash(model.require_tokenizer()),
        "resolution": card.resolution,
        "condition": card.condition,
        "text_encoder": text_encoder_of(card),
        "precision": name_of(of_tokenizer(model.half)),
    }


def _of_source(source: Source, split: Split) -> dict[str, Any]:
    """What of a manifest the data says."""
    return {
        "source": source.name,
        "split": split,
        "fingerprint": fingerprint_of(source).key,
        "images": len(source),
        "unreadable": tuple(source.problems),
        "class_names": source.class_names,
    }


def _refuse_large_shards(plan: Manifest) -> None:
    row = plan.views * int(np.prod(plan.shape)) * np.dtype(plan.dtype).itemsize
    if plan.text_shape is not None:
        row += int(np.prod(plan.text_shape)) * (2 if plan.dtype == "float16" else 4)
    size = min(plan.shard_rows, plan.images) * row
    if size > LARGEST_SHARD:
        raise UsageError(
            f"shards of {plan.shard_rows:,} images have {size / 2**30:,.1f} GiB and {LARGEST_SHARD / 2**30:.0f} is the "
            f"most; give --shard-rows {max(LARGEST_SHARD // row, 1)} or fewer, and no larger --batch."
        )


def storage_type(
    content: Content, codebook: int | None, half: bool
) -> Literal["float32", "float16", "uint8", "uint16", "uint32"]:
    """The smallest type that holds codes without loss; of floats what was asked for."""
    if content != "codes":
        return "float16" if half else "float32"
    assert codebook is not None, "a tokenizer that gives codes has a codebook"
    return "uint8" if codebook <= 2**8 else "uint16" if codebook <= 2**16 else "uint32"


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
