"""What `gftzoo list` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from gftzoo.catalogue.cards import ModelCard
from gftzoo.catalogue.registry import zoo_registry
from gftzoo.errors import nearest
from gftzoo.plugins.discovery import FAMILIES, active
from gftzoo.printing import say, say_json, terminal_width
from gftzoo.zoo import catalogue, list_models

COLUMNS = ("model", "family", "params", "px", "FID", "FID with CFG", "weights", "plugin")
GAP = "   "


def show_models(pattern: str, family: str | None, as_json: bool) -> None:
    """Browse the models whose name matches PATTERN, e.g. 'dit*'."""
    installed = providers()
    rows = [summary(card, installed) for card in list_models(pattern, family)]
    if as_json:
        say_json(rows)
        return
    if not rows:
        hint = nearest(pattern, catalogue().models)
        raise click.UsageError(f"no model matches {pattern!r}{hint}; `gftzoo list` shows all.")
    show_cells([COLUMNS, *map(cells, rows)])
    say("FID as published, lowest; the protocol of each score is in `gftzoo info MODEL`.")


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row as people read it."""
    fids = [f"{row[key]:.2f}" if row[key] is not None else "" for key in ("fid", "fid_with_cfg")]
    size = [millions(row["parameters"]), str(row["resolution"])]
    return [row["model"], row["family"], *size, *fids, ", ".join(row["weights"]) or "none", row["plugin"]]


def show_cells(rows: Sequence[Sequence[str]]) -> None:
    """Prints columns below their names; where they are wider than the terminal, as a table that folds them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if sum(widths) + len(GAP) * len(widths) <= terminal_width():
        lines = [GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        say("\n".join(["", lines[0], "─" * max(map(len, lines)), *lines[1:], ""]))
        return
    from gftzoo.cli.tables import add_row, show, table  # with rich, which takes longer than all the rest of `list`

    result = table(*rows[0])
    for row in rows[1:]:
        add_row(result, *row)
    show(result)


def millions(count: int) -> str:
    """675.1M, 3.1B, 0.8M."""
    return f"{count / 1e9:.2f}B" if count >= 1e9 else f"{count / 1e6:.1f}M"


def best_fid(card: ModelCard, guided: bool) -> float | None:
    """The lowest published FID with or without guidance (GFT counts as without)."""
    fids = [s.fid for s in card.scores if s.fid is not None and s.guidance.startswith("cfg") == guided]
    return min(fids, default=None)


def providers() -> dict[str, str]:
    """The distributions that provide the installed families."""
    own = zoo_registry().families
    found = {plugin.name: plugin.distribution for plugin in reversed(list(active(FAMILIES)))}
    for plugin in active(FAMILIES):
        if plugin.name in own and plugin.distribution == own[plugin.name].distribution:
            found[plugin.name] = plugin.distribution  # whoever else claims the family
    return found


def provider(card: ModelCard, installed: Mapping[str, str]) -> str:
    """The distribution that provides the model's family, or the command that installs it."""
    if card.family in installed:
        return installed[card.family]
    entry = catalogue().families.get(card.family)
    return f"pip install {entry.distribution}" if entry else "unknown"


def summary(card: ModelCard, installed: Mapping[str, str]) -> dict[str, Any]:
    """One row of `gftzoo list`."""
    return {
        "model": card.name,
        "family": card.family,
        "parameters": card.parameters,
        "resolution": card.resolution,
        "fid": best_fid(card, guided=False),
        "fid_with_cfg": best_fid(card, guided=True),
        "weights": sorted(card.checkpoints),
        "plugin": provider(card, installed),
    }
