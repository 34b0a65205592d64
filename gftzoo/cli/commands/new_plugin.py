"""`gftzoo new-plugin`."""

from __future__ import annotations

from pathlib import Path

import click

from gftzoo.cli.lazy import does


@click.command("new-plugin")
@click.argument("name")
@click.option(
    "--out",
    default=".",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder in which the package's folder gftzoo-NAME is made; default here.",
)
@does("new_plugin:make_plugin")
def command() -> None:
    """Write the package of a new family NAME: as it is, it installs, trains, samples and passes check-plugin."""
