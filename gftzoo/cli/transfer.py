"""What `gftzoo import` and `export` do: official weights into a gftzoo folder, a model into a foreign format."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gftzoo.atomic import folder_written_whole, is_free
from gftzoo.catalogue.cards import Schedule
from gftzoo.cli.sample import load_for_sampling
from gftzoo.errors import UsageError
from gftzoo.exporting import export
from gftzoo.loading.files import import_model, locate
from gftzoo.printing import say
from gftzoo.weights import save_model
from gftzoo.zoo import get_card


def import_weights(model: str, weights: str, out: Path, entry: Literal["raw", "ema"] | None) -> None:
    """Read the official WEIGHTS of MODEL (a file, or a checkpoint name of its card) and write the folder OUT.

    The file is never executed. OUT holds safetensors and the card; `gftzoo sample OUT` and --weights take it.
    """
    refuse_existing(out)
    located = locate(get_card(model), weights, entry)
    imported = import_model(located.card, located.path, entry, located=located)
    with folder_written_whole(out) as folder:
        save_model(imported, folder)
    kind = "a temperature input (GFT)" if imported.card.temperature else "no temperature input (plain)"
    entry_read = imported.provenance["entry"]
    say(f"{out}: {model} from {located.path.name}, entry {entry_read!r}, with {kind}.", err=True)


def export_model(
    model: str, out: Path, form: str, beta: float | None, schedule: Schedule | None, **options: str | None
) -> None:
    """Write MODEL (a run, or a model's name with --weights) into the folder OUT in another library's format.

    `--to official` writes the family's plain network with official names, `--to safetensors` the network as it is.
    An adapter is merged into its base, and `--to adapter` writes it alone.
    """
    refuse_existing(out)
    # What gftzoo reads again takes its tokenizer from the card; the pipelines of others hold it.
    kept = form not in ("safetensors", "official")
    computing = {"device": "cpu", "precision": "fp32", "compile": False}
    loaded = load_for_sampling(model, {**options, **computing, "tokenizer": kept})
    if beta is not None:
        loaded = loaded.bake(beta, schedule)
    elif schedule is not None:
        raise UsageError("--schedule says how the temperature of --beta is folded; give --beta too, or leave it out.")
    with folder_written_whole(out) as folder:
        written = out / export(loaded, form, folder).relative_to(folder)
    say(f"{written}: {loaded.card.name} as {form}, {loaded.weights_in_words}.", err=True)


def refuse_existing(out: Path) -> None:
    """UsageError if something is there already."""
    if not is_free(out):
        raise UsageError(f"{str(out)!r} exists already; name a new folder.")
