"""An adapter on disk: a safetensors file with what trained, and in its header the card and which base it belongs to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gftzoo.adapters.freezing import adapter_tensors
from gftzoo.catalogue.cards import Frozen, ModelCard
from gftzoo.contract.model import Model
from gftzoo.errors import GftzooError, UsageError
from gftzoo.layers.lora import plain_name
from gftzoo.layers.lora_options import LoraOptions

ADAPTER_FILE = "adapter.safetensors"


class Base(Frozen):
    """The frozen weights under an adapter."""

    weights: str = Field(description="a checkpoint name of the card, or the path of the file when the run began")
    entry: Literal["raw", "ema"] | None = Field(None, description="which weights of the file, where that was said")
    sha256: str = Field(description="of the tensors, see `base_hash`")


class Adapter(Frozen):
    """What is known of an adapter beside the card of the model that it makes."""

    way: Literal["lora", "temperature"] = Field(description="what trained: factors, or the slope alone")
    objective: str = Field(description="what it was trained for")
    beta: tuple[float, float] | None = Field(None, description="range of the temperatures it was trained for")
    base: Base
    lora: LoraOptions | None = None


@dataclass(frozen=True)
class AdapterFile:
    """An adapter as it was read."""

    adapter: Adapter
    card: ModelCard
    tensors: Mapping[str, Tensor]
    provenance: dict[str, Any]


def adapter_of(model: Model) -> Adapter | None:
    """The record of the adapter that a model is made with; None for one that stands alone."""
    found = model.provenance.get("adapter")
    return None if found is None else Adapter.model_validate(found)


def base_hash(network: nn.Module) -> str:
    """The `tensors_sha256` of the frozen part of a network, under the names of the plain one."""
    own = adapter_tensors(network).keys()
    return tensors_sha256({plain_name(k): value for k, value in network.state_dict().items() if k not in own})


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """A hash, hex, over names, shapes, dtypes and values, the same in memory and from any file."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_adapter(model: Model, folder: Path) -> Path:
    """Writes what trained of a model as one file in the folder, and returns the folder; UsageError for no adapter."""
    adapter = adapter_of(model)
    if adapter is None:
        raise UsageError(f"{model.card.name} here is no adapter but stands alone; export it --to safetensors.")
    card = model.card.model_copy(update={"recipes": {}, "scores": ()})  # of the plain model, and long
    header = {"card": card.model_dump(mode="json"), "provenance": model.provenance}
    tensors = {key: value.detach().cpu().contiguous() for key, value in adapter_tensors(model.network).items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / ADAPTER_FILE, metadata={"gftzoo": json.dumps(header)})
    return folder


def read_adapter_file(path: Path) -> AdapterFile:
    """An adapter's file; GftzooError if it is damaged or holds none."""
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("gftzoo")
            if header is None:
                raise UsageError(f"{str(path)!r} is no adapter; `gftzoo export RUN OUT --to adapter` writes one.")
            found = json.loads(header)
            provenance = dict(found["provenance"])
            adapter = Adapter.model_validate(provenance["adapter"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            return AdapterFile(adapter, ModelCard.model_validate(found["card"]), tensors, provenance)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise GftzooError(f"{str(path)!r} is no adapter or damaged ({str(error).splitlines()[0]}).") from error
