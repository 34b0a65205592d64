"""`gftzoo info`."""

from __future__ import annotations

import click

from gftzoo.cli.completing import names
from gftzoo.cli.lazy import does


@click.command("info")
@click.argument("model", shell_complete=names)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@does("info:show_model")
def command() -> None:
    """Show the card of MODEL: sizes, recipes, weights, scores, sampler options, memory and FLOPs."""
