"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from gftzoo.catalogue.schedule import Schedule
from gftzoo.cli import limits

PRECISION = click.option(
    "--precision",
    type=click.Choice(["auto", "bf16", "fp16", "fp32"]),
    default="auto",
    help="Of network and tokenizer; auto is bf16 on a GPU that has it, else fp32.",
)
GUIDANCE = ("beta", "cfg", "schedule", "classifier", "classifier_scale")  # the names of `guidance_options`


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --background and --allow-outside."""
    options = [
        click.option("--background", help="Colour behind transparent pictures: a name or RRGGBB; white."),
        click.option("--allow-outside", is_flag=True, help="Read files that the data names outside its own folder."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def guidance_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how sampling is steered."""
    options = [
        click.option("--beta", type=float, help="Sampling temperature of a GFT model, in (0, 1]."),
        click.option("--cfg", type=float, help="CFG scale of a plain model; 1 is unguided."),
        click.option(
            "--schedule", type=click.Choice(get_args(Schedule)), help="Ramp of the guidance over the sampling."
        ),
        click.option(
            "--classifier", type=click.Path(path_type=Path), help="A noisy classifier's file, of ADM's models."
        ),
        click.option("--classifier-scale", type=float, help="What its gradient is multiplied with; 1 without it."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of everything that samples a model: which weights, which sampler, which device."""
    options = [
        click.option("--weights", help="For a model's name: a checkpoint of its card (base, gft) or a local file."),
        click.option("--adapter", help="An adapter's file or run, put on these weights (or on its own base)."),
        click.option("--entry", type=click.Choice(["raw", "ema"]), help="Which weights, of both (default ema)."),
        click.option("--steps", type=limits.STEPS, help="Sampling steps."),
        click.option("--sampler", help="The family's sampler, e.g. ddpm, ddim, dpm-solver++."),
        click.option("-s", "settings", multiple=True, metavar="KEY=VALUE", help="A sampler setting of `gftzoo info`."),
        click.option(
            "--seed", default=0, type=limits.SEED, help="Image i is a function of (seed, i), whatever the batch size."
        ),
        click.option(
            "--batch-size", type=limits.BATCH, help="Images per forward pass; default what fits, to 64 (GPU: 256)."
        ),
        click.option("--tokenizer-path", help="Local folder or file with the tokenizer's weights."),
        click.option("--device", default="auto", help="auto, cpu, cuda, ..."),
        PRECISION,
        click.option("--compile", is_flag=True, help="torch.compile: a minute or more at first, then faster."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def protocol_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how images are scored."""
    options = [
        click.option("--protocol", default="embedded", help="embedded (no network, no files), adm or coco."),
        click.option("--data", help="Data source whose held-out split is the reference; default the model's own."),
        click.option("--features", help="Feature network: inception, efflite0, embedded:SOURCE."),
        click.option("--feature-weights", type=click.Path(path_type=Path), help="Its local weights."),
        click.option("--reference", help="ADM .npz, a folder of images, data:SOURCE or all:SOURCE (held out, or all)."),
        click.option("-n", "images", type=limits.SCORED_IMAGES, help="Number of images."),
        click.option("--prompt-encoder", help="Folder of a CLIP model: adds CLIP score and prompt agreement."),
        click.option("--few", is_flag=True, help="Score fewer images than the statistics need, knowing it."),
    ]
    for option in reversed(options):
        command = option(command)
    return data_options(command)
