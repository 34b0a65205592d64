"""What `gftzoo evaluate` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gftzoo.cli.naming import named
from gftzoo.cli.options import GUIDANCE
from gftzoo.cli.ranks import say
from gftzoo.cli.sample import batch_size, load_for_sampling, parse_settings
from gftzoo.cli.sharing import over_ranks
from gftzoo.cli.tables import add_row, show, table
from gftzoo.cli.writing import progress_bar
from gftzoo.data.settings import split_settings
from gftzoo.engine.parallel.place import choose_device
from gftzoo.errors import UsageError
from gftzoo.evaluate import Evaluator, ScoreRecord, choose_protocol
from gftzoo.evaluate.images import left_out_of
from gftzoo.evaluate.records import score_names
from gftzoo.group import is_main_process, rank_positions
from gftzoo.model import Model

# Options of `evaluate` that say what a model draws.
DRAWING = {
    *GUIDANCE, "weights", "adapter", "entry", "steps", "sampler", "settings", "seed", "batch_size",
    "tokenizer_path", "images", "precision", "compile",
}  # fmt: skip


def evaluate(subject: str, out: Path | None, **options: Any) -> None:
    """Score SUBJECT: a run, a model's name with --weights, a folder of images or an .npz."""
    with over_ranks(options["device"]):
        record = scored(subject, options)
        if is_main_process():
            show_record(record)
            if out is not None:
                record.write(out)
                say(f"record: {out}", err=True)


def scored(subject: str, options: dict[str, Any]) -> ScoreRecord:
    """The record of a model, of which every rank draws its share, or of images that are there."""
    if is_images(subject):
        refuse_for_images(subject)
        subject = str(named(subject, options["background"], False))
        for line in left_out_of(Path(subject)):
            say(f"{subject}: {line}.", err=True)
        return evaluator_for(None, options).score_images(subject)
    model = load_for_sampling(subject, options)
    guidance = model.guidance(**{name: options[name] for name in GUIDANCE})
    evaluator = evaluator_for(model, options)
    settings = parse_settings(options["settings"], options["steps"], options["sampler"])
    with progress_bar("scoring", len(rank_positions(evaluator.protocol.images))) as advance:
        return evaluator.score_model(
            model,
            guidance,
            seed=options["seed"],
            batch_size=batch_size(model, guidance, options),
            settings=settings,
            on_batch=advance,
        )


def is_images(subject: str) -> bool:
    """Whether the subject is a folder of images or an npz, and not a model."""
    path = Path(split_settings(subject)[0])
    if path.suffix == ".npz":
        return True
    return path.is_dir() and not any(
        (path / name).exists() for name in ("card.json", "checkpoints", "config.yaml", "adapter.safetensors")
    )


def refuse_for_images(subject: str) -> None:
    """UsageError for an option that says how images are drawn, where they are there already."""
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in DRAWING and context.get_parameter_source(parameter.name) is not ParameterSource.DEFAULT:
            raise UsageError(
                f"{parameter.opts[0]} is for models, and {subject!r} is a set of images, which are scored as they are "
                "and all of them; leave it out."
            )


def evaluator_for(model: Model | None, options: dict[str, Any]) -> Evaluator:
    """The evaluator of the chosen protocol, its reference scored."""
    card = model.card if model else None
    names = ("data", "features", "reference", "images", "few", "prompt_encoder")
    chosen = {name: options[name] for name in names}
    if options["data"] is not None:
        chosen["data"] = named(options["data"], options["background"], options["allow_outside"])
    protocol = choose_protocol(options["protocol"], card, **chosen)
    device = choose_device(options["device"])
    resolution = card.resolution if card else None
    return Evaluator(protocol, feature_weights=options["feature_weights"], device=device, resolution=resolution)


def show_record(record: ScoreRecord) -> None:
    """Prints scores and what they depend on."""
    names = score_names(record)
    result = table("score", "value")
    for key, value in record.scores.model_dump().items():
        if value is not None:
            add_row(result, names.get(key, key.replace("_", " ")), f"{value:.4f}")
    show(result)
    measure = record.measure
    say(
        f"{measure.images} images ({measure.class_plan}), features {measure.features}, against {measure.reference}; "
        f"protocol {measure.protocol}"
    )
