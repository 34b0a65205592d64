"""What a plugin and an objective may ask of the model that they are given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard, Schedule
from gftzoo.contract.guidance import Guidance
from gftzoo.contract.tokenizer import Tokenizer


class Model(Protocol):
    """A network with everything it needs to be trained and sampled; `gftzoo.model.Model` is one.

    Attributes:
        card: what the network is; `card.temperature` says whether it has a temperature input.
        network: of `build_network`, an `nn.Module` whose class its family knows.
        tokenizer: between images and latents; None where only the network is needed.
        family: the hooks, each a method with the arguments that `hookspecs` gives it by position.
        provenance: where the weights come from.
        placed: the device that computes, if one was chosen.
        half: autocast's dtype in sampling; None computes in fp32.
        compiler: torch.compile's backend in sampling; None computes step by step.
    """

    card: ModelCard
    network: Any
    tokenizer: Tokenizer | None
    family: Any
    provenance: dict[str, Any]
    placed: torch.device | None
    half: torch.dtype | None
    compiler: str | None

    @property
    def device(self) -> torch.device:
        """Where the network computes."""

    @property
    def changed(self) -> bool:
        """Whether the weights have been changed since the model was made."""

    @property
    def baked_beta(self) -> float | None:
        """The temperature that is folded into the weights of a plain network, if there is one."""

    def guidance(
        self,
        beta: float | None = None,
        cfg: float | None = None,
        schedule: Schedule | None = None,
        classifier: str | Path | None = None,
        classifier_scale: float | None = None,
    ) -> Guidance:
        """The guidance that the model understands; UsageError for another."""

    def sample_latents(
        self, conditions: Sequence[int | str], guidance: Guidance, seeds: Sequence[int], **settings: Any
    ) -> Tensor:
        """Latents of one batch."""

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, 3, H, W) float32 in [0, 1]."""

    def require_tokenizer(self) -> Tokenizer:
        """The tokenizer; UsageError where the model was built without one."""

    def encode_condition(self, conditions: Sequence[int | str]) -> Tensor:
        """The condition tensor (B, ...) of class indices, class names or prompts."""

    def null_condition(self, condition: Tensor) -> Tensor:
        """The null condition in the shape of `condition`."""
