"""What `gftzoo train` does: here what is wanted, without torch; the rest is imported when that is sound."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

import click
from click.core import ParameterSource

from gftzoo import engine
from gftzoo.cli.naming import named
from gftzoo.engine.run.wanted import Wanted
from gftzoo.errors import UsageError


def train(
    resume: Path | None,
    accept_changes: bool,
    dry_run: bool,
    measure: bool,
    steps: int | None,
    horizon: int | None,
    runs: Path,
    **wanted: Any,
) -> None:
    """A new run as it is wanted, or a resumed one, which takes nothing that would make it another."""
    if measure and not dry_run:
        raise UsageError("--measure goes with --dry-run: a run tells its pace as it goes.")
    if accept_changes and resume is None:
        raise UsageError("--accept-changes goes with --resume: a new run takes the data as it is.")
    new = what_for(steps=steps, horizon=horizon, **wanted) if resume is None else None
    from gftzoo.cli import running  # with torch, for what is sound so far

    if resume is None:
        assert new is not None
        running.begin(new, runs, wanted["name"], dry_run, measure)
        return
    runs_named = click.get_current_context().get_parameter_source("runs") is not ParameterSource.DEFAULT
    if runs_named or any(wanted.values()):
        raise UsageError(running.own_configuration(resume, wanted["options"]))
    running.go_on(resume, steps, dry_run, measure=measure, horizon=horizon, accept_changes=accept_changes)


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
) -> Wanted:
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
    return Wanted(model, objective or "gft", data, options=parsed, **others)


def refuse_outside(name: str | None) -> None:
    """UsageError for the name of a run that names no folder below that of all runs."""
    if name is not None and (not (parts := PurePath(name).parts) or ".." in parts or PurePath(name).is_absolute()):
        raise UsageError(
            f"--name {name!r} names no folder below that of all runs; give a plain name, and their folder with --runs."
        )
