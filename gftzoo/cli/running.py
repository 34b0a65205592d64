"""What `gftzoo train` does once it is clear what is wanted: a new run, or one that goes on."""

from __future__ import annotations

from pathlib import Path

from gftzoo import engine
from gftzoo.cli.cost import show_cost
from gftzoo.cli.ranks import say
from gftzoo.cli.telling import announce, finished
from gftzoo.engine import TrainConfig, checkpoints
from gftzoo.engine.record.folder import FINAL_PICTURE
from gftzoo.engine.record.provenance import from_these_weights
from gftzoo.engine.run.wanted import Wanted
from gftzoo.engine.step.schedule import same_until, with_horizon
from gftzoo.errors import UsageError


def begin(wanted: Wanted, runs: Path, name: str | None, dry_run: bool, measure: bool = False) -> None:
    """Trains a new run below the folder of all, or shows what that would cost."""
    job = engine.plan(wanted)
    run = runs / (name if name is not None else engine.unused_name(runs, f"{wanted.model}-{wanted.objective}"))
    announce(job, run, embedded=wanted.data is None)
    if dry_run:
        show_cost(job, measure)
        return
    engine.train(job, run)
    finished(run, job.config)


def go_on(
    folder: Path,
    steps: int | None,
    dry_run: bool = False,
    *,
    measure: bool = False,
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
        show_cost(job, measure)
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
        "--resume goes on with the run's own configuration; only --steps, --horizon, --accept-changes, --dry-run "
        "and --measure may be given with it. For other settings start a new run from its weights: "
        f"{from_these_weights(config, folder, options)}."
    )
