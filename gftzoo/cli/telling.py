"""What a run says before its first step and behind its last."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from gftzoo.catalogue.cards import ModelCard
from gftzoo.cli.ranks import first_rank, say
from gftzoo.data import Source
from gftzoo.data.preflight import colour_change, epochs_sentence, preflight
from gftzoo.engine import Job, TrainConfig, checkpoints
from gftzoo.engine.checkpoints.kept import BEST
from gftzoo.engine.record.best import gave_up
from gftzoo.zoo import get_card


def announce(job: Job, run: Path, embedded: bool) -> None:
    """Says what is about to happen: model, objective, data with its preflight, folder."""
    if not first_rank():
        return  # nothing would be said, and to open and count the data takes its time

    config, card = job.config, job.config.card
    say(f"Training {config.model} ({config.objective}) for {config.steps} steps into {run}.", err=True)
    if embedded and get_card(config.model).data is None:
        say(
            f"No --data given: this is a short demonstration on the embedded {config.data!r}, with tokenizer "
            f"{card.tokenizer.id!r} at {card.resolution} px and {card.classes} classes; the network has its full size.",
            err=True,
        )
    look = preflight(job.source, card.resolution)
    say(look.sentence(), err=True)
    if look.count:
        say(epochs_sentence(look.count, config.steps, config.batch_size), err=True)
    say_colour(job.source, card)


def say_colour(source: Source, card: ModelCard) -> None:
    """Says where a model's tokenizer takes colour from the data, or adds it, and how to keep what is there."""
    change = colour_change(source, card)
    if change is not None:
        say(change, err=True)


def finished(run: Path, config: TrainConfig) -> None:
    """Says where things are and what to do next."""
    found = checkpoints.newest(run)
    step = checkpoints.read_state(found)["step"] if found else 0
    if gave_up(config, run, step):
        best = quote(str(run / BEST))
        say(f"Ended at step {step}, no better for a while: {run}. The best is `gftzoo sample {best}`.", err=True)
        return
    if step < config.steps:
        say(f"Stopped at step {step}; go on with `gftzoo train --resume {quote(str(run))}`.", err=True)
        return
    steer = "--beta 0.5" if config.card.temperature else "--cfg 1.5"
    steer += " --prompt 'TEXT'" if config.card.condition == "text" else ""
    say(f"Done: {run}. Sample it with `gftzoo sample {quote(str(run))} {steer}`.", err=True)
