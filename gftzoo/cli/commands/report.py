"""`gftzoo report`."""

from __future__ import annotations

from pathlib import Path

import click

from gftzoo.cli.lazy import does


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@does("runs:report")
def command() -> None:
    """Write the report.html of RUN anew, e.g. with scores that came later: one file that needs nothing beside it."""
