"""`gftzoo compare`."""

from __future__ import annotations

from pathlib import Path

import click

from gftzoo.cli.lazy import does


@click.command("compare")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--out", default="compare.html", type=click.Path(path_type=Path, dir_okay=False), help="The page.")
@does("runs:compare")
def command() -> None:
    """Put two runs side by side: curves, scores of the same protocol, samples of the same seeds; one HTML file."""
