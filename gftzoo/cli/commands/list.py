"""`gftzoo list`."""

from __future__ import annotations

import click

from gftzoo.cli.lazy import does


@click.command("list")
@click.argument("pattern", default="*")
@click.option("--family", help="Only models of this family.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@does("listing:show_models")
def command() -> None:
    """Browse the models whose name matches PATTERN, e.g. 'dit*'."""
