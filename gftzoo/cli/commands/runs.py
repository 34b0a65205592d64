"""`gftzoo runs`."""

from __future__ import annotations

from pathlib import Path

import click

from gftzoo.cli.lazy import does


@click.command("runs")
@click.argument("folder", default="runs", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@does("runs:runs")
def command() -> None:
    """List the runs below FOLDER (default runs): state, step, last loss, best score."""
