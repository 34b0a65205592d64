"""`gftzoo list`, `info` and `plugins`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from pydantic import BaseModel

from gftzoo.catalogue.registry import zoo_registry
from gftzoo.contract.hookspecs import PROJECT
from gftzoo.errors import nearest
from gftzoo.plugins.discovery import FAMILIES, active, installed_plugins, malformed_distributions
from gftzoo.printing import LONGEST_LINE, LONGEST_NAME, plain, plain_lines, say, say_json
from gftzoo.zoo import catalogue, get_card, list_models

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from gftzoo.catalogue.cards import ModelCard
    from gftzoo.families.family import Family
    from gftzoo.installed import PluginReport


def table(*columns: str) -> Table:
    """A plain table that survives being piped."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    result = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        result.add_column(plain(name, LONGEST_NAME), no_wrap=name in {"model", "family"})
    return result


def add_row(rows: Table, *cells: Text | str) -> None:
    """Adds a row whose cells are shown as they are: no markup, no control characters; lines are kept."""
    from rich.text import Text

    rows.add_row(*(cell if isinstance(cell, Text) else Text(plain_lines(cell, LONGEST_LINE)) for cell in cells))


def show(what: Table | Text | str) -> None:
    """Prints a table or a text, as wide as the terminal and never folded in a pipe; markup in it is not obeyed."""
    import sys

    from rich.console import Console

    width = None if sys.stdout.isatty() else 160
    Console(width=width, soft_wrap=False, markup=False, emoji=False, highlight=False).print(what)


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


@click.command("list")
@click.argument("pattern", default="*")
@click.option("--family", help="Only models of this family.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def list_command(pattern: str, family: str | None, as_json: bool) -> None:
    """Browse the models whose name matches PATTERN, e.g. 'dit*'."""
    installed = providers()
    rows = [summary(card, installed) for card in list_models(pattern, family)]
    if as_json:
        say_json(rows)
        return
    if not rows:
        hint = nearest(pattern, catalogue().models)
        raise click.UsageError(f"no model matches {pattern!r}{hint}; `gftzoo list` shows all.")
    result = table("model", "family", "params", "px", "FID", "FID with CFG", "weights", "plugin")
    for row in rows:
        fids = [f"{row[key]:.2f}" if row[key] is not None else "" for key in ("fid", "fid_with_cfg")]
        weights = ", ".join(row["weights"]) or "none"
        size = [millions(row["parameters"]), str(row["resolution"])]
        add_row(result, row["model"], row["family"], *size, *fids, weights, row["plugin"])
    show(result)
    say("FID as published, lowest; the protocol of each score is in `gftzoo info MODEL`.")


@click.command("info")
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def info_command(model: str, as_json: bool) -> None:
    """Show the card of MODEL: sizes, recipes, weights, scores, sampler options, memory and FLOPs."""
    card = get_card(model)
    facts = card.model_dump(mode="json")
    facts["recipes"] = {name: facts["recipes"][name] for name in card.offered}
    installed = providers()
    facts["plugin"] = provider(card, installed)
    if card.family in installed:
        from gftzoo.families.finding import load_family  # with torch

        family = load_family(card.family)
        options = family.options()
        facts["sampler_options"] = schema_options(options.sampler, card.sampler)
        facts["network_options"] = schema_options(options.network, card.network)
        facts["exports"] = ["safetensors", "official", "adapter", *options.exports]
        facts["training_step"] = training_step(card, family)
    if as_json:
        say_json(facts)
        return
    show(info_table(facts))


def schema_options(schema: type[BaseModel], own: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a family's option schema: default (the card's, if it has one) and description."""
    return {
        name: f"{own.get(name, field.get_default(call_default_factory=True))!r}  {field.description or ''}".rstrip()
        for name, field in schema.model_fields.items()
    }


def training_step(card: ModelCard, family: Family) -> dict[str, Any]:
    """Memory and FLOPs of a GFT training step of one image at the model's own resolution, in fp32."""
    import torch

    from gftzoo.engine import Job, TrainConfig
    from gftzoo.engine.parallel.place import Place
    from gftzoo.engine.run import estimate

    config = TrainConfig(
        model=card.name, card=card.change(temperature=True), data=card.data or "own", steps=1, batch_size=1
    )
    cost = estimate.training_cost(Job(config, family), Place(torch.device("cpu")))
    return {
        "parameters": cost.parameters,
        "state_gib": round(cost.state_bytes / estimate.GIB, 3),
        "activations_gib_per_image": cost.activation_bytes and round(cost.activation_bytes / estimate.GIB, 4),
        "teraflops_per_image": cost.flops_per_image and round(cost.flops_per_image / 1e12, 4),
    }


def info_table(facts: dict[str, Any]) -> Table:
    """The card as two columns; nested values one per line."""
    result = table("", facts["name"])
    for key, value in facts.items():
        if key != "name" and value not in (None, {}, [], ""):
            add_row(result, key, _lines(value))
    return result


def _lines(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{k}: {_compact(v)}" for k, v in value.items())
    if isinstance(value, list):
        return "\n".join(_compact(v) for v in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _compact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items() if v not in (None, {}, [], ""))
    return str(value)


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def plugins_command(as_json: bool) -> None:
    """Show what is installed, loading each plugin in turn, with the reason for any that fails."""
    from gftzoo.installed import report  # with torch

    others = [plugin for plugin in installed_plugins() if plugin.distribution != PROJECT]  # gftzoo's own are no news
    rows = [plugin_row(report(plugin)) for plugin in others]
    named = {row["distribution"] for row in rows}
    rows += [malformed_row(*found) for found in malformed_distributions() if found[0] not in named]
    if as_json:
        say_json(rows)
        return
    if not rows:
        say("No plugins are installed; try `pip install gftzoo-diffusion`.")
        return
    result = table(*rows[0])
    for row in rows:
        add_row(result, *(plain(value) for value in row.values()))
    show(result)


def plugin_row(found: PluginReport) -> dict[str, Any]:
    """One row of `gftzoo plugins`."""
    return {
        "plugin": plain(found.plugin.name, LONGEST_NAME),
        "kind": found.plugin.group.removeprefix("gftzoo."),
        "distribution": found.plugin.distribution,
        "version": found.plugin.version,
        "state": found.state,
        "models": found.models,
        "reason": plain(found.reason),
    }


def malformed_row(folder: str, reason: str) -> dict[str, Any]:
    """The row of a distribution whose metadata cannot be read, named by its folder."""
    row = {"plugin": "?", "kind": "unknown", "distribution": folder, "version": "?", "state": "broken"}
    return row | {"models": 0, "reason": f"{reason}; reinstall or remove it"}
