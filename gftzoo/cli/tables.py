"""Tables and texts as people read them, on a terminal or through a pipe."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gftzoo.printing import LONGEST_LINE, LONGEST_NAME, plain, plain_lines, terminal_width


def table(*columns: str) -> Table:
    """A plain table that survives being piped."""
    result = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        result.add_column(plain(name, LONGEST_NAME), no_wrap=name in {"model", "family"})
    return result


def add_row(rows: Table, *cells: Text | str) -> None:
    """Adds a row whose cells are shown as they are: no markup, no control characters; lines are kept."""
    rows.add_row(*(cell if isinstance(cell, Text) else Text(plain_lines(cell, LONGEST_LINE)) for cell in cells))


def show(what: Table | Text | str) -> None:
    """Prints a table or a text, as wide as the terminal and never folded in a pipe; markup in it is not obeyed."""
    Console(width=terminal_width(), soft_wrap=False, markup=False, emoji=False, highlight=False).print(what)
