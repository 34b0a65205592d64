"""The columns of a cache's shard, memory-mapped, and refused where they are not what the manifest says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gftzoo.data.manifest import Manifest, Shard
from gftzoo.errors import GftzooError
from gftzoo.printing import words


def read_columns(folder: Path, manifest: Manifest, shard: Shard) -> dict[str, Any]:
    """The columns of a shard: arrays (rows,) or (rows, length), captions as an Arrow array.

    Raises GftzooError that names the file and what is wrong with it: rows, columns, types, lengths or labels.
    """
    path = folder / shard.file
    try:
        found = _mapped(path)
        fault = _fault(found, manifest, shard)
    except Exception as error:  # damage shows in many of Arrow's types of error
        fault = words(error)
    if fault is not None:
        raise GftzooError(
            f"cache {str(folder)!r}: {shard.file} is not what {manifest.source!r} was encoded to ({fault}); "
            "copy it again or write the cache anew."
        )
    return found


def _mapped(path: Path) -> dict[str, Any]:
    from datasets import Dataset  # slow to import, for caches alone

    table = Dataset.from_file(str(path)).data.table.combine_chunks()
    found: dict[str, Any] = {}
    for name, column in zip(table.column_names, table.itercolumns(), strict=True):
        values = column.combine_chunks()
        values = values.chunk(0) if hasattr(values, "num_chunks") and values.num_chunks else values
        if name == "caption":
            values.validate(full=True)
            found[name] = values
        elif hasattr(values.type, "list_size"):
            flat = values.flatten().to_numpy(zero_copy_only=False)
            found[name] = flat.reshape(-1, values.type.list_size)
        else:
            found[name] = values.to_numpy(zero_copy_only=False)
    return found


def _fault(found: dict[str, Any], manifest: Manifest, shard: Shard) -> str | None:
    """What is wrong with the columns; None if nothing is."""
    wanted: dict[str, tuple[str, int | None]] = {
        "row": ("int64", None),
        manifest.content: (manifest.dtype, manifest.views * int(np.prod(manifest.shape))),
    }
    if manifest.condition == "class":
        wanted["label"] = ("int64", None)
    else:
        text = "float16" if manifest.dtype == "float16" else "float32"
        wanted["text"] = (text, int(np.prod(manifest.text_shape or ())))
    captions = ("caption",) if manifest.condition == "text" else ()
    missing = [name for name in (*wanted, *captions) if name not in found]
    if missing:
        return f"it has no column {missing[0]!r}"
    for name, (kind, length) in wanted.items():
        values, shape = found[name], (shard.rows,) if length is None else (shard.rows, length)
        if str(values.dtype) != kind or values.shape != shape:
            return f"column {name!r} is {values.dtype} of shape {values.shape} and not {kind} of {shape}"
    if captions and (len(found["caption"]) != shard.rows or str(found["caption"].type) != "string"):
        return f"column 'caption' is not {shard.rows:,} texts"
    if manifest.condition == "class" and shard.rows:
        low, high = int(found["label"].min()), int(found["label"].max())
        if low < 0 or high >= len(manifest.class_names):
            return f"its labels are {low} to {high} and there are {len(manifest.class_names)} classes"
    return None
