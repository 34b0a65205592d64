"""Model cards and the other records of a catalogue: immutable data with a bound on every number. No torch here."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from gftzoo.catalogue.frozen import Choice
from gftzoo.catalogue.frozen import Frozen as Frozen  # noqa: PLC0414 (imported from here everywhere)
from gftzoo.catalogue.schedule import Schedule as Schedule  # noqa: PLC0414 (likewise)
from gftzoo.errors import UsageError, nearest
from gftzoo.printing import LONGEST_NAME, plain

Options = TypeVar("Options", bound=BaseModel)
LARGEST_SIDE = 2**16  # pixels of an image, and channels of a latent
LARGEST_GRID = 1024  # latent pixels a side; networks tabulate something for each of them when they are built
MOST_CLASSES = 2**24
MOST_STEPS = 10**9  # of the optimizer
MOST_PARAMETERS = 10**14


def _finite(value: Any) -> Any:
    """A value of any shape; ValueError for a number in it that is not finite, which JSON cannot hold."""
    inside = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for item in inside:
        _finite(item)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not finite")
    return value


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]  # shown, and part of paths
Distribution = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", max_length=100)]
Settings = Annotated[dict[str, Any], AfterValidator(_finite)]
Share = Annotated[float, Field(ge=0, lt=1)]
Side = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]


class TokenizerSpec(Frozen):
    """The identity of a tokenizer; two specs that differ in any field are two tokenizers."""

    id: str = Field(description="its name")
    kind: str = Field(description="which implementation builds it: pixels, autoencoder-kl, or one of a family's own")
    channels: Side = Field(description="latent channels, or the width of a code vector")
    downsample: Side = Field(1, description="image pixels per latent pixel along one side")
    image_channels: int = Field(3, ge=1, le=4, description="3, or 1 for grey images")
    scale: float = Field(1.0, description="latents are (z - shift) * scale")
    shift: float = Field(0.0, description="see scale")
    codebook: int | None = Field(None, ge=1, le=2**40, description="number of codes; None for continuous latents")
    scales: tuple[Side, ...] | None = Field(None, description="sides of the token maps of a multi-scale tokenizer")
    parts: int = Field(1, ge=1, le=64, description="codes at each place of the latent, where they code residuals")
    repo: str | None = Field(None, description="hub repository, folder, or start of an https address of the weights")
    file: str | None = Field(None, description="file in that repository, or beside the plugin's code")
    options: Settings = Field({}, description="what else its kind needs, validated by the family")


class Checkpoint(Frozen):
    """Published weights."""

    repo: str = Field(description="hub repository, or the start of an https address")
    file: str | None = Field(None, description="file in it; None where the weights are a folder, to be named locally")
    revision: str | None = Field(None, description="commit of the hub repository; None is its newest")
    entry: Literal["ema", "raw"] | None = Field(
        None, description="what a file with one state dict holds, where that is known"
    )
    objective: Literal["conditional", "gft", "cca"] = Field(
        "conditional", description="what the weights were trained for"
    )
    resolution: Side | None = Field(None, description="of the images they were trained on, if not the model's")
    sampler: Settings = Field({}, description="sampler settings of its published samples, over the model's")
    licence: str = Field("unknown", description="of the weights")
    note: str = Field("", description="what a user should know")


class LearningRate(Frozen):
    """The schedule of the learning rate, a pure function of the optimizer step.

    `constant`; `cosine` from 1 to `final` over `horizon` steps; `linear-tail` constant until `hold` of the horizon and
    then linear to `final` (VAR's lin0). All after `warmup` linear steps from `warmup_from`.
    """

    kind: Literal["constant", "cosine", "linear-tail"] = Field("constant", description="the curve after the warm-up")
    warmup: int = Field(0, ge=0, le=MOST_STEPS, description="steps of linear warm-up")
    warmup_from: float = Field(0.0, ge=0, description="where the warm-up starts, as a share of the learning rate")
    horizon: int | None = Field(
        None, gt=0, le=MOST_STEPS, description="steps until `final`; None = the length of the run"
    )
    final: float = Field(1.0, ge=0, description="last learning rate as a share of the first")
    hold: float = Field(0.05, ge=0, lt=1, description="of linear-tail: share of the horizon without decay")


class Recipe(Frozen):
    """How a model is trained: objective, optimizer and schedule of a paper."""

    summary: str = Field("", description="one line for people")
    objective: str = Field("gft", description="gft, conditional, distill, cca, or a plugin's")
    objective_options: Settings = Field({}, description="of the objective, as `-o objective.KEY=VALUE`")
    init: str | None = Field(None, description="checkpoint name to start from; None = from scratch")
    train: Literal["all", "lora", "temperature"] = Field("all", description="what of the network trains")
    network: Settings = Field({}, description="network options that this recipe changes")
    steps: int = Field(ge=1, le=MOST_STEPS, description="optimizer steps")
    batch_size: int = Field(
        256, ge=1, le=2**24, description="samples per optimizer step over all ranks and micro-batches"
    )
    accumulate: int = Field(1, ge=1, le=2**24, description="micro-batches per optimizer step")
    lr: float = Field(1e-4, ge=0, description="learning rate of AdamW")
    betas: tuple[Share, Share] = Field((0.9, 0.999), description="of AdamW")
    eps: float = Field(1e-8, ge=0, description="of AdamW")
    weight_decay: float = Field(0.0, ge=0, description="of the groups that the family says decay")
    weight_decay_end: float | None = Field(None, description="cosine to this value over the run; None = constant")
    clip_norm: float | None = Field(None, gt=0, description="gradients are clipped at this norm")
    learning_rate: LearningRate = Field(LearningRate(), description="its schedule")
    ema_decay: float | None = Field(
        0.9999, ge=0, lt=1, description="of the moving average of the weights; None keeps none"
    )
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
    steps: int | None = Field(None, ge=1, le=MOST_STEPS, description="sampling steps")
    source: str = Field("", description="paper and table, or repository")


class ModelCard(Frozen):
    """Everything about one model that is data."""

    name: Name = Field(description="what commands take")
    family: Name = Field(description="name of the entry point that provides it")
    summary: str = Field("", description="one line for people")
    parameters: int = Field(ge=0, le=MOST_PARAMETERS, description="of the plain network, without a temperature input")
    parameters_gft: int | None = Field(
        None, ge=0, le=MOST_PARAMETERS, description="with the family's default temperature input"
    )
    resolution: Side = Field(description="side of the square image, pixels")
    tokenizer: TokenizerSpec = Field(description="between images and what the network sees")
    condition: Literal["class", "text"] = Field("class", description="what the model is told about an image")
    text_encoder: str | None = Field(None, description="where prompts become features: hub repository or local folder")
    classes: int = Field(
        1000, ge=0, le=MOST_CLASSES, description="number of classes without the null class; 0 for text"
    )
    class_names: tuple[str, ...] = Field((), description="in the order of the indices; may be left out")
    empty_classes: tuple[int, ...] = Field(
        (), description="classes without a picture in the training data, drawn only where they are asked for"
    )
    network: Settings = Field({}, description="hyperparameters, validated by the family")
    temperature: bool = Field(False, description="whether the network has a temperature input")
    sampler: Settings = Field({}, description="usual sampler settings, validated by the family")
    gft_schedule: Schedule = Field("constant", description="usual ramp of the temperature over the sampling")
    cfg_schedule: Schedule = Field("constant", description="usual ramp of the CFG scale over the sampling")
    data: str | None = Field(None, description="the data source a model of this size is meant for, if embedded")
    checkpoints: dict[Name, Checkpoint] = Field({}, description="published weights by name: base, gft, ...")
    recipes: dict[Name, Recipe] = Field({}, description="ways to train it by name: gft, gft-finetune, conditional, ...")
    scores: tuple[Score, ...] = Field((), description="published scores")
    licence: str = Field("unknown", description="of code and weights, as their authors say")
    paper: str = Field("", description="where it is described")

    @model_validator(mode="after")
    def _latent_is_bounded(self) -> ModelCard:
        if self.grid > LARGEST_GRID:
            raise ValueError(
                f"resolution {self.resolution} with tokenizer {self.tokenizer.id!r} is a latent of {self.grid:,} "
                f"pixels a side, more than {LARGEST_GRID:,}"
            )
        return self

    @property
    def grid(self) -> int:
        """Side of the latent, in latent pixels."""
        return self.resolution // self.tokenizer.downsample

    @property
    def offered(self) -> dict[str, Recipe]:
        """The recipes from scratch or from a checkpoint that is published; others need weights to be named."""
        return {
            name: recipe
            for name, recipe in self.recipes.items()
            if recipe.init is None or recipe.init in self.checkpoints
        }

    def network_options(self, schema: type[Options]) -> Options:
        """`network`, validated by a family's schema, or by what of it is chosen.

        UsageError for an unknown key or a bad value.
        """
        if issubclass(schema, Choice):
            schema = schema.chosen(self.network)
        try:
            return schema.model_validate(self.network)
        except ValueError as error:
            raise UsageError(validation_sentence(f"network of {self.name}", error, schema)) from error

    @property
    def drawn_classes(self) -> tuple[int, ...]:
        """The classes that are drawn and scored where none is named: those of which there was a picture."""
        empty = set(self.empty_classes)
        return tuple(index for index in range(self.classes) if index not in empty)

    def class_index(self, condition: int | str) -> int:
        """The index of a class; UsageError if there is none.

        A number is an index. Text is a name, exactly or else without regard to case; and an index too, unless some
        class is named by a number: then text is never an index.
        """
        if not isinstance(condition, str):
            return self._checked_index(int(condition))
        text = condition.strip()
        for name in (condition, text):
            if name in self.class_names:
                return self.class_names.index(name)
        alike = [index for index, name in enumerate(self.class_names) if name.casefold() == text.casefold()]
        if len(alike) > 1:
            both = ", ".join(repr(self.class_names[index]) for index in alike)
            raise UsageError(f"{self.name} has the classes {both}; write {text!r} as one of them is written.")
        numbers = [name for name in self.class_names if name.isdecimal()]
        if alike:
            return alike[0]
        if text.isdecimal() and len(text) < 20 and not numbers:
            return self._checked_index(int(text), repr(text))
        hint = f"; classes have numbers for names ({', '.join(numbers[:3])}, ...), so that no text is an index"
        raise self._no_class(repr(text), hint if text.isdecimal() and numbers else "")

    def _checked_index(self, index: int, asked: str = "") -> int:
        if not 0 <= index < self.classes:
            raise self._no_class(asked or str(index))
        return index

    def _no_class(self, what: str, why: str = "") -> UsageError:
        names = [name.casefold() for name in self.class_names]
        close = nearest(what.strip("'").casefold(), names) if names else ""
        valid = f"0 to {self.classes - 1}" + (" or a name" if names else "")
        if why:
            valid = "the names " + ", ".join(self.class_names[:10]) + (", ..." if len(names) > 10 else "")
        return UsageError(f"{self.name} has no class {what}{why}; valid are {valid}{close}.")

    def change(self, **fields: Any) -> ModelCard:
        """A copy with other values, validated."""
        return type(self).model_validate({**self.model_dump(), **fields})


class FamilyEntry(Frozen):
    """What the catalogue knows of a family before its plugin is imported."""

    distribution: Distribution = Field(description="the package to install for it")
    nano: Name | None = Field(None, description="the model that trains on embedded data in minutes, where there is one")
    summary: str = Field("", description="one line for people")


class Registry(Frozen):
    """One `registry.yaml`."""

    families: dict[Name, FamilyEntry] = Field({}, description="families by name")
    tokenizers: dict[Name, TokenizerSpec] = Field({}, description="tokenizers by name")
    models: dict[Name, ModelCard] = Field({}, description="models by name")


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
    value = plain(repr(fault.get("input")), LONGEST_NAME)
    return f"{where}: {key} = {value} is not valid: {message}."
