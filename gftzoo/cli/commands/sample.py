"""`gftzoo sample`."""

from __future__ import annotations

from pathlib import Path

import click

from gftzoo.cli import limits
from gftzoo.cli.lazy import completes, does
from gftzoo.cli.options import guidance_options, model_options


@click.command("sample")
@click.argument("model", shell_complete=completes("names_and_runs"))
@guidance_options
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
