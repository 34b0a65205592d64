"""What `gftzoo list` does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from gftzoo.catalogue.cards import ModelCard
from gftzoo.catalogue.registry import zoo_registry
from gftzoo.errors import nearest
from gftzoo.plugins.discovery import FAMILIES, active
from gftzoo.printing import say, say_json
from gftzoo.zoo import catalogue, list_models


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
    from gftzoo.cli.tables import add_row, show, table  # with rich, which programs that read --json need not wait for

    result = table("model", "family", "params", "px", "FID", "FID with CFG", "weights", "plugin")
    for row in rows:
        fids = [f"{row[key]:.2f}" if row[key] is not None else "" for key in ("fid", "fid_with_cfg")]
        weights = ", ".join(row["weights"]) or "none"
        size = [millions(row["parameters"]), str(row["resolution"])]
        add_row(result, row["model"], row["family"], *size, *fids, weights, row["plugin"])
    show(result)
    say("FID as published, lowest; the protocol of each score is in `gftzoo info MODEL`.")


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
