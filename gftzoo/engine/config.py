"""What a training run is made of: a recipe, the user's options and the data, resolved into one flat record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import Field, PositiveInt, ValidationError, model_validator

from gftzoo.atomic import written_whole
from gftzoo.engine.adapting import adapter_recipe, check_adapter
from gftzoo.errors import GftzooError, UsageError, nearest
from gftzoo.layers.lora import LoraOptions
from gftzoo.objectives import build_objective, find_objective
from gftzoo.plugins import load_family
from gftzoo.weights import own_weights, refuse_unknown
from gftzoo.zoo import (
    Frozen,
    LearningRate,
    ModelCard,
    Recipe,
    catalogue,
    get_card,
    get_tokenizer_spec,
    validation_sentence,
)

if TYPE_CHECKING:
    from gftzoo.data import Source

CONFIG_FILE = "config.yaml"
Momentum = Annotated[float, Field(ge=0, lt=1)]
DEMONSTRATION_STEPS = 10
DEMONSTRATION_BATCH = 8
DEMONSTRATION_GRID = (1, 2)  # a full-size network takes its time on a CPU


class TrainConfig(Frozen):
    """Everything that decides a run; written to its folder and read back on resume."""

    model: str = Field(description="name of the model in the catalogue")
    card: ModelCard = Field(description="the card, adapted to the data and the objective")
    data: str = Field(description="data source: digits, imagefolder:PATH, cache:PATH, ...")
    objective: str = "gft"
    objective_options: dict[str, Any] = {}
    weights: str | None = Field(None, description="checkpoint name or file to start from")
    entry: Literal["raw", "ema"] | None = None
    train: Literal["all", "lora", "temperature"] = Field("all", description="what trains; the rest stays as it is")
    lora: LoraOptions = LoraOptions()
    tokenizer_path: str | None = Field(None, description="local folder or file of the tokenizer's weights")
    steps: int = Field(gt=0)
    batch_size: int = Field(256, gt=0, description="samples per optimizer step, over ranks and micro-batches")
    accumulate: int = Field(1, gt=0, description="micro-batches per optimizer step")
    lr: float = Field(1e-4, gt=0)
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    weight_decay_end: float | None = None
    clip_norm: float | None = Field(None, gt=0)
    learning_rate: LearningRate = LearningRate()
    ema_decay: float | None = Field(0.9999, ge=0, lt=1)
    ema_warmup: bool = False
    hflip: bool = True
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    seed: int = 0
    workers: int = Field(0, ge=0, description="data loading processes per rank")
    compile: bool = Field(False, description="torch.compile the network's blocks")
    activation_checkpointing: bool = False
    parallel: Literal["ddp", "fsdp"] = Field("ddp", description="how several ranks share the work")
    offload: bool = Field(False, description="fsdp: weights, gradients and optimizer wait in the CPU's memory")
    sharded_checkpoints: bool = Field(False, description="every rank writes its own part of a checkpoint")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")
    log_every: int = Field(20, gt=0)
    checkpoint_every: int = Field(1000, gt=0)
    keep_last: int = Field(2, gt=0, description="newest checkpoints kept")
    keep_every: int | None = Field(None, gt=0, description="checkpoints at multiples of this are kept for good")
    save_on_signal: bool = Field(True, description="SIGTERM and SIGINT end the step, save, and exit with 0")
    sample_every: int = Field(1000, gt=0)
    sample_grid: tuple[PositiveInt, PositiveInt] = Field((5, 10), description="rows and columns of the sample grids")
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()

    @model_validator(mode="after")
    def _divides(self) -> TrainConfig:
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}")
        if self.train != "all" and self.sharded_checkpoints:
            raise ValueError("an adapter is small and not written in parts; leave sharded_checkpoints out")
        if self.offload and self.parallel != "fsdp":
            raise ValueError("offload needs parallel=fsdp")
        return self

    def write(self, folder: Path) -> None:
        """Writes `config.yaml` into a run's folder."""
        with written_whole(folder / CONFIG_FILE) as partial:
            partial.write_text(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> TrainConfig:
        """The configuration of a run; GftzooError if the folder holds none or it is damaged."""
        path = folder / CONFIG_FILE
        if not path.is_file():
            raise GftzooError(f"{str(folder)!r} is not a run (it has no {CONFIG_FILE}); runs lie under runs/.")
        try:
            return cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise GftzooError(validation_sentence(str(path), ValueError(str(error).split("\n", 1)[0]))) from error


# Keys of TrainConfig that commands set themselves and `-o` does not.
_NOT_OPTIONS = {"model", "card", "data", "objective", "objective_options", "weights", "steps", "learning_rate", "lora"}
_CARD_OPTIONS = ("tokenizer", "resolution", "text_encoder")


def option_names() -> list[str]:
    """The plain keys `-o` takes; `network.`, `objective.`, `learning_rate.` and `lora.` take dotted ones besides."""
    return sorted(set(TrainConfig.model_fields) - _NOT_OPTIONS) + list(_CARD_OPTIONS)


def parse_options(pairs: Sequence[str], valid: Sequence[str] | None = None) -> dict[str, Any]:
    """`key=value` pairs, values read as YAML; UsageError for an unknown key, with the nearest.

    Args:
        pairs: as given with `-o`.
        valid: the keys that there are; None for all that a run has, with the dotted ones.
    """
    options: dict[str, Any] = {}
    groups = ("network", "objective", "learning_rate", "lora") if valid is None else ()
    valid = option_names() if valid is None else valid
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"option {pair!r} has no value; write -o key=value.")
        dotted = key.partition(".")[0] in groups and "." in key
        if key not in valid and not dotted:
            raise UsageError(f"unknown option {key!r}{nearest(key, valid)}; valid are {', '.join(valid)}.")
        try:
            options[key] = _number(yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise UsageError(f"option {key!r} has the value {value!r}, which cannot be read.") from error
    return options


def _number(value: Any) -> Any:
    """YAML reads 1e-4 as text; people mean a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def resolve(
    model: str,
    *,
    objective: str = "gft",
    data: str | None = None,
    recipe: str | None = None,
    steps: int | None = None,
    weights: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """The configuration of a new run.

    Without `data` the family's demonstration data takes the place of the model's own: its tokenizer, resolution and
    classes, for a short run at the model's full size (or the full recipe, if the model is made for that data).

    Args:
        model: a name of the catalogue.
        objective: gft, conditional, or one that a plugin adds.
        data: data source; None for the embedded one.
        recipe: a recipe's name; None picks the one for the objective, from scratch or fine-tuning.
        steps: overrides the recipe's.
        weights: checkpoint name or file to start from.
        options: parsed `-o` pairs.

    Raises:
        UsageError: unknown model, recipe, option or value.
    """
    options = dict(options or {})
    card = get_card(model)
    chosen = _recipe(card, objective, recipe, fine_tune=weights is not None or options.get("train", "all") != "all")
    chosen = adapter_recipe(card, chosen, objective, options, named=recipe is not None)
    demonstration = data is None and card.data is None
    card, name, source = _meet_data(card, data)
    card = _change_card(card, chosen, options, objective)
    source.check(card)
    fields = _fields(chosen, options, demonstration)
    fields |= {"steps": steps} if steps is not None else {}
    start = weights if weights is not None else (None if demonstration else chosen.init)
    if start is not None and start not in card.checkpoints:
        if weights is None:
            raise UsageError(
                f"this recipe of {model} starts from {start!r}, which is not published; "
                "name weights with --weights PATH."
            )
        refuse_unknown(card, start)  # before anything is made
        start = str(own_weights(Path(start), fields.get("entry")) or start)  # a run's newest file may change, not this
    try:
        config = TrainConfig(model=model, card=card, data=name, objective=objective, weights=start, **fields)
    except ValidationError as error:
        raise UsageError(validation_sentence(f"training {model}", error, TrainConfig)) from error
    check_adapter(card, config.train, objective, start)
    build_objective(objective, config.objective_options).check(load_family(card.family), start)
    if config.learning_rate.horizon is None:  # fixed now, so that a longer resume does not bend the schedule
        horizon = config.learning_rate.model_copy(update={"horizon": config.steps})
        config = config.model_copy(update={"learning_rate": horizon})
    return config


def _recipe(card: ModelCard, objective: str, name: str | None, fine_tune: bool) -> Recipe:
    if name is not None and name not in card.recipes:
        known = ", ".join(card.recipes) or "none"
        raise UsageError(f"{card.name} has no recipe {name!r}{nearest(name, card.recipes)}; it has: {known}.")
    order = [f"{objective}-finetune", objective] if fine_tune else [objective, f"{objective}-finetune"]
    usable = card.recipes if fine_tune or name else card.offered
    found = [r for r in ([name] if name else order) if r in usable]
    if found:
        return card.recipes[found[0]]
    # An objective without a recipe of its own trains like the plain model.
    plain = card.recipes.get("conditional", Recipe(steps=100_000))
    return plain.model_copy(update={"objective": objective, "objective_options": {}})


def _meet_data(card: ModelCard, data: str | None) -> tuple[ModelCard, str, Source]:
    """The card fitted to the data (its classes; for the demonstration also its tokenizer and size), and the data."""
    from gftzoo.data import open_source
    from gftzoo.data.fingerprint import class_counts
    from gftzoo.data.sources import full_name

    if data is None and card.data is None:
        card = _demonstration_card(card)
    name = full_name(data if data is not None else str(card.data))
    source = open_source(name, split="train")
    if source.condition != card.condition:
        raise UsageError(
            f"{card.name} is conditioned on {card.condition} and data {name!r} offers {source.condition}; "
            "`gftzoo info` shows what a model needs."
        )
    card = card.model_copy(update={"data": source.origin})  # which is also what the run is scored against
    if card.condition == "text" or not source.class_names:  # a stream may not know its classes
        return card, name, source
    names = tuple(source.class_names)
    counts = () if source.streamed else class_counts(source)
    classes = {
        "classes": len(names),
        "class_names": names,
        "empty_classes": tuple(index for index, count in enumerate(counts) if not count),
    }
    return card.model_copy(update=classes), name, source


def _demonstration_card(card: ModelCard) -> ModelCard:
    """The full-size card on the tokenizer, resolution, text encoder and data of its family's nano model."""
    entry = catalogue().families.get(card.family)
    if entry is None or entry.nano not in catalogue().models:
        raise UsageError(f"{card.name} names no demonstration data; give --data SOURCE.")
    nano = get_card(entry.nano)
    small = {field: getattr(nano, field) for field in ("tokenizer", "resolution", "text_encoder", "sampler", "data")}
    return card.model_copy(update=small)


def _change_card(card: ModelCard, recipe: Recipe, options: Mapping[str, Any], objective: str) -> ModelCard:
    """The card with the recipe's and the user's network options, and a temperature input if the objective needs it."""
    network = {**card.network, **recipe.network, **_dotted(options, "network")}
    changes: dict[str, Any] = {"network": network, "temperature": find_objective(objective).temperature}
    if "tokenizer" in options:
        changes["tokenizer"] = get_tokenizer_spec(str(options["tokenizer"]))
    changes |= {name: options[name] for name in ("resolution", "text_encoder") if name in options}
    try:
        changed = card.change(**changes)
    except ValidationError as error:
        raise UsageError(validation_sentence(f"model {card.name}", error, ModelCard)) from error
    changed.network_options(load_family(changed.family).options().network)
    down = changed.tokenizer.downsample
    if changed.resolution < down or changed.resolution % down:
        raise UsageError(
            f"resolution {changed.resolution} is not a multiple of {down}, "
            f"the downsampling of tokenizer {changed.tokenizer.id!r}."
        )
    return changed


def _fields(recipe: Recipe, options: Mapping[str, Any], demonstration: bool) -> dict[str, Any]:
    shared = set(Recipe.model_fields) & set(TrainConfig.model_fields) - {"objective", "objective_options"}
    fields = {name: getattr(recipe, name) for name in shared}
    if demonstration:
        fields |= {"steps": DEMONSTRATION_STEPS, "batch_size": DEMONSTRATION_BATCH, "accumulate": 1}
        fields |= {"sample_grid": DEMONSTRATION_GRID}
    plain = {k: v for k, v in options.items() if "." not in k and k not in _CARD_OPTIONS}
    rate = recipe.learning_rate.model_dump() | _dotted(options, "learning_rate")
    fields |= {
        "learning_rate": rate,
        "lora": _dotted(options, "lora"),
        "objective_options": {**recipe.objective_options, **_dotted(options, "objective")},
    }
    return fields | plain


def _dotted(options: Mapping[str, Any], group: str) -> dict[str, Any]:
    prefix = f"{group}."
    return {key.removeprefix(prefix): value for key, value in options.items() if key.startswith(prefix)}
