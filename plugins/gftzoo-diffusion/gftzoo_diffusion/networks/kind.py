"""What the family asks of a network on the shelf: everything that depends on which network it is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.guidance import Guidance
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.pieces import ClassConditions, OfficialWeights
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.folding import Tensors, settle_rows
from gftzoo.layers.temperature import Prediction
from gftzoo_diffusion import training
from gftzoo_diffusion.networks.starting import idle_temperature
from gftzoo_diffusion.options import NetworkOptions
from gftzoo_diffusion.training import DiffusionProblem

# Where a variance output lies between its bounds, from -1 to 1 (arXiv 2102.09672, eq. 15).
BOUNDS = {"auto": 1.0, "fixed-large": 1.0, "fixed-small": -1.0}


class Kind(ClassConditions, OfficialWeights):
    """A network of `(x_t, t, condition, beta)`, its conditions, its options and its official weights.

    Attributes:
        Options: its hyperparameters.
        names_are_official: whether its tensors have the names of official files.
    """

    Options: ClassVar[type[NetworkOptions]]
    names_are_official: ClassVar[bool] = True

    @abstractmethod
    def assemble(self, options: Any, side: int, card: ModelCard) -> nn.Module:
        """The network of validated options for latents of that side."""

    @hookimpl
    def build_network(self, card: ModelCard) -> nn.Module:
        options = card.network_options(self.Options)
        if card.grid % options.side_multiple:
            raise UsageError(
                f"{card.name}: a latent of {card.grid}x{card.grid} does not divide {options.cut}; use a -o resolution "
                f"that is a multiple of {options.side_multiple * card.tokenizer.downsample}."
            )
        return self.assemble(options, card.grid, card)

    def encode_condition(self, model: Model, conditions: Sequence[int | str]) -> Tensor | None:
        """What the network is told (B, ...); None for the indices of classes, the contract's own."""
        return None

    def idle(self, name: str, embedding: nn.Module) -> dict[str, Tensor]:
        return idle_temperature(name, embedding)

    def pose(self, options: Any, latents: Tensor, generator: SampleGenerator) -> DiffusionProblem:
        """What is asked of the network in training."""
        return training.pose(options.way, latents, generator)

    def predict(self, model: Model, problem: Any, condition: Tensor, beta: Tensor | None) -> Prediction:
        """The prediction (B, C or more, h, w)."""
        shown_B = model.card.network_options(self.Options).way.shown(problem.t)
        found: Prediction = model.network(problem.x_t, shown_B, condition, beta)
        return found

    def settled(self, model: Model, tensors: Tensors, spare: Tensor) -> Tensors:
        """The tensors with outputs `spare` (out,) of the read-out, a variance that GFT left untrained, made constant.

        A variance becomes the one that the sampler takes in its place, so that stock samplers that believe in it sample
        as this one does.
        """
        variance = getattr(model.family.sampler_settings(model.card), "variance", None)
        if variance in BOUNDS and model.card.network_options(self.Options).has_variance:
            settle_rows(tensors, self.readout, spare, BOUNDS[variance])
        return tensors

    def given(
        self, model: Model, condition: Tensor, guidance: Guidance, settings: Any, generator: SampleGenerator
    ) -> Tensor | None:
        """What the network sees beside the noisy latents, (B, C, h, w); UsageError for a base that it cannot use."""
        if settings.base is not None:
            raise UsageError(f"{model.card.name} enlarges no images, which base={settings.base!r} would draw.")
        return None

    def weights_file(self, card: ModelCard, folder: Path, entry: Literal["raw", "ema"] | None) -> Path | None:
        """The file with the weights in a folder of the official trainer's; None where it is none."""
        return None

    def build_classifier(self, card: ModelCard, path: Path) -> nn.Module:
        """The classifier that guides the network; UsageError where there is none of its kind."""
        raise UsageError(f"{card.name} is not guided by a classifier, which ADM's models are; use --cfg.")

    def score(self, card: ModelCard, prediction: Tensor, problem: Any) -> Tensor:
        """The loss (B,)."""
        return training.score(card, prediction, problem)
