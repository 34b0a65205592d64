"""`gftzoo train`."""

from __future__ import annotations

from pathlib import Path

import click

from gftzoo.cli import limits
from gftzoo.cli.lazy import completes, does
from gftzoo.cli.options import data_options


@click.command("train")
@click.argument("model", required=False, shell_complete=completes("names"))
@click.option("--gft", is_flag=True, help="Train guidance-free; short for --objective gft.")
@click.option("--objective", help="gft, conditional, cca, distill, or a plugin's.")
@click.option(
    "--data", help="digits, fashion-mnist, emoji, imagefolder:, jsonl:, captions:, hf:, cache:, stream: (docs/data.md)."
)
@data_options
@click.option("--validation", help="Held out of the data, e.g. 5%, or a folder or source: its loss at checkpoints.")
@click.option("--recipe", help="A recipe of the model's card; see `gftzoo info`.")
@click.option("--weights", help="Start from a checkpoint of the card (base), a local file or a run: fine-tuning.")
@click.option("--steps", type=click.IntRange(min=1), help="Optimizer steps.")
@click.option(
    "--horizon",
    type=click.IntRange(min=1),
    help="Steps over which the learning rate follows its curve; default --steps.",
)
@click.option("-o", "options", multiple=True, metavar="KEY=VALUE", help="Any setting of the run; repeatable.")
@click.option("--config", type=click.Path(path_type=Path), help="A run's config.yaml, or fields of it; -o comes first.")
@click.option("--print-config", is_flag=True, help="Only print the whole configuration, as --config takes it.")
@click.option("--name", help="Name of the run; default MODEL-OBJECTIVE.")
@click.option("--runs", default="runs", type=click.Path(path_type=Path, file_okay=False), help="Folder of all runs.")
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    shell_complete=completes("runs"),
    help="Go on with a run's own configuration.",
)
@click.option("--accept-changes", is_flag=True, help="Resume although data or settings are not what they were.")
@click.option("--dry-run", is_flag=True, help="Only show parameters, FLOPs, and whether the run fits.")
@click.option("--measure", is_flag=True, help="With --dry-run: take a few steps to tell how long one takes.")
@click.option("--gpu", help="With --dry-run: plan for h100, h200, a100-80, a100-40, l40s, 4090, ... or GiB[,TFLOPS].")
@click.option("--gpus", type=click.IntRange(1, limits.MOST_GPUS), help="With --gpu: how many of them share the batch.")
@click.option("--price", type=limits.PRICE, help="With --gpu: what one costs for an hour.")
@click.option("--utilisation", type=limits.ShareOrRows(), help="With --gpu: share of its peak, or rows of it; 0.35.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="With --dry-run: write the configuration.")
@does("train:train")
def command() -> None:
    """Train MODEL. With nothing but --gft it runs on embedded real data, at the model's full size."""
