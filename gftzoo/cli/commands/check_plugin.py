"""`gftzoo check-plugin`."""

from __future__ import annotations

import click

from gftzoo.cli.lazy import does


@click.command("check-plugin")
@click.argument("name")
@click.option("--quick", is_flag=True, help="Leave out compilation and the run on two ranks.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@does("check_plugin:check_plugin")
def command() -> None:
    """Check that NAME (a distribution, family or model) keeps the contract; say which sentence it breaks."""
