"""The parts of the documentation that are made from the code, as hooks of the site generator (see mkdocs.yml).

A page asks for one with `<!-- generated: NAME ARGUMENT -->`; the names are the keys of `GENERATORS`.
"""

from __future__ import annotations

import ast
import logging
import posixpath
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docs_parts import documentation, fields, signature, table

import gftzoo
from gftzoo.catalogue.cards import (
    Checkpoint,
    FamilyEntry,
    LearningRate,
    ModelCard,
    Recipe,
    Registry,
    Score,
    TokenizerSpec,
)
from gftzoo.catalogue.registry import zoo_registry
from gftzoo.cli import listing
from gftzoo.contract.hookspecs import GenerativeFamily
from gftzoo.families.finding import REQUIRED_HOOKS
from gftzoo.plugins.discovery import GROUPS
from gftzoo.zoo import catalogue, list_models

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
MARKER = re.compile(r"^<!-- generated: (?P<name>[\w-]+)(?: (?P<argument>\S+))? -->$", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[(?P<label>[^\]]+)\]\((?P<target>(?!\w+:|#)[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
LOG = logging.getLogger("mkdocs.plugins.docs_pages")


# ---- the contract

FAMILY_NAMES = ("family", "load_family(card.family)", "load_family(plugin.name)")  # what a family is held in


def hook_names() -> list[str]:
    """All hooks, in the order of the contract."""
    return [name for name in vars(GenerativeFamily) if not name.startswith("_")]


def hook_table() -> str:
    """Every hook with the first sentence of its docstring."""
    rows = []
    for name in hook_names():
        sentence = documentation(getattr(GenerativeFamily, name)).split("\n\n")[0].replace("\n", " ")
        rows.append([f"[`{name}`](#{name})", "required" if name in REQUIRED_HOOKS else "optional", sentence])
    return table(["hook", "needed", "gives"], rows)


def hook(name: str) -> str:
    """One hook: its signature, its docstring, and the modules of the core that call it."""
    function = getattr(GenerativeFamily, name)
    return f"```text\n{signature(name, function)}\n```\n\n{documentation(function)}\n\n{called_from(name)}"


def called_from(name: str) -> str:
    """The modules of the core that call a hook, read from their source."""
    core = (path for path in sorted((ROOT / "gftzoo").rglob("*.py")) if "testing" not in path.parts)
    modules = [f"`{path.relative_to(ROOT)}`" for path in core if name in family_calls(path)]
    return f"*Called in* {', '.join(modules)}."


@cache
def family_calls(path: Path) -> set[str]:
    """The methods that a module calls on a family."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    return {f.attr for f in calls if isinstance(f, ast.Attribute) and ast.unparse(f.value).endswith(FAMILY_NAMES)}


def groups() -> str:
    """The groups of entry points, with what their values are."""
    return table(["group", "holds"], [[f"`{name}`", text] for name, text in GROUPS.items()])


# ---- models and their cards


def models() -> str:
    """Every model of the catalogue, one table a family."""
    parts = []
    for name, family in catalogue().families.items():
        rows = [model_row(card) for card in list_models(family=name)]
        head = ["model", "parameters", "px", "FID", "FID with CFG", "weights", "licence"]
        parts.append(
            f"## {family.summary}\n\nFamily `{name}`, `pip install {family.distribution}`.\n\n{table(head, rows)}"
        )
    return "\n\n".join(parts)


def model_row(card: ModelCard) -> list[str]:
    """A row of the model table."""
    row = listing.summary(card, listing.providers())
    fids = ["" if row[key] is None else f"{row[key]:.2f}" for key in ("fid", "fid_with_cfg")]
    size = [listing.millions(card.parameters), str(card.resolution)]
    return [f"`{card.name}`", *size, *fids, ", ".join(row["weights"]), card.licence]


def card_fields() -> str:
    """Every field of a registry file, model by model of its schema."""
    schemas = (Registry, FamilyEntry, ModelCard, TokenizerSpec, Checkpoint, Recipe)
    return "\n\n".join(fields(schema) for schema in (*schemas, LearningRate, Score))


GENERATORS: dict[str, Callable[..., str]] = {
    "card-fields": card_fields,
    "groups": groups,
    "hook": hook,
    "hooks": hook_table,
    "models": models,
}


def generate(markdown: str) -> str:
    """A page with its generated parts; KeyError for one that does not exist."""
    return MARKER.sub(lambda m: GENERATORS[m["name"]](*filter(None, [m["argument"]])), markdown)


# ---- what mkdocs calls


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the version, the families, and pages that the navigation does not name; leaves out unwritten ones."""
    config.copyright = f"gftzoo {gftzoo.__version__}, Apache-2.0"
    docs = Path(config.docs_dir)
    named = str(config.nav)
    others = [path.name for path in sorted(docs.glob("*.md")) if f"'{path.name}'" not in named]
    config.nav = [
        *written(config.nav or [], docs),
        {"Families": list(family_pages())},
        *([{"More": others}] if others else []),
    ]
    return config


def written(nav: list[Any], docs: Path) -> list[Any]:
    """The entries of a navigation whose pages are there."""
    found: list[Any] = []
    for entry in nav:
        ((title, place),) = entry.items()
        if isinstance(place, list):
            found.append({title: written(place, docs)})
        elif (docs / place).is_file():
            found.append(entry)
        else:
            LOG.info("%s is not written yet and left out of the navigation", place)
    return found


def family_pages() -> dict[str, Path]:
    """The page of every family, by its place in the site: its own, or the README of its plugin."""
    found = {}
    for own_name, family in zoo_registry().families.items():
        name, pages = (family.nano or own_name).removesuffix("-nano"), ROOT / "docs" / "families"
        shared = name.partition("-")[0]  # of several families, one page
        name = shared if (pages / f"{shared}.md").is_file() else name
        own = pages / f"{name}.md"
        found[f"families/{name}.md"] = own if own.is_file() else ROOT / "plugins" / family.distribution / "README.md"
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the READMEs of families that have no page of their own."""
    from mkdocs.structure.files import File

    for place, path in family_pages().items():
        if files.get_file_from_path(place) is None:
            files.append(File.generated(config, place, content=path.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: object) -> str:
    """Fills in what is generated, mends links that lead out of the site, and says where the page is edited."""
    source = family_pages().get(page.file.src_uri, Path(config.docs_dir, page.file.src_uri))
    if repository := config.extra["repository"]:
        page.edit_url = f"{repository}/edit/main/{source.relative_to(ROOT).as_posix()}"

    def mended(match: re.Match[str]) -> str:
        target = (source.parent / match["target"]).resolve()
        if not target.exists():
            LOG.warning("%s links to %s, which does not exist", source.relative_to(ROOT), match["target"])
        if not target.is_relative_to(config.docs_dir) or target.suffix not in {".md", ".png", ".csv"}:
            return match["label"]
        place = target.relative_to(config.docs_dir).as_posix()
        return f"[{match['label']}]({posixpath.relpath(place, page.file.src_uri + '/..')}{match['anchor'] or ''})"

    return generate(LINK.sub(mended, markdown))
