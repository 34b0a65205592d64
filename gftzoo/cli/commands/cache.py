"""`gftzoo cache`."""

from __future__ import annotations

from pathlib import Path

import click

from gftzoo.cli.lazy import does
from gftzoo.cli.options import PRECISION, data_options


@click.command("cache")
@click.argument("src", required=False)
@click.argument("out", required=False, type=click.Path(path_type=Path))
@click.option("--model", help="The model whose tokenizer (and text encoder) encodes.")
@click.option("--flip", is_flag=True, help="Mirror images too; training then draws one of the two.")
@click.option("--crops", type=click.Choice(["1", "10"]), default="1", help="1: ADM's centre crop; 10: LlamaGen's ten.")
@click.option("--half", is_flag=True, help="Floats in 16 bits: half the size, no longer to the bit.")
@click.option("--split", type=click.Choice(["train", "held-out", "all"]), default="train", help="Of embedded data.")
@click.option("--shard-rows", type=click.IntRange(min=1), default=1024, help="Images of a shard.")
@click.option("--batch", type=click.IntRange(1, 8192), default=64, help="Images encoded together.")
@click.option("-o", "options", multiple=True, metavar="KEY=VALUE", help="tokenizer_path, resolution, device, ...")
@PRECISION
@data_options
@click.option("--check", type=click.Path(path_type=Path), help="Verify a cache's hashes and decode ten entries.")
@click.option("--picture", type=click.Path(path_type=Path), help="Of --check; default CHECK.png.")
@does("cache:cache")
def command() -> None:
    """Encode the data SRC into the folder OUT for MODEL: latents or codes, and text features of captions.

    Goes on where it was stopped; under torchrun the ranks share the shards. Train from it with --data cache:OUT.
    """
