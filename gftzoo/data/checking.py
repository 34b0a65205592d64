"""A cache looked at: whether its bytes are those that were written, and what its entries decode to."""

from __future__ import annotations

import os
from collections.abc import Callable
from shlex import quote

import torch
from torch import Tensor

from gftzoo.contract.tokenizer import draw_latents
from gftzoo.data.cache import CacheSource
from gftzoo.data.fingerprint import fingerprint_of
from gftzoo.data.manifest import weights_hash
from gftzoo.data.sources import Source, open_source
from gftzoo.errors import GftzooError, UsageError
from gftzoo.families.finding import load_family
from gftzoo.weights import sha256


def verify_hashes(source: Source, tell: Callable[[int], None]) -> None:
    """GftzooError that names the first shard whose hash is not that of the manifest."""
    assert isinstance(source, CacheSource)
    for shard in source.manifest.shards:
        found = sha256(source.folder / shard.file)
        if found != shard.sha256:
            raise GftzooError(
                f"{source.name}: {shard.file} has hash {found[:12]} and not {shard.sha256[:12]}; "
                "copy it again or write the cache anew."
            )
        tell(shard.rows)


def staleness(source: Source) -> str | None:
    """A sentence where the pictures that a cache was made of are here and are no longer those; None otherwise."""
    assert isinstance(source, CacheSource)
    manifest = source.manifest
    _, colon, argument = manifest.source.partition(":")
    if colon and not os.path.exists(argument.partition("#")[0]):  # noqa: PTH110 (names that are too long)
        return None
    try:
        here = fingerprint_of(open_source(manifest.source, manifest.split)).key
    except GftzooError:  # it was made somewhere else
        return None
    if here == manifest.fingerprint:
        return None
    return (
        f"{source.name} is stale: the pictures of {manifest.source!r}, or the change times of its files, are not those "
        f"it was made of; encode them again with `gftzoo cache {quote(manifest.source)} NEW --model {manifest.model}`."
    )


@torch.no_grad()
def decode_entries(source: Source, tokenizer_path: str | None, count: int) -> tuple[Tensor, list[str]]:
    """Evenly spread entries, each in another of its views, as images (N, 3, H, W) in [0, 1] with their conditions.

    Raises UsageError where the tokenizer at hand has other weights than the one that encoded.
    """
    assert isinstance(source, CacheSource)
    manifest = source.manifest
    tokenizer = load_family(manifest.family).build_tokenizer(manifest.tokenizer, tokenizer_path)
    if weights_hash(tokenizer) != manifest.weights:
        raise UsageError(
            f"{source.name} was encoded by weights {manifest.weights} of tokenizer {manifest.tokenizer.id!r} and those "
            f"here are {weights_hash(tokenizer)}; name the right ones with -o tokenizer_path=PATH."
        )
    count = min(count, len(source))
    rows = [index * len(source) // count for index in range(count)]
    encoded = source.encoded(rows, [index % manifest.views for index in range(count)])
    if manifest.content == "moments":
        encoded = draw_latents(encoded, manifest.tokenizer)
    images = (tokenizer.decode(encoded).float() + 1) / 2
    conditions = [source.condition_of(row) for row in rows]
    names = [source.class_names[c] if isinstance(c, int) and source.class_names else str(c) for c in conditions]
    return images.clamp(0, 1).expand(-1, 3, -1, -1), names
