"""The typed door to the hooks of one family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import pluggy
from pydantic import BaseModel
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard, TokenizerSpec, validation_sentence
from gftzoo.contract.guidance import Guidance
from gftzoo.contract.options import FamilyOptions
from gftzoo.contract.problem import Problem
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.errors import PluginError, UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.temperature import Affine, Prediction, strength


class Family:
    """The hooks of one family, typed. Every call goes through pluggy, so wrappers of other plugins take part."""

    def __init__(self, name: str, manager: pluggy.PluginManager) -> None:
        self.name = name
        self.manager = manager

    def _call(self, hook: str, **arguments: Any) -> Any:
        return getattr(self.manager.hook, hook)(**arguments)

    def build_network(self, card: ModelCard) -> nn.Module:
        return cast(nn.Module, self._call("build_network", card=card))

    def draw_problem(self, model: Any, latents: Tensor, generator: SampleGenerator) -> Problem:
        return cast(Problem, self._call("draw_problem", model=model, latents=latents, generator=generator))

    def prediction(self, model: Any, problem: Problem, condition: Tensor, beta: Tensor | None) -> Prediction:
        """What the hook `predict` returns: a tensor, or both outputs of an affine temperature."""
        found: Prediction = self._call("predict", model=model, problem=problem, condition=condition, beta=beta)
        return found

    def predict(self, model: Any, problem: Problem, condition: Tensor, beta: Tensor | None) -> Tensor:
        """The prediction (B, ...) at the temperatures `beta` (B,); None is the plain one."""
        found = self.prediction(model, problem, condition, beta)
        if isinstance(found, Affine):
            return found.c if beta is None else found.at(strength(beta))
        return found

    def loss_term(self, model: Any, prediction: Tensor, problem: Problem) -> Tensor:
        loss_B = cast(Tensor, self._call("loss_term", model=model, prediction=prediction, problem=problem))
        if loss_B.ndim != 1 or len(loss_B) != len(prediction):
            raise PluginError(
                f"family {self.name!r}: loss_term must return one loss per sample, shape ({len(prediction)},), "
                f"and returned shape {tuple(loss_B.shape)}."
            )
        return loss_B

    def offers(self, hook: str) -> bool:
        """Whether the family implements an optional hook that has no default."""
        return bool(getattr(self.manager.hook, hook).get_hookimpls())

    def log_likelihood(self, model: Any, prediction: Tensor, problem: Problem) -> Tensor:
        return cast(Tensor, self._call("log_likelihood", model=model, prediction=prediction, problem=problem))

    def prediction_distance(self, model: Any, prediction: Tensor, target: Tensor, problem: Problem) -> Tensor:
        distance_B = self._call(
            "prediction_distance", model=model, prediction=prediction, target=target, problem=problem
        )
        return cast(Tensor, distance_B)

    def condition_drop(self, model: Any, condition: Tensor, dropped: Tensor) -> Tensor:
        return cast(Tensor, self._call("condition_drop", model=model, condition=condition, dropped=dropped))

    def fold_temperature(self, model: Any, beta: float) -> Mapping[str, Tensor]:
        return cast(Mapping[str, Tensor], self._call("fold_temperature", model=model, beta=beta))

    def temperature_sampler(
        self, model: Any, condition: Tensor, guidance: Guidance, settings: BaseModel, generator: SampleGenerator
    ) -> Tensor:
        latents = self._call(
            "temperature_sampler",
            model=model,
            condition=condition,
            guidance=guidance,
            settings=settings,
            generator=generator,
        )
        return cast(Tensor, latents)

    def options(self) -> FamilyOptions:
        return cast(FamilyOptions, self._call("options"))

    def encode_condition(self, model: Any, conditions: Sequence[int | str]) -> Tensor:
        return cast(Tensor, self._call("encode_condition", model=model, conditions=conditions))

    def build_tokenizer(self, spec: TokenizerSpec, weights: str | None = None) -> Tokenizer:
        if weights is not None and not Path(weights).exists():  # or a reader may take it for a name on the hub
            raise UsageError(f"there is no file or folder {weights!r} with the weights of tokenizer {spec.id!r}.")
        return cast(Tokenizer, self._call("build_tokenizer", spec=spec, weights=weights))

    def import_weights(self, card: ModelCard, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return cast("Mapping[str, Tensor]", self._call("import_weights", card=card, tensors=tensors))

    def weights_file(self, card: ModelCard, folder: Path, entry: Literal["raw", "ema"] | None = None) -> Path:
        return cast(Path, self._call("weights_file", card=card, folder=folder, entry=entry))

    def export(self, model: Any, to: str, folder: Path) -> Path | None:
        """Writes the model in a format of the family's own; None for another, see `gftzoo.exporting`."""
        return cast("Path | None", self._call("export", model=model, to=to, folder=folder))

    def build_classifier(self, card: ModelCard, path: Path) -> nn.Module:
        return cast(nn.Module, self._call("build_classifier", card=card, path=path))

    def parameter_groups(self, network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        groups = self._call("parameter_groups", network=network, weight_decay=weight_decay)
        return cast("list[dict[str, Any]]", groups)

    def blocks(self, network: nn.Module) -> list[nn.Module]:
        return cast("list[nn.Module]", self._call("blocks", network=network))

    def sampler_settings(self, card: ModelCard, **settings: Any) -> BaseModel:
        """The sampler's settings: the family's defaults, then the card's, then `settings`.

        Raises UsageError for an unknown key or a value that does not fit.
        """

        schema = self.options().sampler
        chosen = {key: value for key, value in settings.items() if value is not None}
        try:
            return schema.model_validate({**card.sampler, **chosen})
        except ValueError as error:
            raise UsageError(validation_sentence(f"sampler setting of {card.name}", error, schema)) from error
