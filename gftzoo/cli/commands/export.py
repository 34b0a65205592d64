"""`gftzoo export`."""

from __future__ import annotations

from pathlib import Path

import click

from gftzoo.cli.lazy import completes, does


@click.command("export")
@click.argument("model", shell_complete=completes("names_and_runs"))
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
@does("transfer:export_model")
def command() -> None:
    """Write MODEL (a run, or a model's name with --weights) into the folder OUT in another library's format.

    `--to official` writes the family's plain network with official names, `--to safetensors` the network as it is.
    An adapter is merged into its base, and `--to adapter` writes it alone.
    """
