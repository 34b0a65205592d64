"""`gftzoo sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from gftzoo.catalogue.schedule import Schedule
from gftzoo.cli.lazy import completes, does
from gftzoo.cli.options import model_options, protocol_options


@click.command("sweep")
@click.argument("models", nargs=-1, required=True, shell_complete=completes("names_and_runs"))
@click.option("--beta", "betas", help="Temperatures: 1:0.2:9 is nine values from 1 to 0.2; 1,0.8,0.5 is those.")
@click.option("--cfg", "scales", help="CFG scales, written the same way.")
@click.option("--schedule", type=click.Choice(get_args(Schedule)), help="Ramp of the guidance over the sampling.")
@model_options
@protocol_options
@click.option("--out", default="sweep", type=click.Path(path_type=Path, file_okay=False), help="Folder of the results.")
@does("sweep:sweep_models")
def command() -> None:
    """Draw the diversity-fidelity curve of one or more MODELS (runs) over beta or CFG: CSV, plot and picture strips.

    With --beta and --cfg together, GFT runs take the temperatures and plain runs the scales, in one figure.
    """
