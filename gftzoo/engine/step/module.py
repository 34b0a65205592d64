"""The module that mmengine's Runner trains: batch in, loss out, everything else comes from the family and objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from gftzoo.contract.objective import Objective
from gftzoo.contract.tokenizer import draw_latents
from gftzoo.engine.step.encodings import Encodings
from gftzoo.generator import SampleGenerator, to_device
from gftzoo.model import Model


class TrainingModel(nn.Module):
    """A model and its objective as one module, so that DDP, FSDP and the optimizer see the network's parameters.

    Args:
        model: what trains.
        objective: what for.
        seed: of the samples' randomness.
        still: the network stays in evaluation mode while it trains: no dropout in layers that are frozen.
        encodings: what is known of pictures that come again; None encodes every batch.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective,
        seed: int,
        still: bool = False,
        encodings: Encodings | None = None,
    ) -> None:
        super().__init__()
        self.still, self.encodings = still, encodings
        self.network = model.network
        self.objective = objective
        self.seed = seed
        self._zoo_model = [model]  # in a list: the tokenizer is no part of what trains

    @property
    def zoo_model(self) -> Model:
        """The model being trained."""
        return self._zoo_model[0]

    def train(self, mode: bool = True) -> Self:
        """Sets the mode, of the network only where it does not stay in evaluation mode."""
        super().train(mode)
        if self.still:
            self.network.eval()
        return self

    def forward(
        self,
        position: Sequence[int],
        condition: Tensor | Sequence[str],
        images: Tensor | None = None,
        latents: Tensor | None = None,
        moments: Tensor | None = None,
    ) -> Tensor:
        """The scalar loss of uint8 images (B, C, H, W), or of latents or their moments from a cache.

        Randomness follows `position`, B numbers: a tensor would be moved to a device by what is around this module,
        and have to be fetched again.
        """
        model = self.zoo_model
        generator = SampleGenerator.for_samples("train", self.seed, position, model.device)
        with torch.no_grad(), torch.autocast(model.device.type, enabled=False):  # as a cache encodes them
            if moments is not None:
                latents = draw_latents(to_device(moments, model.device), model.card.tokenizer, generator)
            latents = self._latents(images, generator) if latents is None else to_device(latents, model.device)
            encoded = self._condition(condition)
        problem = model.family.draw_problem(model, latents, generator)
        loss_B = self.objective.loss(model, problem, encoded, generator)
        return loss_B.mean()

    def _latents(self, images: Tensor | None, generator: SampleGenerator) -> Tensor:
        assert images is not None, "a batch has images, latents or moments"
        tokenizer, device = self.zoo_model.require_tokenizer(), self.zoo_model.device
        if self.encodings is not None:
            return draw_latents(self.encodings.moments(images, device), tokenizer.spec, generator)
        return tokenizer.encode(to_device(images, device).float() / 127.5 - 1, generator)

    def _condition(self, condition: Tensor | Sequence[str]) -> Tensor:
        if isinstance(condition, Tensor):
            return to_device(condition, self.zoo_model.device)
        return self.zoo_model.encode_condition(condition)

    def train_step(self, data: Mapping[str, Any], optim_wrapper: Any, wrapped: nn.Module) -> Tensor:
        """Forward through `wrapped` (this module, or DDP around it) and backward; returns the loss, detached."""
        with optim_wrapper.optim_context(wrapped):
            loss: Tensor = wrapped(**{**data, "position": data["position"].tolist()})
        optim_wrapper.update_params(loss)
        return loss.detach()
