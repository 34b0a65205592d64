"""`gftzoo import` and `export`: official weights into a gftzoo folder, and a model into a foreign format."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from gftzoo.atomic import folder_written_whole, is_free
from gftzoo.catalogue.cards import Schedule
from gftzoo.errors import UsageError
from gftzoo.printing import say


@click.command("import")
@click.argument("model")
@click.argument("weights")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--entry", type=click.Choice(["raw", "ema"]), help="Which weights, of both (default ema).")
def import_command(model: str, weights: str, out: Path, entry: Literal["raw", "ema"] | None) -> None:
    """Read the official WEIGHTS of MODEL (a file, or a checkpoint name of its card) and write the folder OUT.

    The file is never executed. OUT holds safetensors and the card; `gftzoo sample OUT` and --weights take it.
    """
    from gftzoo.loading.files import import_model, locate
    from gftzoo.weights import save_model
    from gftzoo.zoo import get_card

    refuse_existing(out)
    located = locate(get_card(model), weights, entry)
    imported = import_model(located.card, located.path, entry, located=located)
    with folder_written_whole(out) as folder:
        save_model(imported, folder)
    kind = "a temperature input (GFT)" if imported.card.temperature else "no temperature input (plain)"
    entry_read = imported.provenance["entry"]
    say(f"{out}: {model} from {located.path.name}, entry {entry_read!r}, with {kind}.", err=True)


@click.command("export")
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--to", "form", required=True, help="safetensors, or another that `gftzoo info` lists.")
@click.option("--weights", help="For a model's name: a checkpoint of its card (base, gft) or a local file.")
@click.option("--adapter", help="An adapter's file or run, to be merged into these weights.")
@click.option("--entry", type=click.Choice(["raw", "ema"]), help="Which weights, of both (default ema).")
@click.option("--tokenizer-path", help="Local folder or file with the tokenizer's weights.")
@click.option("--beta", type=float, help="Fold this temperature of a GFT model into the weights of a plain network.")
@click.option(
    "--schedule", type=click.Choice(["constant"]), help="For a model whose temperature ramps: fold one value."
)
def export_command(
    model: str, out: Path, form: str, beta: float | None, schedule: Schedule | None, **options: str | None
) -> None:
    """Write MODEL (a run, or a model's name with --weights) into the folder OUT in another library's format.

    `--to official` writes the family's plain network with official names, `--to safetensors` the network as it is.
    An adapter is merged into its base, and `--to adapter` writes it alone.
    """
    from gftzoo.cli.sample import load_for_sampling
    from gftzoo.exporting import export

    refuse_existing(out)
    # What gftzoo reads again takes its tokenizer from the card; the pipelines of others hold it.
    loaded = load_for_sampling(
        model, {**options, "device": "cpu", "tokenizer": form not in ("safetensors", "official")}
    )
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
