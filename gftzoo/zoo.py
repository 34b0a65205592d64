"""The catalogue: model cards read from `registry.yaml`, looked up by name, pattern or family. No torch here."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gftzoo.documents import DocumentError, read_yaml
from gftzoo.errors import GftzooError, UsageError, nearest
from gftzoo.printing import plain

Schedule = Literal["constant", "linear"]  # of the guidance over the sampling


Options = TypeVar("Options", bound=BaseModel)


class Frozen(BaseModel):
    """Data from disk or the command line: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TokenizerSpec(Frozen):
    """The identity of a tokenizer; two specs that differ in any field are two tokenizers."""

    id: str = Field(description="its name")
    kind: str = Field(description="which implementation builds it: pixels, autoencoder-kl, or one of a family's own")
    channels: int = Field(description="latent channels, or the width of a code vector")
    downsample: int = Field(1, description="image pixels per latent pixel along one side")
    image_channels: int = Field(3, description="3, or 1 for grey images")
    scale: float = Field(1.0, description="latents are (z - shift) * scale")
    shift: float = Field(0.0, description="see scale")
    codebook: int | None = Field(None, description="number of codes; None for continuous latents")
    scales: tuple[int, ...] | None = Field(None, description="sides of the token maps of a multi-scale tokenizer")
    repo: str | None = Field(None, description="hub repository or folder of the weights")
    file: str | None = Field(None, description="file in that repository, or beside the plugin's code")
    options: dict[str, Any] = Field({}, description="what else its kind needs, validated by the family")


class Checkpoint(Frozen):
    """Published weights."""

    repo: str = Field(description="hub repository, or the start of an https address")
    file: str | None = Field(None, description="file in it; None where the weights are a folder, to be named locally")
    entry: str | None = Field(None, description="which entry of the file: ema, raw, or None where it has one only")
    objective: Literal["conditional", "gft", "cca"] = Field(
        "conditional", description="what the weights were trained for"
    )
    resolution: int | None = Field(None, description="of the images they were trained on, if not the model's")
    sampler: dict[str, Any] = Field({}, description="sampler settings of its published samples, over the model's")
    licence: str = Field("unknown", description="of the weights")
    note: str = Field("", description="what a user should know")


class LearningRate(Frozen):
    """The schedule of the learning rate, a pure function of the optimizer step.

    `constant`; `cosine` from 1 to `final` over `horizon` steps; `linear-tail` constant until `hold` of the horizon and
    then linear to `final` (VAR's lin0). All after `warmup` linear steps from `warmup_from`.
    """

    kind: Literal["constant", "cosine", "linear-tail"] = Field("constant", description="the curve after the warm-up")
    warmup: int = Field(0, ge=0, description="steps of linear warm-up")
    warmup_from: float = Field(0.0, ge=0, description="where the warm-up starts, as a share of the learning rate")
    horizon: int | None = Field(None, gt=0, description="steps until `final`; None = the length of the run")
    final: float = Field(1.0, ge=0, description="last learning rate as a share of the first")
    hold: float = Field(0.05, ge=0, lt=1, description="of linear-tail: share of the horizon without decay")


class Recipe(Frozen):
    """How a model is trained: objective, optimizer and schedule of a paper."""

    summary: str = Field("", description="one line for people")
    objective: str = Field("gft", description="gft, conditional, distill, cca, or a plugin's")
    objective_options: dict[str, Any] = Field({}, description="of the objective, as `-o objective.KEY=VALUE`")
    init: str | None = Field(None, description="checkpoint name to start from; None = from scratch")
    network: dict[str, Any] = Field({}, description="network options that this recipe changes")
    steps: int = Field(description="optimizer steps")
    batch_size: int = Field(256, description="samples per optimizer step over all ranks and micro-batches")
    accumulate: int = Field(1, description="micro-batches per optimizer step")
    lr: float = Field(1e-4, description="learning rate of AdamW")
    betas: tuple[float, float] = Field((0.9, 0.999), description="of AdamW")
    eps: float = Field(1e-8, description="of AdamW")
    weight_decay: float = Field(0.0, description="of the groups that the family says decay")
    weight_decay_end: float | None = Field(None, description="cosine to this value over the run; None = constant")
    clip_norm: float | None = Field(None, description="gradients are clipped at this norm")
    learning_rate: LearningRate = Field(LearningRate(), description="its schedule")
    ema_decay: float | None = Field(0.9999, description="of the moving average of the weights; None keeps none")
    ema_warmup: bool = Field(False, description="decay min(decay, (1+n)/(10+n)), as diffusers does")
    hflip: bool = Field(True, description="mirror images at random, where the data allows it")
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto", description="auto is bf16 on a GPU that has it, else fp32"
    )


class Score(Frozen):
    """A published number, with how it was measured."""

    fid: float | None = Field(None, description="Fréchet inception distance")
    inception_score: float | None = Field(None, description="inception score")
    guidance: str = Field(description="none, cfg=1.5, gft, ...")
    protocol: str = Field(description="who measured it and how")
    steps: int | None = Field(None, description="sampling steps")
    source: str = Field("", description="paper and table, or repository")


class ModelCard(Frozen):
    """Everything about one model that is data."""

    name: str = Field(description="what commands take")
    family: str = Field(description="name of the entry point that provides it")
    summary: str = Field("", description="one line for people")
    parameters: int = Field(description="of the plain network, without a temperature input")
    parameters_gft: int | None = Field(None, description="with the family's default temperature input")
    resolution: int = Field(description="side of the square image, pixels")
    tokenizer: TokenizerSpec = Field(description="between images and what the network sees")
    condition: Literal["class", "text"] = Field("class", description="what the model is told about an image")
    text_encoder: str | None = Field(None, description="where prompts become features: hub repository or local folder")
    classes: int = Field(1000, description="number of classes without the null class; 0 for text")
    class_names: tuple[str, ...] = Field((), description="in the order of the indices; may be left out")
    network: dict[str, Any] = Field({}, description="hyperparameters, validated by the family")
    temperature: bool = Field(False, description="whether the network has a temperature input")
    sampler: dict[str, Any] = Field({}, description="usual sampler settings, validated by the family")
    gft_schedule: Schedule = Field("constant", description="usual ramp of the temperature over the sampling")
    cfg_schedule: Schedule = Field("constant", description="usual ramp of the CFG scale over the sampling")
    data: str | None = Field(None, description="the data source a model of this size is meant for, if embedded")
    checkpoints: dict[str, Checkpoint] = Field({}, description="published weights by name: base, gft, ...")
    recipes: dict[str, Recipe] = Field({}, description="ways to train it by name: gft, gft-finetune, conditional, ...")
    scores: tuple[Score, ...] = Field((), description="published scores")
    licence: str = Field("unknown", description="of code and weights, as their authors say")
    paper: str = Field("", description="where it is described")

    @property
    def grid(self) -> int:
        """Side of the latent, in latent pixels."""
        return self.resolution // self.tokenizer.downsample

    def network_options(self, schema: type[Options]) -> Options:
        """`network`, validated by a family's schema; UsageError for an unknown key or a bad value."""
        try:
            return schema.model_validate(self.network)
        except ValueError as error:
            raise UsageError(validation_sentence(f"network of {self.name}", error, schema)) from error

    def class_index(self, condition: int | str) -> int:
        """The index of a class: a number is one, text is a name or else a number; UsageError if there is none."""
        names = [name.casefold() for name in self.class_names]
        text = str(condition).strip()
        if isinstance(condition, str) and text.casefold() in names:
            return names.index(text.casefold())
        if text.isdecimal() and int(text) < self.classes:
            return int(text)
        hint = f" or a name{nearest(text.casefold(), names)}" if names else ""
        raise UsageError(f"{self.name} has no class {text!r}; valid are 0 to {self.classes - 1}{hint}.")

    def change(self, **fields: Any) -> ModelCard:
        """A copy with other values, validated."""
        return type(self).model_validate({**self.model_dump(), **fields})


class FamilyEntry(Frozen):
    """What the catalogue knows of a family before its plugin is imported."""

    distribution: str = Field(description="the package to install for it")
    nano: str = Field(description="the model that trains on embedded data in minutes")
    summary: str = Field("", description="one line for people")


class Registry(Frozen):
    """One `registry.yaml`."""

    families: dict[str, FamilyEntry] = Field({}, description="families by name")
    tokenizers: dict[str, TokenizerSpec] = Field({}, description="tokenizers by name")
    models: dict[str, ModelCard] = Field({}, description="models by name")


def read_registry(path: Path, known: Registry | None = None) -> Registry:
    """A registry file, validated; tokenizer names resolve within the file, then in `known`.

    Raises GftzooError that names the file and the first fault.
    """
    try:
        raw = read_yaml(path) or {}
        if not isinstance(raw, dict):
            raise ValueError("the top level must be a mapping with families, tokenizers and models")
        tokenizers = {k: {"id": k, **v} for k, v in (raw.get("tokenizers") or {}).items()}
        specs = {**(known.tokenizers if known else {}), **tokenizers}
        models = {k: _resolve(k, v, specs) for k, v in (raw.get("models") or {}).items()}
        return Registry.model_validate({**raw, "tokenizers": tokenizers, "models": models})
    except ValidationError as error:
        raise GftzooError(validation_sentence(str(path), error)) from error
    except (DocumentError, ValueError, AttributeError, TypeError) as error:
        raise GftzooError(f"{path} is not a valid registry: {plain(error).rstrip('.')}.") from error


def _resolve(name: str, card: Any, tokenizers: Mapping[str, Any]) -> dict[str, Any]:
    tokenizer = card.get("tokenizer")
    if isinstance(tokenizer, str):
        if tokenizer not in tokenizers:
            raise ValueError(f"model {name!r} names an unknown tokenizer {tokenizer!r}")
        tokenizer = tokenizers[tokenizer]
    return {"name": name, **card, "tokenizer": tokenizer}


def validation_sentence(where: str, error: ValueError, schema: type[BaseModel] | None = None) -> str:
    """The first fault of a pydantic error as one sentence, with the nearest valid name for an unknown key."""
    if not isinstance(error, ValidationError):
        return f"{where}: {error}."
    fault = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        valid = list(schema.model_fields) if schema else []
        listing = f"; valid are {', '.join(sorted(valid))}" if valid else ""
        return f"{where}: unknown key {key!r}{nearest(key, valid)}{listing}."
    message = fault["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if not key:  # a fault of several values together
        return f"{where}: {message}."
    return f"{where}: {key} = {fault.get('input')!r} is not valid: {message}."


@cache
def zoo_registry() -> Registry:
    """The zoo's own catalogue, from the wheel or, in a checkout, from the repository root."""
    here = Path(__file__).parent
    inside = here / "registry.yaml"
    return read_registry(inside if inside.is_file() else here.parent / "registry.yaml")


def natural_key(name: str) -> list[Any]:
    """Sorts dit-s-2 before dit-s-10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


@cache
def catalogue() -> Registry:
    """The zoo's catalogue and those that installed plugins ship; a broken one is left out (see `gftzoo plugins`)."""
    from gftzoo.plugins import plugin_registries

    merged = zoo_registry()
    for registry in plugin_registries():
        merged = Registry(
            families={**registry.families, **merged.families},
            tokenizers={**registry.tokenizers, **merged.tokenizers},
            models={**registry.models, **merged.models},
        )
    return merged


def list_models(pattern: str = "*", family: str | None = None) -> list[ModelCard]:
    """The cards whose name matches the shell pattern, in natural order; UsageError for a family of no model."""
    cards = catalogue().models
    families = sorted({card.family for card in cards.values()})
    if family is not None and family not in families:
        raise UsageError(f"unknown family {family!r}{nearest(family, families)}; valid are {', '.join(families)}.")
    names = sorted(fnmatch.filter(cards, pattern), key=natural_key)
    return [cards[name] for name in names if family in (None, cards[name].family)]


def get_card(name: str) -> ModelCard:
    """The card of a model; UsageError with the nearest name if there is none."""
    cards = catalogue().models
    if name not in cards and "/" in name:
        raise UsageError(f"there is no run or folder {name!r}; `gftzoo list` shows the names of models.")
    if name not in cards:
        raise UsageError(f"unknown model {name!r}{nearest(name, cards)}; `gftzoo list` shows all {len(cards)}.")
    return cards[name]


def get_tokenizer_spec(name: str) -> TokenizerSpec:
    """The spec of a named tokenizer; UsageError with the nearest name if there is none."""
    specs = catalogue().tokenizers
    if name not in specs:
        raise UsageError(f"unknown tokenizer {name!r}{nearest(name, specs)}; valid are {', '.join(sorted(specs))}.")
    return specs[name]
