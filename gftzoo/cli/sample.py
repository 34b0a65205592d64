"""`gftzoo sample`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gftzoo.atomic import folder_written_whole, is_free
from gftzoo.cli import limits
from gftzoo.documents import parse_value
from gftzoo.errors import GftzooError, UsageError
from gftzoo.printing import plain, say

if TYPE_CHECKING:
    from gftzoo.contract.guidance import Guidance
    from gftzoo.model import Model


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
        click.option("--batch-size", default=64, type=limits.BATCH, help="Images per forward pass."),
        click.option("--tokenizer-path", help="Local folder or file with the tokenizer's weights."),
        click.option("--device", default="auto", help="auto, cpu, cuda, ..."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command("sample")
@click.argument("model")
@click.option("--beta", type=float, help="Sampling temperature of a GFT model, in (0, 1].")
@click.option("--cfg", type=float, help="CFG scale of a plain model; 1 is unguided.")
@click.option("--schedule", type=click.Choice(["constant", "linear"]), help="Ramp of the guidance over the sampling.")
@click.option(
    "--class",
    "classes",
    help="Classes by name or index, comma-separated; by name alone where names are numbers. Default all in turn.",
)
@click.option("--prompt", "prompts", multiple=True, help="A prompt; repeatable.")
@click.option("--prompts", "prompt_file", type=click.Path(path_type=Path), help="A file with one prompt per line.")
@click.option("-n", "count", type=limits.IMAGES, help="Number of images.")
@model_options
@click.option("--out", default="samples.png", type=click.Path(path_type=Path), help="A .png, an .npz, or a folder.")
def sample_command(model: str, out: Path, **options: Any) -> None:
    """Draw images from MODEL, a model's name with --weights or a run's folder."""
    settings = parse_settings(options["settings"], options["steps"], options["sampler"])
    loaded = load_for_sampling(model, options)
    conditions = wanted_conditions(loaded, options)
    guidance = loaded.guidance(options["beta"], options["cfg"], options["schedule"])
    write_images(loaded, conditions, guidance, out, options["seed"], options["batch_size"], settings)
    shown = classes_meant(conditions, loaded.card.class_names) if options["classes"] is not None else ""
    say(f"{len(conditions)} images of {loaded.card.name}{shown} ({loaded.weights_in_words}) in {out}", err=True)
    if loaded.baked_beta is not None and options["cfg"] not in (None, 1.0):
        say(f"CFG {options['cfg']:g} was guidance on top of the beta that is folded in.", err=True)


def load_for_sampling(model: str, options: dict[str, Any]) -> Model:
    """The model on its device; fresh weights are refused, since their images mean nothing."""
    from gftzoo.engine.parallel.place import choose_device
    from gftzoo.loading import load
    from gftzoo.zoo import get_card

    if not Path(model).is_dir():
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
    return loaded.to(choose_device(options["device"]))


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
    from gftzoo.data.folder import text_lines

    try:
        lines = [line for raw in text_lines(path, limits.PROMPT_FILE_BYTES) if (line := raw.strip(" \t\r"))]
    except GftzooError as error:
        raise UsageError(f"prompt file: {error}") from error
    if len(lines) > limits.MOST_IMAGES:
        raise UsageError(f"prompt file {str(path)!r} has {len(lines):,} prompts; at most {limits.MOST_IMAGES:,} go.")
    return lines


def write_images(
    model: Model,
    conditions: list[int | str],
    guidance: Guidance,
    out: Path,
    seed: int,
    batch_size: int,
    settings: dict[str, Any],
) -> None:
    """Draws batch after batch and writes a grid, a folder of PNGs or an ADM-style npz (resumable)."""
    import torch

    from gftzoo import pictures
    from gftzoo.evaluate.volume import write_npz
    from gftzoo.sampling import image_seeds, sample_batches

    if out.suffix not in (".png", ".npz", ""):
        raise UsageError(f"--out {str(out)!r} must end in .png or .npz, or name a folder.")
    if (out.is_dir() or not out.suffix) and not is_free(out):
        raise UsageError(f"folder {str(out)!r} holds something already, which would mix with these; name a new one.")
    pixels = len(conditions) * model.card.resolution**2
    if out.suffix == ".png" and pixels > limits.MOST_GRID_PIXELS:
        most = limits.MOST_GRID_PIXELS // model.card.resolution**2
        raise UsageError(f"{len(conditions):,} images are too many for one .png ({most:,}); --out a folder or an .npz.")
    with progress_bar("sampling", len(conditions)) as advance:
        if out.suffix == ".npz":
            common = {"seed": seed, "batch_size": batch_size}
            write_npz(model, conditions, guidance, out, settings=settings, on_batch=advance, **common)
            return
        seeds = image_seeds(seed, range(len(conditions)))
        batches = sample_batches(model, conditions, guidance, seeds, batch_size, **settings)
        if out.suffix == ".png":
            done: list[torch.Tensor] = []
            for images in batches:
                advance(len(images))
                done.append(images)
            pictures.save(pictures.grid(torch.cat(done), columns=min(len(conditions), 10)), out)
            return
        start = 0
        with folder_written_whole(out) as folder:
            for images in batches:
                advance(len(images))
                pictures.save_folder(images, folder, start)
                start += len(images)


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere; yields the function that moves it on."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task(escape(plain(what, 60)), total=total)
        yield lambda count: progress.advance(task, count)
