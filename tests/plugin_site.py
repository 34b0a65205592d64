"""An environment with plugins in it: a folder on the path, with modules and the metadata of distributions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gftzoo.families.finding import load_family
from gftzoo.plugins.discovery import FAMILIES, installed_plugins
from gftzoo.zoo import catalogue

WORKING = """
from gftzoo.contract.hookspecs import hookimpl
class Family:
    {attributes}
    @hookimpl
    def build_network(self, card): ...
    @hookimpl
    def draw_problem(self, model, latents, generator): ...
    @hookimpl
    def predict(self, model, problem, condition, beta): ...
    @hookimpl
    def loss_term(self, model, prediction, problem): ...
    @hookimpl
    def condition_drop(self, model, condition, dropped): ...
    {last}
"""
SAMPLER = "@hookimpl\n    def temperature_sampler(self, model, condition, guidance, settings, generator): ..."


def source(attributes: str = "", last: str = SAMPLER) -> str:
    return WORKING.format(attributes=attributes, last=last)


class Site:
    """A folder on the path that looks like an environment with distributions in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self,
        name: str,
        code: str,
        *,
        family: str | None = None,
        requires: str = "",
        registry: str = "",
        group: str = FAMILIES,
        attribute: str = "Family",
    ) -> None:
        module = f"plugin_{name.replace('-', '_')}"
        package = self.folder / module
        package.mkdir()
        (package / "__init__.py").write_text(code)
        if registry:
            (package / "registry.yaml").write_text(registry)
        info = self.folder / f"{name}-1.2.dist-info"
        info.mkdir()
        needs = f"Requires-Dist: {requires}\n" if requires else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n{needs}")
        (info / "entry_points.txt").write_text(f"[{group}]\n{family or name} = {module}:{attribute}\n")


def forget() -> None:
    for cached in (installed_plugins, load_family, catalogue):
        cached.cache_clear()


@pytest.fixture
def site(tmp_path: Path, monkeypatch) -> Iterator[Site]:
    monkeypatch.syspath_prepend(str(tmp_path))
    forget()
    yield Site(tmp_path)
    forget()
    for module in [m for m in sys.modules if m.startswith("plugin_")]:
        del sys.modules[module]
