"""What `gftzoo new-plugin` does."""

from __future__ import annotations

import re
from pathlib import Path

from gftzoo.atomic import folder_written_whole, is_free
from gftzoo.errors import UsageError
from gftzoo.plugins.discovery import installed_plugins
from gftzoo.printing import say
from gftzoo.zoo import catalogue

TEMPLATE = Path(__file__).parents[1] / "template"
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def make_plugin(name: str, out: Path) -> None:
    """Write the package of a new family NAME: as it is, it installs, trains, samples and passes check-plugin."""
    name = name.removeprefix("gftzoo-")
    folder = write_package(name, out)
    say(
        f"Wrote {folder}. Lines to change are marked CHANGE. Next:\n"
        f"  pip install -e {folder}\n"
        f"  gftzoo train {name}-nano --gft\n"
        f"  gftzoo check-plugin {name}"
    )


def write_package(name: str, out: Path) -> Path:
    """The folder of a new package in `out`; UsageError for a name that is no name or taken, or a folder in use."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a family; valid are lower-case words joined by hyphens, such as my-flow."
        )
    taken = {plugin.name for plugin in installed_plugins()} | set(catalogue().families)
    if name in taken:
        raise UsageError(f"there is a family {name!r} already; `gftzoo plugins` shows all, choose another name.")
    folder = out / f"gftzoo-{name}"
    if not is_free(folder):
        raise UsageError(f"{str(folder)!r} exists already; give another name, or another folder with --out.")
    with folder_written_whole(folder) as partial:
        for source in sorted(TEMPLATE.rglob("*")):
            if source.is_file() and "__pycache__" not in source.parts:
                target = partial / renamed(source.relative_to(TEMPLATE).as_posix(), name)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(renamed(source.read_text(encoding="utf-8"), name), encoding="utf-8")
    return folder


def renamed(text: str, name: str) -> str:
    """The template's text with the family's name for acme, in the spelling of its place."""
    module = name.replace("-", "_")
    for old, new in (
        ("gftzoo_acme", f"gftzoo_{module}"),
        ("test_acme", f"test_{module}"),
        ("Acme", "".join(word.capitalize() for word in name.split("-"))),
        ("acme", name),
    ):
        text = text.replace(old, new)
    return text
