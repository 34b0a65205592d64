"""What a shell completes: the names of models, and the runs below `runs/`. No torch here."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem

from gftzoo.zoo import catalogue

CONFIG = "config.yaml"  # what makes a folder a run


def names(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Models whose name begins so, with what they are."""
    cards = catalogue().models.items()
    return [CompletionItem(name, help=card.summary) for name, card in cards if name.startswith(begun)]


def runs(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Runs whose path begins so; what is not below `runs/` is left to the shell, as the path of a folder."""
    found = sorted(path.parent.as_posix() for path in Path("runs").glob(f"*/{CONFIG}"))
    below = [CompletionItem(path) for path in found if path.startswith(begun)]
    return below or [CompletionItem(begun, type="dir")]


def names_and_runs(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Models and runs that begin so."""
    return [*names(_context, _parameter, begun), *runs(_context, _parameter, begun)]
