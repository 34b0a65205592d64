"""The catalogue: model cards read from `registry.yaml`, looked up by name, pattern or family. No torch here."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gftzoo.errors import GftzooError, UsageError, nearest

Schedule = Literal["constant", "linear"]  # of the guidance over the sampling
_yaml_loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser starts ten times faster


Options = TypeVar("Options", bound=BaseModel)


class Frozen(BaseModel):
    """Data from disk or the command line: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TokenizerSpec(Frozen):
    """The identity of a tokenizer; two specs that differ in any field are two tokenizers."""

    id: str
    kind: str = Field(description="which implementation builds it: pixels, autoencoder-kl, or one of a family's own")
    channels: int = Field(description="latent channels, or the width of a code vector")
    downsample: int = Field(1, description="image pixels per latent pixel along one side")
    image_channels: int = 3
    scale: float = 1.0
    shift: float = 0.0
    codebook: int | None = Field(None, description="number of codes; None for continuous latents")
    scales: tuple[int, ...] | None = Field(None, description="sides of the token maps of a multi-scale tokenizer")
    repo: str | None = Field(None, description="hub repository or folder of the weights")
    file: str | None = Field(None, description="file in that repository, or beside the plugin's code")
    options: dict[str, Any] = {}


class Checkpoint(Frozen):
    """Published weights."""

    repo: str
    file: str | None = None
    entry: str | None = Field(None, description="which entry of the file: ema, raw, or None where it has one only")
    objective: Literal["conditional", "gft", "cca"] = "conditional"
    resolution: int | None = None
    licence: str = "unknown"
    note: str = ""


class LearningRate(Frozen):
    """The schedule of the learning rate, a pure function of the optimizer step.

    `constant`; `cosine` from 1 to `final` over `horizon` steps; `linear-tail` constant until `hold` of the horizon and
    then linear to `final` (VAR's lin0). All after `warmup` linear steps from `warmup_from`.
    """

    kind: Literal["constant", "cosine", "linear-tail"] = "constant"
    warmup: int = 0
    warmup_from: float = 0.0
    horizon: int | None = Field(None, description="steps until `final`; None = the length of the run")
    final: float = Field(1.0, description="last learning rate as a share of the first")
    hold: float = 0.05


class Recipe(Frozen):
    """How a model is trained: objective, optimizer and schedule of a paper."""

    summary: str = ""
    objective: str = "gft"
    objective_options: dict[str, Any] = {}
    init: str | None = Field(None, description="checkpoint name to start from; None = from scratch")
    network: dict[str, Any] = Field({}, description="network options that this recipe changes")
    steps: int
    batch_size: int = Field(256, description="samples per optimizer step over all ranks and micro-batches")
    accumulate: int = 1
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    weight_decay_end: float | None = Field(None, description="cosine to this value over the run; None = constant")
    clip_norm: float | None = None
    learning_rate: LearningRate = LearningRate()
    ema_decay: float | None = 0.9999
    ema_warmup: bool = Field(False, description="decay min(decay, (1+n)/(10+n)), as diffusers does")
    hflip: bool = True
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"


class Score(Frozen):
    """A published number, with how it was measured."""

    fid: float | None = None
    inception_score: float | None = None
    guidance: str = Field(description="none, cfg=1.5, gft, ...")
    protocol: str = Field(description="who measured it and how")
    steps: int | None = None
    source: str = ""


class ModelCard(Frozen):
    """Everything about one model that is data."""

    name: str
    family: str
    summary: str = ""
    parameters: int = Field(description="of the plain network, without a temperature input")
    parameters_gft: int | None = Field(None, description="with the family's default temperature input")
    resolution: int = Field(description="side of the square image, pixels")
    tokenizer: TokenizerSpec
    condition: Literal["class", "text"] = "class"
    text_encoder: str | None = Field(None, description="where prompts become features: hub repository or local folder")
    classes: int = Field(1000, description="number of classes without the null class; 0 for text")
    class_names: tuple[str, ...] = ()
    network: dict[str, Any] = {}
    temperature: bool = Field(False, description="whether the network has a temperature input")
    sampler: dict[str, Any] = {}
    gft_schedule: Schedule = Field("constant", description="usual ramp of the temperature over the sampling")
    cfg_schedule: Schedule = Field("constant", description="usual ramp of the CFG scale over the sampling")
    data: str | None = Field(None, description="the data source a model of this size is meant for, if embedded")
    checkpoints: dict[str, Checkpoint] = {}
    recipes: dict[str, Recipe] = {}
    scores: tuple[Score, ...] = ()
    licence: str = "unknown"
    paper: str = ""

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
        """The index of a class given by index or name; UsageError if there is none such."""
        names = [name.casefold() for name in self.class_names]
        text = str(condition).strip()
        if text.casefold() in names:
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
    summary: str = ""


class Registry(Frozen):
    """One `registry.yaml`."""

    families: dict[str, FamilyEntry] = {}
    tokenizers: dict[str, TokenizerSpec] = {}
    models: dict[str, ModelCard] = {}


def read_registry(path: Path, known: Registry | None = None) -> Registry:
    """A registry file, validated; tokenizer names resolve within the file, then in `known`.

    Raises GftzooError that names the file and the first fault.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _yaml_loader) or {}  # noqa: S506 (a safe loader)
        if not isinstance(raw, dict):
            raise ValueError("the top level must be a mapping with families, tokenizers and models")
        tokenizers = {k: {"id": k, **v} for k, v in (raw.get("tokenizers") or {}).items()}
        specs = {**(known.tokenizers if known else {}), **tokenizers}
        models = {k: _resolve(k, v, specs) for k, v in (raw.get("models") or {}).items()}
        return Registry.model_validate({**raw, "tokenizers": tokenizers, "models": models})
    except ValidationError as error:
        raise GftzooError(validation_sentence(str(path), error)) from error
    except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError) as error:
        raise GftzooError(f"{path} is not a valid registry: {str(error).splitlines()[0]}.") from error


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
    """The cards whose name matches the shell pattern, in natural order."""
    cards = catalogue().models
    names = sorted(fnmatch.filter(cards, pattern), key=natural_key)
    return [cards[name] for name in names if family in (None, cards[name].family)]


def get_card(name: str) -> ModelCard:
    """The card of a model; UsageError with the nearest name if there is none."""
    cards = catalogue().models
    if name not in cards:
        raise UsageError(f"unknown model {name!r}{nearest(name, cards)}; `gftzoo list` shows all {len(cards)}.")
    return cards[name]


def get_tokenizer_spec(name: str) -> TokenizerSpec:
    """The spec of a named tokenizer; UsageError with the nearest name if there is none."""
    specs = catalogue().tokenizers
    if name not in specs:
        raise UsageError(f"unknown tokenizer {name!r}{nearest(name, specs)}; valid are {', '.join(sorted(specs))}.")
    return specs[name]
