"""Caches of latents and codes, for tests to write and to read."""

from __future__ import annotations

from pathlib import Path

import torch

from gftzoo.data import open_source
from gftzoo.data.caching import CacheWriter
from gftzoo.data.encoding import EncodingModel
from gftzoo.data.planning import plan_cache
from gftzoo.engine import resolve
from gftzoo.families.finding import load_family


def encoder(name: str, data: str, **options: object) -> EncodingModel:
    card = resolve(name, data=data, options=options).card
    tokenizer = load_family(card.family).build_tokenizer(card.tokenizer)
    return EncodingModel(card, tokenizer, load_family(card.family), torch.device("cpu"))


def writer(name: str, data: str, folder: Path, options: dict[str, object] | None = None, **plan: object) -> CacheWriter:
    model, source = encoder(name, data, **(options or {})), open_source(data)
    shape = {"shard_rows": 256, **plan}
    return CacheWriter(model, source, plan_cache(model, source, **shape), folder)  # type: ignore[arg-type]
