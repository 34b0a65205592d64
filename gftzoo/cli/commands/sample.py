"""`gftzoo sample`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from gftzoo.catalogue.cards import Schedule
from gftzoo.cli import limits
from gftzoo.cli.completing import names_and_runs
from gftzoo.cli.lazy import does
from gftzoo.cli.options import model_options


@click.command("sample")
@click.argument("model", shell_complete=names_and_runs)
@click.option("--beta", type=float, help="Sampling temperature of a GFT model, in (0, 1].")
@click.option("--cfg", type=float, help="CFG scale of a plain model; 1 is unguided.")
@click.option("--schedule", type=click.Choice(get_args(Schedule)), help="Ramp of the guidance over the sampling.")
@click.option(
    "--class",
    "classes",
    help="Classes by name or index, comma-separated; by name alone where names are numbers. Default all in turn.",
)
@click.option("--prompt", "prompts", multiple=True, help="A prompt; repeatable.")
@click.option("--prompts", "prompt_file", type=click.Path(path_type=Path), help="A file with one prompt per line.")
@click.option("-n", "count", type=limits.IMAGES, help="Number of images.")
@model_options
@click.option("--out", default="samples.png", type=click.Path(path_type=Path), help="A .png, an .npz, or a folder.")
@click.option("--each", is_flag=True, help="Beside a .png a folder of its name, with a file for each image.")
@does("sample:sample")
def command() -> None:
    """Draw images from MODEL, a model's name with --weights or a run's folder."""
