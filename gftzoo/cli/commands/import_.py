"""`gftzoo import`."""

from __future__ import annotations

from pathlib import Path

import click

from gftzoo.cli.lazy import completes, does


@click.command("import")
@click.argument("model", shell_complete=completes("names"))
@click.argument("weights")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--entry", type=click.Choice(["raw", "ema"]), help="Which weights, of both (default ema).")
@does("transfer:import_weights")
def command() -> None:
    """Read the official WEIGHTS of MODEL (a file, or a checkpoint name of its card) and write the folder OUT.

    The file is never executed. OUT holds safetensors and the card; `gftzoo sample OUT` and --weights take it.
    """
