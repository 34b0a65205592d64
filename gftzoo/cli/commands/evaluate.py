"""`gftzoo evaluate`."""

from __future__ import annotations

from pathlib import Path

import click

from gftzoo.cli.lazy import completes, does
from gftzoo.cli.options import guidance_options, model_options, protocol_options


@click.command("evaluate")
@click.argument("subject", shell_complete=completes("names_and_runs"))
@guidance_options
@model_options
@protocol_options
@click.option("--out", type=click.Path(path_type=Path), help="Also write the score record, a .json.")
@does("evaluate:evaluate")
def command() -> None:
    """Score SUBJECT: a run, a model's name with --weights, a folder of images or an .npz."""
