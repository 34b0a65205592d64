"""What `gftzoo train` does: here what is wanted, without torch; the rest is imported when that is sound."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

import click
from click.core import ParameterSource

from gftzoo import engine
from gftzoo.cli.dry import Dry, Machine
from gftzoo.cli.naming import named, validated
from gftzoo.engine.config import TrainConfig
from gftzoo.engine.parallel.gpus import find_gpu
from gftzoo.engine.run.wanted import Wanted
from gftzoo.engine.run.written import overridden, read_run
from gftzoo.errors import UsageError


def train(
    resume: Path | None,
    accept_changes: bool,
    steps: int | None,
    horizon: int | None,
    runs: Path,
    **wanted: Any,
) -> None:
    """A new run as it is wanted, or a resumed one, which takes nothing that would make it another."""
    machine = {name: wanted.pop(name) for name in ("gpu", "gpus", "price", "utilisation")}
    dry = Dry(wanted.pop("dry_run"), wanted.pop("measure"), wanted.pop("out"), asked_machine(**machine))
    refuse_without_dry_run(dry, machine)
    if accept_changes and resume is None:
        raise UsageError("--accept-changes goes with --resume: a new run takes the data as it is.")
    unseen, config, printed = dry.machine is not None, wanted.pop("config"), wanted.pop("print_config")
    new: Wanted | TrainConfig | None = None
    if resume is None:
        new = what_for(config, steps=steps, horizon=horizon, unseen=unseen, **wanted)
    from gftzoo.cli import running  # with torch, for what is sound so far

    if new is not None and printed:
        running.print_config(new)
        return
    if new is not None:
        running.begin(new, runs, wanted["name"], dry)
        return
    assert resume is not None
    runs_named = click.get_current_context().get_parameter_source("runs") is not ParameterSource.DEFAULT
    if runs_named or config is not None or printed or any(wanted.values()):
        raise UsageError(running.own_configuration(resume, wanted["options"]))
    running.go_on(resume, steps, dry, horizon=horizon, accept_changes=accept_changes)


def asked_machine(
    gpu: str | None, gpus: int | None, price: float | None, utilisation: float | Path | None
) -> Machine | None:
    """The machine that a plan is for; None for this one."""
    if gpu is None:
        return None
    return Machine(find_gpu(gpu), gpus or 1, price, utilisation)


def refuse_without_dry_run(dry: Dry, machine: dict[str, Any]) -> None:
    """UsageError for options that go with others which are not there."""
    if dry.measure and not dry.wanted:
        raise UsageError("--measure goes with --dry-run: a run tells its pace as it goes.")
    if dry.out is not None and not dry.wanted:
        raise UsageError("--out goes with --dry-run: a run has its configuration in its own folder.")
    if dry.machine is not None and not dry.wanted:
        raise UsageError("--gpu goes with --dry-run: a run trains on the device that is here (-o device=).")
    if dry.machine is not None and dry.measure:
        raise UsageError("--gpu and --measure contradict each other: what is not here cannot be measured.")
    others = [f"--{name}" for name, value in machine.items() if value is not None and name != "gpu"]
    if dry.machine is None and others:
        raise UsageError(f"{others[0]} goes with --gpu NAME, the machine that is planned for.")


def what_for(
    config: Path | None,
    model: str | None,
    gft: bool,
    objective: str | None,
    data: str | None,
    background: str | None,
    allow_outside: bool,
    validation: str | None,
    options: tuple[str, ...],
    name: str | None,
    **others: Any,
) -> Wanted | TrainConfig:
    """The run that the words of a command line want; UsageError where they contradict each other or say too little."""
    parsed = engine.parse_options(options)
    refuse_outside(name)
    if config is not None:
        data = data or background or ("--allow-outside" if allow_outside else None)
        refuse_beside_a_file(model=model, gft=gft, objective=objective, data=data, validation=validation, **others)
        return overridden(read_run(config), parsed, others["steps"], others["horizon"])
    if model is None:
        raise UsageError("name a model to train, e.g. `gftzoo train dit-nano --gft`, or --resume a run.")
    refuse_two_objectives(gft, objective, parsed.get("objective"))
    if not gft and objective is None and "objective" not in parsed:
        raise UsageError(
            f"say what to train for: `gftzoo train {model} --gft`, or --objective conditional, cca or distill."
        )
    data = named(data, background, allow_outside)
    data, parsed = validated(data, validation, parsed)
    return Wanted(model, objective or parsed.get("objective", "gft"), data, options=parsed, **others)


def refuse_beside_a_file(**said: Any) -> None:
    """UsageError for what says again what a configuration file says."""
    free = ("steps", "horizon", "unseen")
    again = next((key for key, value in said.items() if value and key not in free), None)
    if again is not None:
        word = "MODEL" if again == "model" else f"--{again}"
        raise UsageError(f"--config has it all; leave {word} out and change the file, or give -o KEY=VALUE beside it.")


def refuse_two_objectives(gft: bool, *named: str | None) -> None:
    """UsageError for objectives that contradict each other."""
    said = {*(["gft"] if gft else []), *(name for name in named if name is not None)}
    if len(said) > 1:
        words = "--gft and --objective " if gft else "--objective "
        raise UsageError(
            f"{words}{' and '.join(sorted(said - ({'gft'} if gft else set())))} contradict each other; give one."
        )


def refuse_outside(name: str | None) -> None:
    """UsageError for the name of a run that names no folder below that of all runs."""
    if name is not None and (not (parts := PurePath(name).parts) or ".." in parts or PurePath(name).is_absolute()):
        raise UsageError(
            f"--name {name!r} names no folder below that of all runs; give a plain name, and their folder with --runs."
        )
