"""What `gftzoo train` does."""

from __future__ import annotations

from pathlib import Path, PurePath
from shlex import quote
from typing import Any

import click
from click.core import ParameterSource

from gftzoo import engine
from gftzoo.catalogue.cards import ModelCard
from gftzoo.cli.cost import show_cost
from gftzoo.cli.naming import named
from gftzoo.cli.ranks import first_rank, say
from gftzoo.data import Source, preflight
from gftzoo.data.preflight import colour_change
from gftzoo.engine import Job, TrainConfig, checkpoints
from gftzoo.engine.record.provenance import from_these_weights
from gftzoo.engine.record.samples import FINAL_PICTURE
from gftzoo.engine.step.schedule import same_until, with_horizon
from gftzoo.errors import UsageError
from gftzoo.zoo import get_card


def train(
    resume: Path | None,
    accept_changes: bool,
    dry_run: bool,
    steps: int | None,
    horizon: int | None,
    runs: Path,
    **wanted: Any,
) -> None:
    """A new run as it is wanted, or a resumed one, which takes nothing that would make it another."""
    if resume is not None:
        runs_named = click.get_current_context().get_parameter_source("runs") is not ParameterSource.DEFAULT
        if runs_named or any(wanted.values()):
            raise UsageError(own_configuration(resume, wanted["options"]))
        go_on(resume, steps, dry_run, horizon=horizon, accept_changes=accept_changes)
        return
    if accept_changes:
        raise UsageError("--accept-changes goes with --resume: a new run takes the data as it is.")
    begin(what_for(steps=steps, horizon=horizon, **wanted), runs, wanted["name"], dry_run)


def what_for(
    model: str | None,
    gft: bool,
    objective: str | None,
    data: str | None,
    background: str | None,
    allow_outside: bool,
    options: tuple[str, ...],
    name: str | None,
    **others: Any,
) -> engine.Wanted:
    """The run that the words of a command line want; UsageError where they contradict each other or say too little."""
    if model is None:
        raise UsageError("name a model to train, e.g. `gftzoo train dit-nano --gft`, or --resume a run.")
    if gft and objective not in (None, "gft"):
        raise UsageError(f"--gft and --objective {objective} contradict each other; give one.")
    if not gft and objective is None:
        raise UsageError(
            f"say what to train for: `gftzoo train {model} --gft`, or --objective conditional, cca or distill."
        )
    refuse_outside(name)
    data, parsed = named(data, background, allow_outside), engine.parse_options(options)
    return engine.Wanted(model, objective or "gft", data, options=parsed, **others)


def begin(wanted: engine.Wanted, runs: Path, name: str | None, dry_run: bool) -> None:
    """Trains a new run below the folder of all, or shows what that would cost."""
    job = engine.plan(wanted)
    run = runs / (name if name is not None else engine.unused_name(runs, f"{wanted.model}-{wanted.objective}"))
    announce(job, run, embedded=wanted.data is None)
    if dry_run:
        show_cost(job)
        return
    engine.train(job, run)
    finished(run, job.config)


def refuse_outside(name: str | None) -> None:
    """UsageError for the name of a run that names no folder below that of all runs."""
    if name is not None and (not (parts := PurePath(name).parts) or ".." in parts or PurePath(name).is_absolute()):
        raise UsageError(
            f"--name {name!r} names no folder below that of all runs; give a plain name, and their folder with --runs."
        )


def go_on(
    folder: Path,
    steps: int | None,
    dry_run: bool = False,
    *,
    horizon: int | None = None,
    accept_changes: bool = False,
) -> None:
    """Resumes a run, possibly for more or fewer steps, or shows what that would cost."""
    config = engine.TrainConfig.read(folder)
    found = checkpoints.newest(folder)
    done = checkpoints.read_state(found)["step"] if found else 0  # stopped before it had saved anything
    config = lengthened(config, folder, done, steps, horizon)
    if done > config.steps or (done == config.steps and (folder / FINAL_PICTURE).exists()):
        raise UsageError(f"{str(folder)!r} has finished {done} steps; go on with --steps N, N > {done}.")
    say(f"Resuming {folder} at step {done} of {config.steps}.", err=True)
    job = engine.Job(config)
    if dry_run:
        show_cost(job)
        return
    engine.train(job, folder, resume=True, accept_changes=accept_changes)
    finished(folder, config)


def lengthened(config: TrainConfig, folder: Path, done: int, steps: int | None, horizon: int | None) -> TrainConfig:
    """The configuration of a run for other steps, or another horizon where that changes nothing that is done.

    Says where the learning rate will not be that of a run of so many steps. UsageError for a horizon that the steps
    that are done did not have.
    """
    begun = config
    if steps is not None:
        config = type(config).model_validate({**config.model_dump(), "steps": steps})
    if horizon is not None:
        stretched = with_horizon(config, horizon)
        if not same_until(begun, stretched, done):
            raise UsageError(
                f"the {done} steps that are done did not have the learning rate of --horizon {horizon}; go on without "
                f"it, or train on from these weights in a run of its own: "
                f"{from_these_weights(config, folder, horizon=horizon)}."
            )
        return stretched
    length = config.learning_rate.horizon
    if config.horizon_is_length and not same_until(config, with_horizon(config, config.steps), config.steps):
        say(
            f"The learning rate follows the curve of the {length} steps for which the run was begun; a run of "
            f"{config.steps} steps has another, and other weights: one that is to get that long starts with "
            f"--horizon {config.steps}.",
            err=True,
        )
    return config


def own_configuration(folder: Path, options: tuple[str, ...]) -> str:
    """Why a resume takes no other settings, and how to train on from its weights with them."""
    config = TrainConfig.read(folder)
    return (
        "--resume goes on with the run's own configuration; only --steps, --horizon, --accept-changes and --dry-run "
        "may be given with it. For other settings start a new run from its weights: "
        f"{from_these_weights(config, folder, options)}."
    )


def announce(job: Job, run: Path, embedded: bool) -> None:
    """Says what is about to happen: model, objective, data with its preflight, folder."""
    if not first_rank():
        return  # nothing would be said, and to open and count the data takes its time

    config, card = job.config, job.config.card
    say(f"Training {config.model} ({config.objective}) for {config.steps} steps into {run}.", err=True)
    if embedded and get_card(config.model).data is None:
        say(
            f"No --data given: this is a short demonstration on the embedded {config.data!r}, with tokenizer "
            f"{card.tokenizer.id!r} at {card.resolution} px and {card.classes} classes; the network has its full size.",
            err=True,
        )
    say(preflight(job.source, card.resolution).sentence(), err=True)
    say_colour(job.source, card)


def say_colour(source: Source, card: ModelCard) -> None:
    """Says where a model's tokenizer takes colour from the data, or adds it, and how to keep what is there."""
    change = colour_change(source, card)
    if change is not None:
        say(change, err=True)


def finished(run: Path, config: TrainConfig) -> None:
    """Says where things are and what to do next."""
    found = checkpoints.newest(run)
    step = checkpoints.read_state(found)["step"] if found else 0
    if step < config.steps:
        say(f"Stopped at step {step}; go on with `gftzoo train --resume {quote(str(run))}`.", err=True)
        return
    steer = "--beta 0.5" if config.card.temperature else "--cfg 1.5"
    steer += " --prompt 'TEXT'" if config.card.condition == "text" else ""
    say(f"Done: {run}. Sample it with `gftzoo sample {quote(str(run))} {steer}`.", err=True)
