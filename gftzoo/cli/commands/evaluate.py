"""`gftzoo evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from gftzoo.catalogue.cards import Schedule
from gftzoo.cli.completing import names_and_runs
from gftzoo.cli.lazy import does
from gftzoo.cli.options import model_options, protocol_options


@click.command("evaluate")
@click.argument("subject", shell_complete=names_and_runs)
@click.option("--beta", type=float, help="Sampling temperature of a GFT model, in (0, 1].")
@click.option("--cfg", type=float, help="CFG scale of a plain model; 1 is unguided.")
@click.option("--schedule", type=click.Choice(get_args(Schedule)), help="Ramp of the guidance over the sampling.")
@model_options
@protocol_options
@click.option("--out", type=click.Path(path_type=Path), help="Also write the score record, a .json.")
@does("evaluate:evaluate")
def command() -> None:
    """Score SUBJECT: a run, a model's name with --weights, a folder of images or an .npz."""
