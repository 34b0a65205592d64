"""`gftzoo train`."""

from __future__ import annotations

from pathlib import Path

import click

from gftzoo.cli.completing import names, runs
from gftzoo.cli.lazy import does
from gftzoo.cli.options import data_options


@click.command("train")
@click.argument("model", required=False, shell_complete=names)
@click.option("--gft", is_flag=True, help="Train guidance-free; short for --objective gft.")
@click.option("--objective", help="gft, conditional, cca, distill, or a plugin's.")
@click.option("--data", help="digits, fashion-mnist, emoji, imagefolder:, jsonl:, hf:, cache:, stream: (docs/data.md).")
@data_options
@click.option("--recipe", help="A recipe of the model's card; see `gftzoo info`.")
@click.option("--weights", help="Start from a checkpoint of the card (base), a local file or a run: fine-tuning.")
@click.option("--steps", type=click.IntRange(min=1), help="Optimizer steps.")
@click.option(
    "--horizon",
    type=click.IntRange(min=1),
    help="Steps over which the learning rate follows its curve; default --steps.",
)
@click.option("-o", "options", multiple=True, metavar="KEY=VALUE", help="Any setting of the run; repeatable.")
@click.option("--name", help="Name of the run; default MODEL-OBJECTIVE.")
@click.option("--runs", default="runs", type=click.Path(path_type=Path, file_okay=False), help="Folder of all runs.")
@click.option(
    "--resume", type=click.Path(path_type=Path), shell_complete=runs, help="Go on with a run's own configuration."
)
@click.option("--accept-changes", is_flag=True, help="Resume although data or settings are not what they were.")
@click.option("--dry-run", is_flag=True, help="Only show parameters, FLOPs, memory and the resolved configuration.")
@click.option("--measure", is_flag=True, help="With --dry-run: take a few steps to tell how long one takes.")
@does("train:train")
def command() -> None:
    """Train MODEL. With nothing but --gft it runs on embedded real data, at the model's full size."""
