"""Folders with weights, gftzoo's own and those of others: which file holds the raw or the averaged ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from gftzoo.checksums import CARD_FILE
from gftzoo.errors import GftzooError, UsageError
from gftzoo.weights.names import Entry, file_entry

STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")  # of diffusers and transformers
# stem[.variant].safetensors, and both ways in which the index of shards is named
_FILE = r"{stem}(?:\.(?P<a>\w+))?\.(?P<kind>safetensors|bin)(?P<index>\.index(?:\.(?P<b>\w+))?\.json)?"


def kinds_of(entry: Entry | None) -> list[Entry]:
    """The entries to look for, best first."""
    return [entry] if entry else ["ema", "raw"]


def weights_in(folder: Path, entry: Entry | None = None, stems: Sequence[str] = STEMS) -> Path | None:
    """The file with the weights, or the index of its shards, in a folder of diffusers' or transformers' layout.

    Full precision before `fp16` and `bf16`, safetensors before `.bin`, one file before shards. The variant `non_ema` is
    taken for raw weights, or where there is nothing else; None if the folder has no such file.
    """
    ranked = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        for stem in stems:
            found = re.fullmatch(_FILE.format(stem=re.escape(stem)), path.name)
            if found and path.is_file():
                variant = found["a"] or found["b"] or ""
                rank = _variant_rank(variant, entry)
                ranked.append((rank, stems.index(stem), bool(found["index"]), found["kind"] == "bin", path))
    usable = [each for each in ranked if each[0] is not None]
    return min(usable)[-1] if usable else None


def _variant_rank(variant: str, entry: Entry | None) -> int | None:
    """How late a variant is taken; None for never."""
    told = file_entry(variant)
    if told and told == entry:
        return 0
    if told and entry:
        return None
    return {"": 1, "bf16": 3, "fp16": 3}.get(variant, 2 if told == "ema" else 5 if told else 4)


def own_weights(folder: Path, entry: Entry | None = None) -> Path | None:
    """The file with a model's weights in a folder of gftzoo's (EMA before raw, unless `entry` says which), or None.

    Raises UsageError where it has not the entry, or where the weights are in parts.
    """
    try:
        inside = model_folder(folder)
    except GftzooError:
        return None
    kinds = kinds_of(entry)
    if any((inside / kind).is_dir() for kind in kinds):
        raise UsageError(
            f"the weights in {str(folder)!r} are in the parts of several ranks; put them together with "
            f"`gftzoo export {folder} OUT --to safetensors` and give OUT."
        )
    found = next((file for kind in kinds if (file := inside / f"{kind}.safetensors").is_file()), None)
    if found is None:
        raise UsageError(missing(inside, entry))
    return found


def missing(folder: Path, entry: Entry | None) -> str:
    """The sentence for a folder of gftzoo's without the weights that are asked for."""
    others = [kind for kind in kinds_of(None) if (folder / kind).is_dir() or (folder / f"{kind}.safetensors").is_file()]
    hint = f"; it has --entry {others[0]}" if others else ""
    return f"{str(folder)!r} holds no {' or '.join(f'{kind}.safetensors' for kind in kinds_of(entry))}{hint}."


def model_folder(folder: Path) -> Path:
    """The folder itself if it holds a model, or the newest complete checkpoint of a run."""
    if (folder / CARD_FILE).is_file():
        return folder
    steps = sorted((folder / "checkpoints").glob("step-*/" + CARD_FILE))
    if not steps:
        raise GftzooError(
            f"{str(folder)!r} holds no model and no complete checkpoint; give a run folder or a model's name."
        )
    return steps[-1].parent
