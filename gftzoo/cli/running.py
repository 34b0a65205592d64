"""What `gftzoo train` does once it is clear what is wanted: a new run, or one that goes on."""

from __future__ import annotations

from pathlib import Path

from gftzoo import engine
from gftzoo.cli.cost import show_cost
from gftzoo.cli.dry import TRAINS, Dry
from gftzoo.cli.outlook import show_outlook
from gftzoo.cli.ranks import say
from gftzoo.cli.telling import announce, finished
from gftzoo.engine import Job, TrainConfig, checkpoints
from gftzoo.engine.record.folder import FINAL_PICTURE
from gftzoo.engine.record.provenance import from_these_weights
from gftzoo.engine.run.wanted import Wanted
from gftzoo.engine.step.schedule import same_until, with_horizon
from gftzoo.errors import UsageError


def job_of(wanted: Wanted | TrainConfig) -> Job:
    """The run that is wanted, or that a whole configuration describes."""
    return engine.resolved(wanted) if isinstance(wanted, TrainConfig) else engine.plan(wanted)


def print_config(wanted: Wanted | TrainConfig) -> None:
    """Prints the whole configuration of a run, as `--config` takes it, and nothing else."""
    say(job_of(wanted).config.as_yaml().rstrip())


def begin(wanted: Wanted | TrainConfig, runs: Path, name: str | None, dry: Dry = TRAINS) -> None:
    """Trains a new run below the folder of all, or shows what that would cost."""
    job = job_of(wanted)
    if dry.machine is not None:
        show_dry(job, dry)
        return
    run = runs / (name if name is not None else engine.unused_name(runs, f"{wanted.model}-{wanted.objective}"))
    announce(job, run, embedded=isinstance(wanted, Wanted) and "data" not in wanted.options and wanted.data is None)
    if dry.wanted:
        show_dry(job, dry)
        return
    engine.train(job, run)
    finished(run, job.config)


def go_on(
    folder: Path,
    steps: int | None,
    dry: Dry = TRAINS,
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
    if dry.wanted:
        show_dry(job, dry)
        return
    engine.train(job, folder, resume=True, accept_changes=accept_changes)
    finished(folder, config)


def show_dry(job: Job, dry: Dry) -> None:
    """Shows what a run would cost, here or on a machine that is elsewhere, and writes its configuration."""
    if dry.machine is None:
        show_cost(job, dry.measure)
    else:
        show_outlook(job, dry.machine)
    if dry.out is not None:
        job.config.write_to(dry.out)
        say(f"The configuration is in {dry.out}.", err=True)


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
