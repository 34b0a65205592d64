"""Runs that train an adapter: their recipe and what they need, before there is a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gftzoo.adapters import Adapter, Base, Way, base_hash, freeze, slope_shape
from gftzoo.adapters.quantising import refuse_without_package
from gftzoo.catalogue.cards import ModelCard, Recipe
from gftzoo.contract.objective import Objective
from gftzoo.engine.config import TrainConfig
from gftzoo.engine.parallel.place import Place
from gftzoo.engine.run.job import Job
from gftzoo.errors import UsageError
from gftzoo.families.family import Family
from gftzoo.gft import GFTOptions
from gftzoo.group import rank_and_world
from gftzoo.hub import address_of
from gftzoo.layers.temperature import TemperatureOptions
from gftzoo.loading.adapted import find_base, is_adapter, refuse_other_base
from gftzoo.loading.files import locate
from gftzoo.model import Model
from gftzoo.objectives import find_objective
from gftzoo.weights import read_card, read_tensors

RECIPE = "adapter"
FASTER = 3.0  # a slope starts at zero on features that stay as they are: it takes a higher rate than a fine-tune


def adapter_recipe(
    card: ModelCard,
    family: Family,
    recipe: Recipe,
    objective: str,
    options: Mapping[str, Any],
    named: bool = False,
) -> Recipe:
    """The recipe of a run, for `train=temperature` that of an adapter, with the network options of its slope.

    Args:
        card: fitted to the data or not.
        family: of the card.
        recipe: what a run without adapter would take, or the one that was asked for.
        objective: what it trains for.
        options: the user's, which come before the recipe's.
        named: whether the recipe was asked for by its name.

    Raises:
        UsageError: a temperature input that a frozen network cannot learn.
    """
    if options.get("train", recipe.train) != "temperature":
        return recipe
    chosen = options.get("network.temperature_input", "affine")
    if chosen != "affine":
        raise UsageError(
            f"train=temperature needs network.temperature_input=affine and not {chosen!r}: an embedding enters in "
            "front of layers that stay as they are; leave the option out, or train with -o train=lora or all."
        )
    if not named:
        recipe = card.recipes.get(RECIPE) or derived(recipe, objective)
    return recipe.model_copy(
        update={"train": "temperature", "network": {**slope_shape(card, family), **recipe.network}}
    )


def derived(recipe: Recipe, objective: str) -> Recipe:
    """A fine-tuning recipe as one for a slope: every temperature, no condition dropped, no decay, a higher rate."""
    own = {"p_drop": 0.0, "beta_min": 0.0, "beta_max": 1.0} if objective == "gft" else recipe.objective_options
    return recipe.model_copy(
        update={"objective_options": own, "network": {}, "lr": FASTER * recipe.lr, "weight_decay": 0.0}
    )


def in_way(job: Job, way: Way) -> Job | None:
    """The run on the same batch with another part of the network training; None where it cannot be."""
    config, card = job.config, job.config.card
    if way == config.train:
        return job
    affine = issubclass(job.family.options().network, TemperatureOptions)
    if way == "temperature" and not (affine and card.temperature):
        return None
    shape = slope_shape(card, job.family) if affine else {}
    network = {key: value for key, value in card.network.items() if config.train != "temperature" or key not in shape}
    network |= shape if way == "temperature" else {}
    return job.changed(train=way, card=card.change(network=network))


def holds_adapter(start: Path) -> bool:
    """Whether a run would start from an adapter alone: its folder, or the file in one of its checkpoints."""
    own_file = start.name in ("raw.safetensors", "ema.safetensors")
    return is_adapter(start if start.is_dir() else start.parent) if start.is_dir() or own_file else False


def check_adapter(card: ModelCard, family: Family, way: Way, objective: str, start: str | None) -> None:
    """UsageError for an adapter that has nothing to stand on, or no temperature to learn."""
    if start is not None and holds_adapter(Path(start)):
        raise UsageError(
            f"{start!r} is an adapter and no whole model; write one with `gftzoo export {start} OUT --to safetensors` "
            "and start from OUT."
        )
    if way == "all":
        return
    if start is None:
        names = " or ".join(f"--weights {name}" for name in card.checkpoints) or "--weights RUN_OR_FILE"
        raise UsageError(f"train={way} trains a little on weights that stay as they are; give them with {names}.")
    if way == "temperature" and not find_objective(objective).temperature:
        raise UsageError(
            f"train=temperature trains the slope of a temperature and objective {objective} has none; use --gft, or "
            "-o train=lora."
        )
    if way == "temperature" and not issubclass(family.options().network, TemperatureOptions):
        raise UsageError(
            f"family {card.family!r} has no affine temperature (network.temperature_input), which train=temperature "
            "trains; use -o train=lora."
        )


def refuse_half_base(job: Job, place: Place) -> None:
    """UsageError for a frozen base in less than fp32 where that cannot be: by precision, package or ranks."""
    config = job.config
    if not config.halves_base:
        return
    refuse_without_package(config.lora.base)
    if config.quantises_base and rank_and_world()[1] > 1:
        raise UsageError(f"lora.base={config.lora.base} is of one device; take lora.base=half on several ranks.")
    if place.half is None and not config.quantises_base:
        raise UsageError(
            "lora.base=half keeps frozen weights in the precision that a step computes in, and this run computes in "
            "fp32; add -o precision=bf16, or leave it out."
        )
    if config.parallel == "fsdp":
        raise UsageError(
            f"lora.base={config.lora.base} keeps two precisions in a block, which fsdp does not shard; use ddp or "
            "leave it out."
        )


def adapted(model: Model, job: Job) -> Model:
    """The model at the first step of a run, with what does not train frozen and a record of its base; in place.

    Raises UsageError for a base that knows other classes than the data has.
    """
    config = job.config
    if config.train == "all":
        return model
    freeze(model, config.train, config.lora)
    if config.weights is not None:  # a trial of a few steps has none
        refuse_other_classes(model, config)
        adapter = record(model, config, job.objective)
        model.provenance["adapter"] = adapter.model_dump(mode="json")
    return model


def record(model: Model, config: TrainConfig, objective: Objective) -> Adapter:
    """What is known of the adapter that the run trains on the frozen model."""
    assert config.train != "all" and config.weights is not None
    options = objective.options
    drawn = (options.beta_min, options.beta_max) if isinstance(options, GFTOptions) else None
    named = config.weights in model.card.checkpoints or address_of(config.weights) is not None
    base = Base(
        weights=config.weights if named else str(Path(config.weights).resolve()),
        entry=config.entry,
        sha256=base_hash(model.network),
    )
    lora = config.lora if config.train == "lora" else None
    return Adapter(way=config.train, objective=config.objective, beta=drawn, base=base, lora=lora)


def refuse_other_classes(model: Model, config: TrainConfig) -> None:
    """UsageError where the base's table of classes had to be replaced: frozen, it would never know the new ones."""
    path = locate(config.card, str(config.weights), family=model.family).path
    found = read_tensors(path, config.entry).tensors
    for name, value in model.network.state_dict().items():
        base = found.get(name, value)
        if value.ndim == 2 and len(value) - config.card.classes in (0, 1) and len(base) != len(value):
            raise UsageError(
                f"the base {config.weights!r} knows {len(base) - len(value) + config.card.classes} classes and the "
                f"data has {config.card.classes}: frozen, it would learn none of them; train on its own data, or the "
                "whole model first with -o train=all."
            )


def refuse_lost_base(job: Job, resume_from: Path) -> None:
    """GftzooError if the weights under an adapter that is to go on training are gone."""
    if job.config.train != "all":
        find_base(_adapter_in(resume_from), job.config.card, str(resume_from), job.family)


def refuse_changed_base(model: Model, config: TrainConfig, resume_from: Path) -> None:
    """GftzooError with both hashes if the weights under an adapter that goes on training are no longer the same."""
    if config.train != "all":
        refuse_other_base(model, _adapter_in(resume_from), str(resume_from), str(config.weights))


def _adapter_in(folder: Path) -> Adapter:
    return Adapter.model_validate(read_card(folder)[1]["adapter"])
