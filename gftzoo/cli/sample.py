"""What `gftzoo sample` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gftzoo.cli import limits
from gftzoo.cli.options import GUIDANCE
from gftzoo.cli.ranks import say
from gftzoo.cli.sharing import over_ranks
from gftzoo.cli.writing import Drawing, write_images
from gftzoo.contract.guidance import Guidance
from gftzoo.data.folder import text_lines
from gftzoo.documents import parse_value
from gftzoo.engine import TrainConfig
from gftzoo.engine.config import CONFIG_FILE
from gftzoo.engine.parallel.place import choose_device
from gftzoo.engine.run.room import images_at_once
from gftzoo.errors import GftzooError, UsageError
from gftzoo.group import all_gather_object
from gftzoo.hub import address_of
from gftzoo.loading import load
from gftzoo.model import Model
from gftzoo.printing import plain
from gftzoo.zoo import get_card


def sample(model: str, out: Path, **options: Any) -> None:
    """Draw images from MODEL, a model's name with --weights or a run's folder."""
    with over_ranks(options["device"]):
        draw(model, out, options)


def draw(model: str, out: Path, options: dict[str, Any]) -> None:
    """Draws and writes this rank's share of the images."""
    settings = parse_settings(options["settings"], options["steps"], options["sampler"])
    loaded = load_for_sampling(model, options)
    conditions = wanted_conditions(loaded, options)
    guidance = loaded.guidance(**{name: options[name] for name in GUIDANCE})
    drawing = Drawing(loaded, conditions, guidance, options["seed"], batch_size(loaded, guidance, options), settings)
    write_images(drawing, out, options["each"])
    shown = classes_meant(conditions, loaded.card.class_names) if options["classes"] is not None else ""
    say(f"{len(conditions)} images of {loaded.card.name}{shown} ({loaded.weights_in_words}) in {out}", err=True)
    say_early_average(model, loaded)
    if loaded.baked_beta is not None and options["cfg"] not in (None, 1.0):
        say(f"CFG {options['cfg']:g} was guidance on top of the beta that is folded in.", err=True)


def load_for_sampling(model: str, options: dict[str, Any]) -> Model:
    """The model on its device; fresh weights are refused, since their images mean nothing."""
    if address_of(model) is None and not Path(model).is_dir():
        card = get_card(model)
        if options["weights"] is None and options["adapter"] is None:
            names = " or ".join(f"--weights {name}" for name in card.checkpoints) or "--weights PATH"
            raise UsageError(
                f"{model} has no weights of its own to sample; give {names}, or train it: `gftzoo train {model} --gft`."
            )
    loaded = load(
        model,
        options["weights"],
        entry=options["entry"],
        tokenizer_path=options["tokenizer_path"],
        tokenizer=options.get("tokenizer", True),
        adapter=options["adapter"],
    )
    loaded.to(choose_device(options["device"]), options["precision"])
    return loaded.compile() if options["compile"] else loaded


def batch_size(model: Model, guidance: Guidance, options: dict[str, Any]) -> int:
    """Images of a forward pass: those asked for, or what fits on every rank."""
    return options["batch_size"] or min(all_gather_object(images_at_once(model, guidance.passes)))


def say_early_average(source: str, model: Model) -> None:
    """Says where the images are of an average that is mostly the start of its run, whose own grids show raw weights."""
    step = model.provenance.get("step")
    if (
        model.provenance.get("entry") != "ema"
        or not isinstance(step, int)
        or not (Path(source) / CONFIG_FILE).is_file()
    ):
        return
    config = TrainConfig.read(Path(source))
    if not config.average_counts(step):
        say(
            f"The average reaches back {config.average_horizon:,.0f} steps and the run has {step:,}: it is mostly what "
            "the run began with, and its own grids show the raw weights, as --entry raw does.",
            err=True,
        )


def parse_settings(pairs: Sequence[str], steps: int | None, sampler: str | None) -> dict[str, Any]:
    """Sampler settings of `-s key=value`, `--steps` and `--sampler`."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"sampler setting {pair!r} has no value; write -s key=value.")
        settings[key] = parse_value(value, f"the value of sampler setting {key!r}")
    chosen = settings.get("steps", 1)
    if isinstance(chosen, bool) or (isinstance(chosen, int) and chosen > limits.MOST_STEPS):
        raise UsageError(f"-s steps={chosen} is not valid; valid are 1 to {limits.MOST_STEPS:,}.")
    return settings | {k: v for k, v in {"steps": steps, "sampler": sampler}.items() if v is not None}


def wanted_conditions(model: Model, options: dict[str, Any]) -> list[int | str]:
    """What to draw: prompts, or classes repeated in turn up to `-n`."""
    given: list[int | str]
    if model.card.condition == "text":
        if options["classes"]:
            raise UsageError(f"{model.card.name} is conditioned on text; use --prompt instead of --class.")
        given = [*options["prompts"], *_lines(options["prompt_file"])]
        if not given:
            raise UsageError(f"{model.card.name} is conditioned on text; give --prompt 'TEXT' or --prompts FILE.")
    else:
        if options["prompts"] or options["prompt_file"]:
            raise UsageError(f"{model.card.name} is conditioned on classes; use --class instead of --prompt.")
        given = list(model.card.drawn_classes[:10])
        if options["classes"] is not None:
            given = [model.card.class_index(name) for name in class_words(options["classes"], model.card.class_names)]
    count = options["count"] or max(len(given), 8)
    return [given[i % len(given)] for i in range(count)]


def classes_meant(conditions: Sequence[int | str], names: Sequence[str]) -> str:
    """The classes of some images by index and name, since both may be numbers."""
    indices = [int(index) for index in dict.fromkeys(conditions)]
    words = [f"{index} ({plain(names[index], 60)})" if names else str(index) for index in indices[:5]]
    return f", class {', '.join(words)}{', ...' if len(indices) > 5 else ''}"


def class_words(text: str, names: Sequence[str]) -> list[str]:
    """The classes of a comma-separated list, of whose names some may hold commas; UsageError for none."""
    parts, found = text.split(","), list[str]()
    most = 1 + max((name.count(",") for name in names), default=0)
    while parts:
        joined = {length: ",".join(parts[:length]) for length in range(min(most, len(parts)), 0, -1)}
        length = next((length for length, word in joined.items() if word in names or word.strip() in names), 1)
        found.append(joined[length])
        parts = parts[length:]
    wanted = [word for word in found if word.strip()]
    if not wanted:
        raise UsageError(
            f"--class {text!r} names no class; write names or indices with commas between, e.g. --class 0,1."
        )
    return wanted


def _lines(path: Path | None) -> list[str]:
    """The prompts of a file, one a line."""
    if path is None:
        return []

    try:
        lines = [line for raw in text_lines(path, limits.PROMPT_FILE_BYTES) if (line := raw.strip(" \t\r"))]
    except GftzooError as error:
        raise UsageError(f"prompt file: {error}") from error
    if len(lines) > limits.MOST_IMAGES:
        raise UsageError(f"prompt file {str(path)!r} has {len(lines):,} prompts; at most {limits.MOST_IMAGES:,} go.")
    return lines
