"""How a recipe, the user's options and the data become the configuration of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gftzoo.catalogue.cards import ModelCard, Recipe, validation_sentence
from gftzoo.data import Source, open_source
from gftzoo.data.fingerprint import class_counts
from gftzoo.data.sources import full_name
from gftzoo.engine.config import TrainConfig
from gftzoo.engine.run.adapting import adapter_recipe, check_adapter
from gftzoo.engine.run.demonstration import demonstration_card, large_enough
from gftzoo.engine.run.job import Job
from gftzoo.engine.run.options import CARD_OPTIONS, dotted, suiting
from gftzoo.engine.run.wanted import Wanted
from gftzoo.errors import UsageError, nearest
from gftzoo.families.family import Family
from gftzoo.families.finding import load_family
from gftzoo.hub import address_of, local_copy
from gftzoo.loading.files import refuse_unknown
from gftzoo.objectives import find_objective, refuse_unfit
from gftzoo.systems import processors
from gftzoo.weights import Entry, own_weights
from gftzoo.zoo import get_card, get_tokenizer_spec

UNSEEN = "imagefolder:YOUR_DATA"  # in the place of data that is not named
MOST_WORKERS = 8  # that are taken without being asked for
DEMONSTRATION_STEPS = 10
DEMONSTRATION_BATCH = 8
DEMONSTRATION_GRID = (1, 2)  # a full-size network takes its time on a CPU


def resolve(
    model: str,
    *,
    objective: str = "gft",
    data: str | None = None,
    recipe: str | None = None,
    steps: int | None = None,
    horizon: int | None = None,
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
        horizon: steps over which learning rate and weight decay follow their curves; overrides the recipe's. None in
            both is the number of steps.
        weights: checkpoint name or file to start from.
        options: parsed `-o` pairs.

    Raises:
        UsageError: unknown model, recipe, option or value.
    """
    return plan(Wanted(model, objective, data, recipe, steps, horizon, weights, options or {})).config


def plan(wanted: Wanted) -> Job:
    """The run that is wanted, resolved, with family and data; raises as `resolve` does."""
    wanted = _said_once(wanted)
    options = _with_horizon(wanted)
    card = get_card(wanted.model)
    recipe = _recipe(card, wanted)
    family = load_family(card.family)
    recipe = adapter_recipe(card, family, recipe, wanted.objective, options, named=wanted.recipe is not None)
    unseen = wanted.unseen and wanted.data is None and card.data is None
    demonstration = wanted.data is None and card.data is None and not unseen
    if wanted.recipe is not None and demonstration and wanted.weights is None and recipe.init is not None:
        _refuse_without_weights(card, wanted.recipe, recipe.init)
    card, name, source = (card, UNSEEN, None) if unseen else _meet_data(card, wanted.data)
    card = _change_card(card, family, recipe, options, wanted.objective)
    if demonstration and "resolution" not in options:
        card = large_enough(card, family)
    if source is not None:
        source.check(card)
    workers = 0 if source is None else loading_processes(source)
    fields = {"workers": workers, **_fields(recipe, options, demonstration)}
    fields |= {"steps": wanted.steps} if wanted.steps is not None else {}
    start = _start(card, wanted, None if demonstration else recipe.init, fields.get("entry"))
    try:
        config = TrainConfig(
            model=wanted.model, card=card, data=name, objective=wanted.objective, weights=start, **fields
        )
    except ValidationError as error:
        raise UsageError(validation_sentence(f"training {wanted.model}", error, TrainConfig)) from error
    check_adapter(card, family, config.train, wanted.objective, start)
    _refuse_idle(options, config.train)
    job = Job(_with_length(config), family, source)
    refuse_unfit(job.objective, family, card, start)
    return job


def _refuse_idle(options: Mapping[str, Any], train: str) -> None:
    """UsageError for options of LoRA in a run that trains no factors, where they would change nothing."""
    idle = [name for name in options if name.startswith("lora.")]
    if idle and train != "lora":
        raise UsageError(f"{idle[0]} is of LoRA and this run has train={train}; add -o train=lora, or leave it out.")


def _said_once(wanted: Wanted) -> Wanted:
    """What options say of the fields of `Wanted` in their place; UsageError where both say something else."""
    options = dict(wanted.options)
    for name in ("data", "weights", "steps"):
        said = options.pop(name, None)
        given = getattr(wanted, name)
        if said is not None and given is not None and said != given:
            raise UsageError(f"--{name} {given} and -o {name}={said} contradict each other; give one.")
        wanted = replace(wanted, **{name: given if said is None else said})
    objective = options.pop("objective", wanted.objective)
    return replace(wanted, options=options, objective=objective)


def resolved(config: TrainConfig) -> Job:
    """The run of a whole configuration, e.g. of another run's file, checked as a new one is; raises as `plan` does."""
    family = load_family(config.card.family)
    config.card.network_options(family.options().network)
    check_adapter(config.card, family, config.train, config.objective, config.weights)
    if config.weights is not None:
        refuse_unknown(config.card, config.weights)
    job = Job(config, family)
    refuse_unfit(job.objective, family, config.card, config.weights)
    return job


def _with_horizon(wanted: Wanted) -> dict[str, Any]:
    """The options, `--horizon` among them; UsageError where both say something else."""
    options = dict(wanted.options)
    if wanted.horizon is not None and options.setdefault("learning_rate.horizon", wanted.horizon) != wanted.horizon:
        raise UsageError(f"--horizon {wanted.horizon} and -o learning_rate.horizon contradict each other; give one.")
    return options


def _with_length(config: TrainConfig) -> TrainConfig:
    """The configuration with a horizon: without one it is the run's length, and a longer resume does not bend it."""
    if config.learning_rate.horizon is not None:
        return config
    fixed = config.learning_rate.model_copy(update={"horizon": config.steps})
    return config.model_copy(update={"learning_rate": fixed, "horizon_is_length": True})


def _start(card: ModelCard, wanted: Wanted, init: str | None, entry: Entry | None) -> str | None:
    """The weights that the run starts from, as its configuration names them; UsageError where there are none such."""
    start = wanted.weights if wanted.weights is not None else init
    if start is None or start in card.checkpoints:
        return start
    if wanted.weights is None:
        raise UsageError(
            f"this recipe of {wanted.model} starts from {start!r}, which is not published; "
            "name weights with --weights PATH."
        )
    refuse_unknown(card, start)  # before anything is made
    address = address_of(start)
    if address is not None:
        copy = local_copy(address)
        own_weights(copy.folder, entry)
        return copy.pinned  # what is pushed there later is not these weights
    return str(own_weights(Path(start), entry) or start)  # a run's newest file may change, not this


def loading_processes(source: Source) -> int:
    """How many processes of a rank load data where nobody says: none for what lies in memory or in a cache.

    Pictures are decoded by as many as there are processors for, those of a stream by one: more would deal its shards
    in another way.
    """
    if not source.decodes:
        return 0
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return 1 if source.streamed else min(MOST_WORKERS, max(1, processors() // ranks))


def _recipe(card: ModelCard, wanted: Wanted) -> Recipe:
    """The recipe that is named, or the first that fits."""
    name, objective = wanted.recipe, wanted.objective
    if name is not None and name not in card.recipes:
        known = ", ".join(card.recipes) or "none"
        raise UsageError(f"{card.name} has no recipe {name!r}{nearest(name, card.recipes)}; it has: {known}.")
    order = [f"{objective}-finetune", objective] if wanted.fine_tunes else [objective, f"{objective}-finetune"]
    usable = card.recipes if wanted.fine_tunes or name else card.offered
    found = [r for r in ([name] if name else order) if r in usable]
    if found:
        return card.recipes[found[0]]
    # An objective without a recipe of its own trains like the plain model.
    plain = card.recipes.get("conditional", Recipe(steps=100_000))
    return plain.model_copy(update={"objective": objective, "objective_options": {}})


def _refuse_without_weights(card: ModelCard, recipe: str, init: str) -> None:
    """UsageError for a recipe that goes on from weights, asked for by name on data which those were not made for."""
    others = " or ".join(name for name, each in card.offered.items() if each.init is None)
    raise UsageError(
        f"recipe {recipe!r} of {card.name} starts from weights {init!r}, which do not fit the embedded demonstration; "
        f"give --data SOURCE to start from them, or --weights PATH{f', or --recipe {others}' if others else ''}."
    )


def _meet_data(card: ModelCard, data: str | None) -> tuple[ModelCard, str, Source]:
    """The card fitted to the data (its classes; for the demonstration also its tokenizer and size), and the data."""
    if data is None and card.data is None:
        card = demonstration_card(card)
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


def _change_card(
    card: ModelCard, family: Family, recipe: Recipe, options: Mapping[str, Any], objective: str
) -> ModelCard:
    """The card with the recipe's and the user's network options, and a temperature input if the objective needs it."""
    network = {**card.network, **recipe.network, **dotted(options, "network")}
    told = find_objective(objective).temperature and network.get("temperature_input") != "none"
    changes: dict[str, Any] = {"network": network, "temperature": told}
    if "tokenizer" in options:
        changes["tokenizer"] = get_tokenizer_spec(str(options["tokenizer"]))
    changes |= {name: options[name] for name in ("resolution", "text_encoder") if name in options}
    try:
        changed = card.change(**changes)
    except ValidationError as error:
        raise UsageError(validation_sentence(f"model {card.name}", error, ModelCard)) from error
    changed.network_options(family.options().network)
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
    options = {**suiting(options), **options}
    plain = {k: v for k, v in options.items() if "." not in k and k not in CARD_OPTIONS}
    fields["fits"] = tuple(name for name in TrainConfig.model_fields["fits"].default if name not in options)
    rate = recipe.learning_rate.model_dump() | dotted(options, "learning_rate")
    fields |= {
        "learning_rate": rate,
        "lora": dotted(options, "lora"),
        "optimizer": dotted(options, "optimizer"),
        "score": dotted(options, "score"),
        "objective_options": {**recipe.objective_options, **dotted(options, "objective")},
    }
    return fields | plain
