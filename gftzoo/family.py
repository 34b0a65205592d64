"""A family at work: the problem it draws, the options it has, and the typed door to its hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, cast

import pluggy
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from gftzoo.errors import PluginError, UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.guidance import Guidance
from gftzoo.hookspecs import hookimpl
from gftzoo.layers.temperature import Affine, Prediction, strength
from gftzoo.tokenizers import Tokenizer, build_core_tokenizer
from gftzoo.zoo import ModelCard, TokenizerSpec


@dataclass(frozen=True)
class Problem:
    """What one batch asks of the network. Subclass it; every tensor field has the batch as its first dimension."""

    def select(self, rows: Tensor) -> Self:
        """The problem of the samples at `rows` (indices or a boolean mask)."""
        return self._map(lambda tensor: tensor[rows])

    def repeat(self, times: int) -> Self:
        """The batch `times` over, one copy after the other, as a guidance with several passes needs it."""
        return self._map(lambda tensor: torch.cat([tensor] * times)) if times > 1 else self

    def to(self, device: torch.device | str) -> Self:
        """The problem on another device."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, change: Any) -> Self:
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: change(t) for name, t in tensors.items() if isinstance(t, Tensor)})


class FreeForm(BaseModel):
    """Options of a family that declares none: anything goes, nothing is documented."""

    model_config = ConfigDict(extra="allow", frozen=True)


@dataclass(frozen=True)
class FamilyOptions:
    """The pydantic models that validate and document `card.network` and the sampler's settings, and export formats."""

    network: type[BaseModel] = FreeForm
    sampler: type[BaseModel] = FreeForm
    reads_tokenizer: bool = False  # training needs the tokenizer even where latents come from a cache
    exports: tuple[str, ...] = ()


def decay_groups(
    network: nn.Module, weight_decay: float, decays: Callable[[str, nn.Parameter], bool]
) -> list[dict[str, Any]]:
    """Two groups for an optimizer: the trainable parameters with weight decay, those that `decays(name, parameter)`
    chooses, and the others without."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (decayed if decays(name, parameter) else plain).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


class Defaults:
    """The optional hooks, registered behind every family and used where the family has nothing of its own."""

    @hookimpl(trylast=True)
    def options(self) -> FamilyOptions:
        return FamilyOptions()

    @hookimpl(trylast=True)
    def encode_condition(self, model: Any, conditions: Sequence[int | str]) -> Tensor:
        return torch.tensor([model.card.class_index(c) for c in conditions], device=model.device)

    @hookimpl(trylast=True)
    def build_tokenizer(self, spec: TokenizerSpec, weights: str | None) -> Tokenizer:
        return build_core_tokenizer(spec, weights)

    @hookimpl(trylast=True)
    def import_weights(self, card: ModelCard, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return tensors

    @hookimpl(trylast=True)
    def weights_file(self, card: ModelCard, folder: Path, entry: Literal["raw", "ema"] | None) -> Path:
        from gftzoo.weights import weights_in

        found = weights_in(folder, entry)
        if found is None:
            raise UsageError(f"{str(folder)!r} is a folder without weights of a known name; name the file itself.")
        return found

    @hookimpl(trylast=True)
    def export(self, model: Any, to: str, folder: Path) -> Path:
        if to in ("safetensors", "official"):
            from gftzoo.weights import save_model

            if to == "official" and model.card.temperature:
                raise UsageError(
                    f"{model.card.name} has a temperature input, which the official network has not; fold one value "
                    "into the weights with --beta 0.66, or keep the input with --to safetensors."
                )
            save_model(model, folder)
            return folder
        if to == "adapter":
            from gftzoo.adapters import write_adapter

            return write_adapter(model, folder)
        formats = ", ".join(("safetensors", "official", "adapter", *model.family.options().exports))
        raise UsageError(
            f"{model.card.name} cannot be exported to {to!r}; formats of family {model.card.family}: {formats}."
        )

    @hookimpl(trylast=True)
    def parameter_groups(self, network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        trainable = [p for p in network.parameters() if p.requires_grad]
        return [{"params": trainable, "weight_decay": weight_decay}]

    @hookimpl(trylast=True)
    def blocks(self, network: nn.Module) -> list[nn.Module]:
        lists = [list(m) for m in network.modules() if isinstance(m, nn.ModuleList)]
        return max(lists, key=len, default=[])


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

    def export(self, model: Any, to: str, folder: Path) -> Path:
        """Writes the model in the format `to`; an adapter, but for its own format, as merged into its base."""
        from gftzoo.adapters import merged

        model = model if to == "adapter" else merged(model)
        return cast(Path, self._call("export", model=model, to=to, folder=folder))

    def parameter_groups(self, network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        groups = self._call("parameter_groups", network=network, weight_decay=weight_decay)
        return cast("list[dict[str, Any]]", groups)

    def blocks(self, network: nn.Module) -> list[nn.Module]:
        return cast("list[nn.Module]", self._call("blocks", network=network))

    def sampler_settings(self, card: ModelCard, **settings: Any) -> BaseModel:
        """The sampler's settings: the family's defaults, then the card's, then `settings`.

        Raises UsageError for an unknown key or a value that does not fit.
        """
        from gftzoo.zoo import validation_sentence

        schema = self.options().sampler
        chosen = {key: value for key, value in settings.items() if value is not None}
        try:
            return schema.model_validate({**card.sampler, **chosen})
        except ValueError as error:
            raise UsageError(validation_sentence(f"sampler setting of {card.name}", error, schema)) from error
