"""Files of weights, read without executing anything in them: safetensors, both formats of torch, Flax's, shards."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from gftzoo.checksums import verify
from gftzoo.documents import read_json
from gftzoo.errors import GftzooError
from gftzoo.printing import plain
from gftzoo.weights.choosing import Tensors, choose
from gftzoo.weights.flax import is_flax, read_flax
from gftzoo.weights.names import Entry

SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-\d{5}(?P<suffix>\.\w+)$")
REFUSED = re.compile(r"GLOBAL (.+?) (?:was not an allowed|whose module)", re.DOTALL)
REASON = 160  # characters of another library's message


class Inert:
    """Stands where a checkpoint holds an object that is not needed: arguments are taken and forgotten."""

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


# What training codes keep beside weights: options, scores as numpy scalars, paths, mmengine's log. None is ever made.
INERT = (
    "argparse.Namespace", "types.SimpleNamespace", "_codecs.encode", "builtins.getattr",
    *(f"numpy.{part}multiarray.{name}" for part in ("core.", "_core.") for name in ("scalar", "_reconstruct")),
    "numpy.dtype", "numpy.ndarray",
    *(f"{module}.{kind}{system}Path" for module in ("pathlib", "pathlib._local") for kind in ("", "Pure")
      for system in ("Posix", "Windows")),
    "mmengine.logging.history_buffer.HistoryBuffer",
    "datetime.datetime", "datetime.date", "datetime.timedelta",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",  # a key in Stable Diffusion's first files
)  # fmt: skip


def read_tensors(path: str | Path, entry: Entry | None = None, expected: Collection[str] = ()) -> Tensors:
    """The state dict in a file, read without executing anything in it.

    Args:
        path: a safetensors, torch or Flax file, the `.index.json` of shards, or one of the shards; the state dict may
            lie in containers and under prefixes of wrappers, beside an average, counters and an optimizer's state.
        entry: `raw` or `ema`; None takes the average where the file has one, as the official samplers do.
        expected: names of the network's own tensors, which are never taken for a wrapper's prefix.

    Raises:
        GftzooError: no such file, truncated, holding more than plain data, or what may be an average under a name that
            is not understood.
        UsageError: the file has no such entry.
    """
    path = Path(path)
    if not path.is_file():
        raise GftzooError(f"there is no weights file {str(path)!r}.")
    said = safetensors_metadata(path).get("entry")
    told: Entry | None = "ema" if said == "ema" else "raw" if said == "raw" else None
    return choose(path, read_file(path), entry, expected, told)


def read_file(path: Path) -> Mapping[Any, Any]:
    """Everything in a file, or in all shards that belong to it; GftzooError if it is damaged or foreign."""
    index = index_of(path)
    if index is None:
        return _read_one(path)
    whole: dict[Any, Any] = {}
    for shard, names in shards_of(index).items():
        found = _read_one(shard)
        missing = sorted(names - found.keys())
        if missing:
            raise GftzooError(
                f"{str(shard)!r} lacks {missing[0]!r}, which {index.name!r} says is in it; fetch it again."
            )
        whole |= {name: found[name] for name in names}
    return whole


def index_of(path: Path) -> Path | None:
    """The index of the shards that `path` names or is one of; None for a file that stands alone."""
    if path.suffix == ".json":
        return path
    shard = SHARD.match(path.name)
    if shard is None:
        return None
    stem, _, variant = shard["stem"].partition(".")
    names = [f"{shard['stem']}{shard['suffix']}.index.json", f"{stem}{shard['suffix']}.index.{variant}.json"]
    found = next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)
    if found is None:
        raise GftzooError(f"{str(path)!r} is one of several shards and {names[0]!r} is not beside it; fetch it too.")
    return found


def shards_of(index: Path) -> dict[Path, set[str]]:
    """The shards that an index names, which lie beside it, and the tensors in each; GftzooError if it is damaged."""
    found = read_json(index)
    places = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(places, dict) or not all(isinstance(file, str) and file for file in places.values()):
        raise GftzooError(f"{str(index)!r} is no index of shards: it has no weight_map from tensors to files.")
    shards: dict[Path, set[str]] = {}
    for name, file in places.items():
        if Path(file).name != file:  # nothing outside the folder is read
            raise GftzooError(
                f"{str(index)!r} names {plain(file)!r}, which is not beside it; shards lie in one folder."
            )
        shards.setdefault(index.with_name(file), set()).add(name)
    absent = next((shard.name for shard in shards if not shard.is_file()), None)
    if absent is not None or not shards:
        raise GftzooError(f"{str(index)!r} names the shard {absent!r}, which is not beside it; fetch all of them.")
    return shards


def _read_one(path: Path) -> Mapping[Any, Any]:
    if is_safetensors(path):
        return read_safetensors(path)
    return read_flax(path) if is_flax(path) else _read_torch(path)


def is_safetensors(path: Path) -> bool:
    """By content: eight bytes of length and a JSON object; a damaged file by its suffix."""
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{":
        return True
    return path.suffix == ".safetensors" and start[:2] != b"PK"


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """A safetensors file; GftzooError if it is damaged, or not what the checkpoint that it is part of says."""
    verify(path)
    try:
        return load_file(path)
    except Exception as error:  # a type that torch lacks, a length that overflows: many types of error
        raise GftzooError(f"{str(path)!r} is truncated or no safetensors file ({reason(error)}).") from error


def safetensors_metadata(path: Path) -> dict[str, str]:
    """The text that a safetensors file holds beside its tensors; empty for any other file."""
    if not is_safetensors(path):
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        return {}


def _read_torch(path: Path) -> Mapping[Any, Any]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([(Inert, name) for name in INERT]):
            warnings.simplefilter("ignore", UserWarning)  # of pickle's protocol
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # torch raises many types for many kinds of damage
        refused = REFUSED.search(str(error))
        if refused:
            name = plain(refused[1], REASON)
            raise GftzooError(
                f"{str(path)!r} holds an object of class {name!r}, and more than tensors and plain data is not "
                "executed; save the state dict alone."
            ) from error
        raise GftzooError(f"{str(path)!r} is truncated or no torch file ({reason(error)}).") from error
    if not isinstance(found, Mapping):
        raise GftzooError(f"{str(path)!r} holds a {type(found).__name__}, not a state dict.")
    return found


def reason(error: BaseException) -> str:
    """What another library says of damage, in one line that is safe to print."""
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip().split("\n", 1)[0]
    return plain(f"{type(error).__name__}: {text}" if text else type(error).__name__, REASON)


def sha256(path: str | Path) -> str:
    """The hash of a file, hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(path: Path) -> str:
    """The hash of a file, or of the hashes of all shards that belong to it."""
    index = index_of(path)
    if index is None:
        return sha256(path)
    return hashlib.sha256("".join(sha256(shard) for shard in _in_order(shards_of(index))).encode()).hexdigest()


def _in_order(shards: Mapping[Path, object]) -> Sequence[Path]:
    return sorted(shards, key=lambda shard: shard.name)
