"""The notes of a release: the part of CHANGELOG.md with its version, which must be the package's.

python tools/release_notes.py v0.1.0
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHANGELOG = ROOT / "CHANGELOG.md"


def notes(version: str, text: str) -> str:
    """What stands under `## VERSION`; ValueError where there is no such part, or it is empty."""
    found = re.search(rf"^## {re.escape(version)}\b[^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None or not found[1].strip():
        raise ValueError(f"CHANGELOG.md says nothing of {version}.")
    return found[1].strip() + "\n"


def package_version() -> str:
    """The version that the package says it has, read from its source."""
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "gftzoo" / "__init__.py").read_text("utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("tag", help="vX.Y.Z")
    version = parser.parse_args().tag.removeprefix("v")
    if version != package_version():
        parser.error(f"the tag is {version} and the package {package_version()}")
    print(notes(version, CHANGELOG.read_text(encoding="utf-8")), end="")


if __name__ == "__main__":
    main()
