"""`gftzoo plugins`."""

from __future__ import annotations

import click

from gftzoo.cli.lazy import does


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@does("plugins:show_plugins")
def command() -> None:
    """Show what is installed, loading each plugin in turn, with the reason for any that fails."""
