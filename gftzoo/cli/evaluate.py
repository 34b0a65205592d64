"""`gftzoo evaluate` and `gftzoo sweep`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from gftzoo.cli import limits
from gftzoo.cli.browse import add_row, show, table
from gftzoo.cli.data_options import data_options, named
from gftzoo.cli.sample import load_for_sampling, model_options, parse_settings, progress_bar
from gftzoo.errors import UsageError
from gftzoo.printing import say

if TYPE_CHECKING:
    from gftzoo.evaluate import Evaluator, ScoreRecord
    from gftzoo.model import Model

# Options of `evaluate` that say what a model draws.
DRAWING = {
    "beta", "cfg", "schedule", "weights", "adapter", "entry", "steps", "sampler", "settings", "seed", "batch_size",
    "tokenizer_path", "images",
}  # fmt: skip


def protocol_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how images are scored."""
    options = [
        click.option("--protocol", default="embedded", help="embedded (no network, no files) or adm."),
        click.option("--data", help="Data source whose held-out split is the reference; default the model's own."),
        click.option("--features", help="Feature network: inception, efflite0, embedded:SOURCE."),
        click.option("--feature-weights", type=click.Path(path_type=Path), help="Its local weights."),
        click.option("--reference", help="ADM .npz, a folder of images, or data:SOURCE."),
        click.option("-n", "images", type=limits.SCORED_IMAGES, help="Number of images."),
        click.option("--few", is_flag=True, help="Score fewer images than the statistics need, knowing it."),
    ]
    for option in reversed(options):
        command = option(command)
    return data_options(command)


@click.command("evaluate")
@click.argument("subject")
@click.option("--beta", type=float, help="Sampling temperature of a GFT model, in (0, 1].")
@click.option("--cfg", type=float, help="CFG scale of a plain model; 1 is unguided.")
@click.option("--schedule", type=click.Choice(["constant", "linear"]), help="Ramp of the guidance over the sampling.")
@model_options
@protocol_options
@click.option("--out", type=click.Path(path_type=Path), help="Also write the score record, a .json.")
def evaluate_command(subject: str, out: Path | None, **options: Any) -> None:
    """Score SUBJECT: a run, a model's name with --weights, a folder of images or an .npz."""
    if is_images(subject):
        refuse_for_images(subject)
        subject = str(named(subject, options["background"], False))
        for line in left_out_of(subject):
            say(f"{subject}: {line}.", err=True)
        record = evaluator_for(None, options).score_images(subject)
    else:
        model = load_for_sampling(subject, options)
        guidance = model.guidance(options["beta"], options["cfg"], options["schedule"])
        evaluator = evaluator_for(model, options)
        settings = parse_settings(options["settings"], options["steps"], options["sampler"])
        with progress_bar("scoring", evaluator.protocol.images) as advance:
            record = evaluator.score_model(
                model,
                guidance,
                seed=options["seed"],
                batch_size=options["batch_size"],
                settings=settings,
                on_batch=advance,
            )
    show_record(record)
    if out is not None:
        record.write(out)
        say(f"record: {out}", err=True)


def is_images(subject: str) -> bool:
    """Whether the subject is a folder of images or an npz, and not a model."""
    from gftzoo.data.settings import split_settings

    path = Path(split_settings(subject)[0])
    if path.suffix == ".npz":
        return True
    return path.is_dir() and not any(
        (path / name).exists() for name in ("card.json", "checkpoints", "config.yaml", "adapter.safetensors")
    )


def left_out_of(subject: str) -> list[str]:
    """What is in a folder of images and is not scored."""
    from gftzoo.evaluate.images import left_out_of

    return left_out_of(Path(subject))


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
    from gftzoo.engine.parallel.place import choose_device
    from gftzoo.evaluate import Evaluator, choose_protocol

    card = model.card if model else None
    names = ("data", "features", "reference", "images", "few")
    chosen = {name: options[name] for name in names}
    if options["data"] is not None:
        chosen["data"] = named(options["data"], options["background"], options["allow_outside"])
    protocol = choose_protocol(options["protocol"], card, **chosen)
    device = choose_device(options["device"])
    resolution = card.resolution if card else None
    return Evaluator(protocol, feature_weights=options["feature_weights"], device=device, resolution=resolution)


def show_record(record: ScoreRecord) -> None:
    """Prints scores and what they depend on."""
    from gftzoo.evaluate.records import score_names

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


@click.command("sweep")
@click.argument("models", nargs=-1, required=True)
@click.option("--beta", "betas", help="Temperatures: 1:0.2:9 is nine values from 1 to 0.2; 1,0.8,0.5 is those.")
@click.option("--cfg", "scales", help="CFG scales, written the same way.")
@click.option("--schedule", type=click.Choice(["constant", "linear"]), help="Ramp of the guidance over the sampling.")
@model_options
@protocol_options
@click.option("--out", default="sweep", type=click.Path(path_type=Path, file_okay=False), help="Folder of the results.")
def sweep_command(models: tuple[str, ...], out: Path, **options: Any) -> None:
    """Draw the diversity-fidelity curve of one or more MODELS (runs) over beta or CFG: CSV, plot and picture strips.

    With --beta and --cfg together, GFT runs take the temperatures and plain runs the scales, in one figure.
    """
    from gftzoo.evaluate import parse_values, plot_curves, strip, sweep, write_csv
    from gftzoo.pictures import save

    if options["betas"] is None and options["scales"] is None:
        raise UsageError("say what to sweep: --beta 1:0.2:9 for GFT models, --cfg 1:4:7 for plain ones.")
    given = {"beta": options["betas"], "cfg": options["scales"]}
    values = {word: parse_values(text) for word, text in given.items() if text is not None}
    settings = parse_settings(options["settings"], options["steps"], options["sampler"])
    words = {name: steered_by(name, options, values) for name in models}
    curves = {}
    for name, label in zip(models, unused_labels(models), strict=True):
        model = load_for_sampling(name, options)
        word = words[name]
        guidances = [model.guidance(**{word: v}, schedule=options["schedule"]) for v in values[word]]
        evaluator = evaluator_for(model, options)
        with progress_bar(f"sweeping {name}", evaluator.protocol.images * len(guidances)) as advance:
            records = sweep(
                evaluator,
                model,
                guidances,
                out / label / "records",
                seed=options["seed"],
                batch_size=options["batch_size"],
                settings=settings,
                on_batch=advance,
            )
        write_csv(records, out / label / "curve.csv")
        conditions = strip_conditions(model, evaluator.protocol.reference)
        save(strip(model, guidances, conditions, options["seed"], **settings), out / label / "strip.png")
        curves[label] = records
    plot_curves(curves, out / "curves.png")
    say(f"{out}: curves.png, and for each model curve.csv, strip.png and records/", err=True)


def steered_by(name: str, options: dict[str, Any], values: dict[str, list[float]]) -> str:
    """`beta` or `cfg`, by what the model is; UsageError if the values to sweep are of the other."""
    from gftzoo.loading import card_of

    word = "beta" if card_of(name, options["weights"], options["entry"], options["adapter"]).temperature else "cfg"
    if word not in values:
        raise UsageError(f"{name} is steered by {word}; give --{word} with the values to sweep.")
    return word


def unused_labels(models: Sequence[str]) -> list[str]:
    """A short name for each model: the last parts of its path that no other one shares."""
    labels = []
    for model in models:
        others = [other for other in models if Path(other).resolve() != Path(model).resolve()]
        parts = Path(model).resolve().parts if Path(model).exists() else (model,)
        for length in range(1, len(parts) + 1):
            label = parts[-length:]
            if all(Path(other).resolve().parts[-length:] != label for other in others):
                break
        labels.append("-".join(part.strip("/") for part in label))
    return labels


def strip_conditions(model: Model, reference: str) -> list[int | str]:
    """Ten conditions for a picture strip."""
    from gftzoo.evaluate.drawing import conditions_for

    return list(conditions_for(model.card, 10, reference)[0])
