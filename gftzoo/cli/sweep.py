"""What `gftzoo sweep` does."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gftzoo.cli.evaluate import evaluator_for
from gftzoo.cli.ranks import say
from gftzoo.cli.sample import batch_size, load_for_sampling, parse_settings
from gftzoo.cli.sharing import over_ranks
from gftzoo.cli.writing import progress_bar
from gftzoo.errors import UsageError
from gftzoo.evaluate.drawing import conditions_for
from gftzoo.evaluate.sweep import parse_values, plot_curves, strip, sweep, write_csv
from gftzoo.group import is_main_process, rank_positions
from gftzoo.loading import card_of
from gftzoo.model import Model
from gftzoo.pictures import save


def sweep_models(models: tuple[str, ...], out: Path, **options: Any) -> None:
    """Draw the diversity-fidelity curve of one or more MODELS (runs) over beta or CFG: CSV, plot and picture strips.

    With --beta and --cfg together, GFT runs take the temperatures and plain runs the scales, in one figure.
    """
    if options["betas"] is None and options["scales"] is None:
        raise UsageError("say what to sweep: --beta 1:0.2:9 for GFT models, --cfg 1:4:7 for plain ones.")
    given = {"beta": options["betas"], "cfg": options["scales"]}
    values = {word: parse_values(text) for word, text in given.items() if text is not None}
    settings = parse_settings(options["settings"], options["steps"], options["sampler"])
    words = {name: steered_by(name, options, values) for name in models}
    with over_ranks(options["device"]):
        draw_curves(models, words, values, settings, out, options)


def draw_curves(
    models: Sequence[str],
    words: dict[str, str],
    values: dict[str, list[float]],
    settings: dict[str, Any],
    out: Path,
    options: dict[str, Any],
) -> None:
    """Scores all models, every rank its share of the images, and writes what comes of it, the first rank alone."""
    curves = {}
    for name, label in zip(models, unused_labels(models), strict=True):
        model = load_for_sampling(name, options)
        word = words[name]
        steer = partial(model.guidance, schedule=options["schedule"])
        guidances = [steer(beta=v) if word == "beta" else steer(cfg=v) for v in values[word]]
        evaluator = evaluator_for(model, options)
        images = len(rank_positions(evaluator.protocol.images))
        with progress_bar(f"sweeping {name}", images * len(guidances)) as advance:
            records = sweep(
                evaluator,
                model,
                guidances,
                out / label / "records",
                seed=options["seed"],
                batch_size=batch_size(model, guidances[0], options),
                settings=settings,
                on_batch=advance,
            )
        curves[label] = records
        if is_main_process():
            write_csv(records, out / label / "curve.csv")
            conditions = strip_conditions(model, evaluator.protocol.reference)
            save(strip(model, guidances, conditions, options["seed"], **settings), out / label / "strip.png")
    if is_main_process():
        plot_curves(curves, out / "curves.png")
    say(f"{out}: curves.png, and for each model curve.csv, strip.png and records/", err=True)


def steered_by(name: str, options: dict[str, Any], values: dict[str, list[float]]) -> str:
    """`beta` or `cfg`, by what the model is; UsageError if the values to sweep are of the other."""
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
    return list(conditions_for(model.card, 10, reference)[0])
