"""What was scored: a model with everything that its images depend on, or images from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gftzoo.adapters import tensors_sha256
from gftzoo.catalogue.cards import Frozen
from gftzoo.contract.guidance import ByClassifier, ClassifierFree, Guidance, Temperature
from gftzoo.model import Model
from gftzoo.precision import name_of


class Subject(Frozen):
    """What was scored: a model with its weights and sampler, or images from elsewhere."""

    model: str = Field(description="model name, or the folder or file the images come from")
    weights_sha256: str | None = Field(None, description="hash over all tensors of the network")
    entry: str | None = Field(None, description="raw or ema")
    objective: str | None = None
    tokenizer: str | None = None
    guidance: Literal["unguided", "beta", "cfg", "classifier", "unknown"] = "unknown"
    strength: float | None = Field(None, description="beta, or the CFG's or the classifier's scale")
    classifier_sha256: str | None = Field(None, description="hash over all tensors of the classifier that guided")
    schedule: str = "constant"
    sampler: dict[str, Any] = {}
    dtype: str | None = Field(None, description="of the weights")
    precision: str = Field("fp32", description="in which network and tokenizer computed")
    compiled: bool = False
    tf32: bool | None = None
    device: str | None = None
    seed: int | None = Field(None, description="image i is a function of (seed, i)")


def subject_of(
    model: Model, guidance: Guidance, settings: Mapping[str, Any], seed: int, objective: str | None = None
) -> Subject:
    """Everything about a model that its images depend on."""
    first: Tensor = next(model.network.parameters())
    tokenizer = model.card.tokenizer
    entry = model.provenance.get("entry")
    return Subject(
        model=model.card.name,
        weights_sha256=network_sha256(model.network),
        entry=None if entry is None else str(entry),
        objective=objective or model.provenance.get("objective"),
        tokenizer=f"{tokenizer.id} (scale {tokenizer.scale:g}, shift {tokenizer.shift:g}, /{tokenizer.downsample})",
        **guidance_fields(guidance),
        sampler=model.family.sampler_settings(model.card, **settings).model_dump(mode="json"),
        dtype=str(first.dtype).removeprefix("torch."),
        precision=name_of(model.half),
        compiled=model.compiler is not None,
        tf32=torch.backends.cuda.matmul.allow_tf32 if first.is_cuda else None,
        device=torch.cuda.get_device_name(first.device) if first.is_cuda else first.device.type,
        seed=seed,
    )


def guidance_fields(guidance: Guidance) -> dict[str, Any]:
    """The fields of `Subject` that describe a guidance."""
    if isinstance(guidance, Temperature):
        return {"guidance": "beta", "strength": guidance.value, "schedule": guidance.schedule}
    if isinstance(guidance, ClassifierFree):
        return {"guidance": "cfg", "strength": guidance.scale, "schedule": guidance.schedule}
    if isinstance(guidance, ByClassifier):
        found = network_sha256(guidance.classifier)
        return {"guidance": "classifier", "strength": guidance.scale, "classifier_sha256": found}
    return {"guidance": "unguided", "strength": None, "schedule": "constant"}


def network_sha256(network: nn.Module) -> str:
    """A hash over names, shapes, dtypes and values of a network's tensors, the same in memory and from any file."""
    return tensors_sha256(network.state_dict())
