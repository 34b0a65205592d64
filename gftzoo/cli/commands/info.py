"""`gftzoo info`."""

from __future__ import annotations

import click

from gftzoo.cli.lazy import completes, does


@click.command("info")
@click.argument("model", shell_complete=completes("names"))
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@does("info:show_model")
def command() -> None:
    """Show the card of MODEL: sizes, recipes, weights, scores, sampler options, memory and FLOPs."""
