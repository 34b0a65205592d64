"""What `gftzoo check-plugin` does."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gftzoo.cli.tables import add_row, show, table
from gftzoo.errors import PluginError, UsageError, nearest
from gftzoo.families.finding import find_family
from gftzoo.installed import report
from gftzoo.plugins.discovery import FAMILIES, active
from gftzoo.printing import plain, say, say_json
from gftzoo.testing import CHECKS, Finding, examine, subject_of
from gftzoo.zoo import catalogue, get_card

LARGEST = 100_000_000  # weights of a model that is built some dozens of times


def check_plugin(name: str, quick: bool, as_json: bool) -> None:
    """Check that NAME (a distribution, family or model) keeps the contract; say which sentence it breaks."""
    found = {model: examine_model(model, quick) for model in models_of(name)}
    broken = [finding for findings in found.values() for finding in findings if not finding.holds]
    if as_json:
        records = [{"model": model, **finding.record()} for model, findings in found.items() for finding in findings]
        say_json(records)
    else:
        for model, findings in found.items():
            show(findings_table(model, findings))
        explain(broken)
    total = sum(len(findings) for findings in found.values())
    if broken:
        hooks = ", ".join(dict.fromkeys(finding.hook for finding in broken))
        raise PluginError(f"{name} breaks {len(broken)} of {total} sentences of the contract; mend {hooks}.")
    say(f"{name} keeps the contract: {total} of {total} checks.", err=True)


def models_of(name: str) -> list[str]:
    """The models to check: of a distribution, one per family; PluginError if its plugin does not load."""
    if ":" in name:  # made by a plugin, of a folder
        get_card(name)
        return [name]
    families = [p for p in active(FAMILIES) if name in (p.distribution, p.name)]
    if not families:
        if name in catalogue().models:
            return [name]
        if name in catalogue().families:
            find_family(name)  # which says how to install it
        known = {n for p in active(FAMILIES) for n in (p.distribution, p.name)}
        raise UsageError(
            f"no distribution, family or model is called {name!r}{nearest(name, known)}; `gftzoo plugins` shows all."
        )
    for plugin in families:
        found = report(plugin)
        if found.state != "ok":
            raise PluginError(found.reason)
    cards = [subject_of(plugin.name).card for plugin in families]
    large = next((card for card in cards if card.parameters > LARGEST), None)
    if large is not None:
        raise UsageError(
            f"the smallest model of {large.family}, {large.name}, has {large.parameters:,} weights, and at most "
            f"{LARGEST:,} are checked; name a small one, e.g. gftzoo check-plugin diffusers:FOLDER."
        )
    return [card.name for card in cards]


def examine_model(model: str, quick: bool) -> list[Finding]:
    """All findings of a model, saying on standard error what is being done."""
    torch.set_num_threads(1)  # threads slow networks of this size down, on a busy machine a hundredfold
    checks = [check for check in CHECKS if not (quick and check.slow)]
    findings = []
    with Console(stderr=True, markup=False).status(f"checking {plain(model)}") as status:
        for check in checks:
            if sys.stderr.isatty():
                status.update(f"checking {plain(model)}: {check.title}")
            findings.append(examine(subject_of(model), check))
    return findings


def findings_table(model: str, findings: Iterable[Finding]) -> Table:
    """One line per check: whether it holds, and what was measured."""
    result = table(model, "", "seconds", "measured")
    for finding in findings:
        mark = "ok" if finding.holds else Text("BROKEN", "bold red")
        measured = finding.numbers if finding.holds else "see below"
        add_row(result, finding.check, mark, f"{finding.seconds:.1f}", measured)
    return result


def explain(broken: Iterable[Finding]) -> None:
    """Each failure: the sentence of the contract, and the numbers."""
    for finding in broken:
        show(Text.assemble((plain(finding.check), "bold red"), f"  {plain(finding.title)}"))
        show(Text.assemble(f"  contract, {plain(finding.hook)}: ", (plain(finding.sentence), "italic")))
        show(f"  measured: {plain(finding.numbers)}\n")
