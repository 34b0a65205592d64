"""`gftzoo train`."""

from __future__ import annotations

import os
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click
import yaml
from click.core import ParameterSource

from gftzoo.cli.data_options import data_options, named
from gftzoo.errors import UsageError

if TYPE_CHECKING:
    import torch

    from gftzoo.data import Source
    from gftzoo.engine import TrainConfig
    from gftzoo.engine.estimate import Cost
    from gftzoo.zoo import ModelCard


@click.command("train")
@click.argument("model", required=False)
@click.option("--gft", is_flag=True, help="Train guidance-free; short for --objective gft.")
@click.option("--objective", help="gft, conditional, cca, distill, or a plugin's.")
@click.option("--data", help="digits, fashion-mnist, emoji, imagefolder:, jsonl:, hf:, cache:, stream: (docs/data.md).")
@data_options
@click.option("--recipe", help="A recipe of the model's card; see `gftzoo info`.")
@click.option("--weights", help="Start from a checkpoint of the card (base), a local file or a run: fine-tuning.")
@click.option("--steps", type=click.IntRange(min=1), help="Optimizer steps.")
@click.option("-o", "options", multiple=True, metavar="KEY=VALUE", help="Any setting of the run; repeatable.")
@click.option("--name", help="Name of the run; default MODEL-OBJECTIVE.")
@click.option("--runs", default="runs", type=click.Path(path_type=Path, file_okay=False), help="Folder of all runs.")
@click.option("--resume", type=click.Path(path_type=Path), help="Go on with a run's own configuration.")
@click.option("--dry-run", is_flag=True, help="Only show parameters, FLOPs, memory and the resolved configuration.")
def train_command(
    model: str | None,
    gft: bool,
    objective: str | None,
    data: str | None,
    background: str | None,
    allow_outside: bool,
    recipe: str | None,
    weights: str | None,
    steps: int | None,
    options: tuple[str, ...],
    name: str | None,
    runs: Path,
    resume: Path | None,
    dry_run: bool,
) -> None:
    """Train MODEL. With nothing but --gft it runs on embedded real data, at the model's full size."""
    if resume is not None:
        elsewhere = click.get_current_context().get_parameter_source("runs") is not ParameterSource.DEFAULT
        of_data = data is not None or background is not None or allow_outside
        if model or gft or objective or of_data or recipe or weights or options or name or elsewhere:
            raise UsageError(
                "--resume goes on with the run's own configuration; only --steps and --dry-run may be given with it."
            )
        go_on(resume, steps, dry_run)
        return
    if model is None:
        raise UsageError("name a model to train, e.g. `gftzoo train dit-nano --gft`, or --resume a run.")
    if gft and objective not in (None, "gft"):
        raise UsageError(f"--gft and --objective {objective} contradict each other; give one.")
    if not gft and objective is None:
        raise UsageError(
            f"say what to train for: `gftzoo train {model} --gft`, or --objective conditional, cca or distill."
        )
    from gftzoo import engine

    config = engine.resolve(
        model,
        objective=objective or "gft",
        data=named(data, background, allow_outside),
        recipe=recipe,
        steps=steps,
        weights=weights,
        options=engine.parse_options(options),
    )
    run = runs / (name or engine.unused_name(runs, f"{model}-{config.objective}"))
    announce(config, run, embedded=data is None)
    if dry_run:
        show_cost(config)
        return
    engine.train(config, run)
    finished(run, config)


def say(text: str, err: bool = False) -> None:
    """Prints once, however many ranks there are."""
    if os.environ.get("RANK", "0") == "0":
        click.echo(text, err=err)


def go_on(folder: Path, steps: int | None, dry_run: bool = False) -> None:
    """Resumes a run, possibly for more steps, or shows what that would cost."""
    from gftzoo import engine
    from gftzoo.engine import checkpoint

    config = engine.TrainConfig.read(folder)
    found = checkpoint.newest(folder)
    if steps is not None:
        config = config.model_copy(update={"steps": steps})
    done = checkpoint.read_state(found)["step"] if found else 0  # stopped before it had saved anything
    if done >= config.steps:
        raise UsageError(f"{str(folder)!r} has finished {done} steps; go on with --steps N, N > {done}.")
    say(f"Resuming {folder} at step {done} of {config.steps}.", err=True)
    if dry_run:
        show_cost(config)
        return
    engine.train(config, folder, resume=True)
    finished(folder, config)


def announce(config: TrainConfig, run: Path, embedded: bool) -> None:
    """Says what is about to happen: model, objective, data with its preflight, folder."""
    if os.environ.get("RANK", "0") != "0":
        return  # nothing would be said, and to open and count the data takes its time
    from gftzoo.data import open_source, preflight
    from gftzoo.zoo import get_card

    card = config.card
    say(f"Training {config.model} ({config.objective}) for {config.steps} steps into {run}.", err=True)
    if embedded and get_card(config.model).data is None:
        say(
            f"No --data given: this is a short demonstration on the embedded {config.data!r}, with tokenizer "
            f"{card.tokenizer.id!r} at {card.resolution} px and {card.classes} classes; the network has its full size.",
            err=True,
        )
    source = open_source(config.data, split="train")
    say(preflight(source, card.resolution).sentence(), err=True)
    say_colour(source, card)


def say_colour(source: Source, card: ModelCard) -> None:
    """Says where a model's tokenizer takes colour from the data, or adds it, and how to keep what is there."""
    from gftzoo.data.preflight import colour_change

    change = colour_change(source, card)
    if change is not None:
        say(change, err=True)


def show_cost(config: TrainConfig) -> None:
    """Prints what the run would cost on a device, the time from a few steps that are taken, and its configuration."""
    from gftzoo.engine import estimate
    from gftzoo.engine.runner import choose_device
    from gftzoo.engine.trial import seconds_per_step

    device = choose_device(config.device)
    cost = estimate.training_cost(config, device)
    unknown = "not traceable"
    activations = unknown if cost.activation_bytes is None else f"{cost.activation_bytes / estimate.GIB:.3f} GiB"
    flops = unknown if cost.flops_per_image is None else f"{cost.flops_per_image / 1e9:.2f} GFLOPs"
    needed, free = cost.total_bytes(device) / estimate.GIB, estimate.available_bytes(device) / estimate.GIB
    others = other_ways(config, device)  # before libraries take their part of this process's memory
    seconds = seconds_per_step(config, device) if cost.fits(device) else None
    reason = "not measured, the tokenizer is not here (-o tokenizer_path=...)" if cost.fits(device) else "does not fit"
    lines = {
        "parameters": f"{cost.parameters:,}",
        "of which train": f"{cost.trained:,}",
        "weights, gradients, optimizer, average": f"{cost.state_bytes / estimate.GIB:.3f} GiB",
        "activations per micro-batch": activations,
        "training FLOPs per image": flops,
        "memory in all": f"{needed:.2f} GiB of {free:.1f} free",
        "steps": f"{config.steps:,}",
        "images": f"{config.steps * config.batch_size:,}",
        "time per step": f"{seconds:.3g} s on {device}" if seconds else reason,
        "time in all": f"{duration(seconds * config.steps)} and samples, checkpoints" if seconds else reason,
    }
    for name, value in lines.items():
        say(f"{name:>40}  {value}")
    for name, (other, cost, memory) in others.items():
        taken = seconds_per_step(other, device, share=0.2) if cost.fits(device) else None
        say(f"{name:>40}  {memory}, {f'{taken:.3g} s per step' if taken else 'time not measured'}")
    say(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def other_ways(config: TrainConfig, device: torch.device) -> dict[str, tuple[TrainConfig, Cost, str]]:
    """The same batch where all trains, or factors of LoRA's, or the slope of the temperature alone, and its cost."""
    from gftzoo.engine import estimate
    from gftzoo.engine.adapting import in_way

    found = {}
    for way in ("all", "lora", "temperature"):
        other = in_way(config, way)
        if way != config.train and other is not None:
            cost = estimate.training_cost(other, device)
            memory = f"{cost.total_bytes(device) / estimate.GIB:.2f} GiB"
            found[f"with train={way}"] = other, cost, f"{cost.trained:,} train, {memory}"
    return found


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def finished(run: Path, config: TrainConfig) -> None:
    """Says where things are and what to do next."""
    from gftzoo.engine import checkpoint

    found = checkpoint.newest(run)
    step = checkpoint.read_state(found)["step"] if found else 0
    if step < config.steps:
        say(f"Stopped at step {step}; go on with `gftzoo train --resume {quote(str(run))}`.", err=True)
        return
    steer = "--beta 0.5" if config.card.temperature else "--cfg 1.5"
    steer += " --prompt 'TEXT'" if config.card.condition == "text" else ""
    say(f"Done: {run}. Sample it with `gftzoo sample {quote(str(run))} {steer}`.", err=True)
