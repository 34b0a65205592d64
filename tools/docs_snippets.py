"""The snippets of a documentation page: the files it shows, the Python that runs, the commands it gives.

    python tools/docs_snippets.py docs/tutorial.md FOLDER      # writes the page's files into FOLDER, runs its commands

A fenced block is a file's text if the line before it is nothing but the file's name in backquotes, else Python to run
(```python) or commands (```sh). `<!-- not run: REASON -->` before a block leaves it alone.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```\s*$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^(?: {4}.*)?\n)+", re.MULTILINE)
FILE = re.compile(r"^`([\w./-]+)`$")
NOT_RUN = re.compile(r"^<!-- not run: .+ -->$")
PROGRAMS = ("gftzoo", "pip", "python", "python3", "torchrun", "mkdocs")


@dataclass(frozen=True)
class Snippet:
    """A block of code of a page."""

    language: str
    text: str
    line: int
    file: str | None = None
    runs: bool = True


def snippets(page: Path) -> list[Snippet]:
    """The fenced blocks of a page in order, then its indented blocks of commands."""
    markdown = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(markdown):
        before = markdown[: match.start()].rstrip().rpartition("\n")[2]
        name = FILE.match(before)
        line = markdown.count("\n", 0, match.start()) + 1
        runs = not NOT_RUN.match(before)
        found.append(Snippet(match["language"], match["text"], line, name and name[1], runs))
    rest = FENCE.sub("", markdown)
    blocks = [re.sub(r"^ {4}", "", match[0], flags=re.MULTILINE).strip() for match in INDENTED.finditer(rest)]
    commands = [block for block in blocks if block.split(" ", 1)[0] in PROGRAMS]
    return found + [Snippet("sh", f"{block}\n", 0) for block in commands]


def files(page: Path) -> dict[str, str]:
    """The files that a page shows, by name."""
    return {snippet.file: snippet.text for snippet in snippets(page) if snippet.file}


def commands(snippet: Snippet) -> list[list[str]]:
    """The commands of a shell block as words, without comments; lines end where no backslash goes on."""
    lines = snippet.text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def write_files(page: Path, folder: Path) -> list[Path]:
    """Writes the files that a page shows; returns the folders of the packages among them."""
    for name, text in files(page).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return sorted(path.parent for path in folder.glob("*/pyproject.toml"))


def make_importable(package: Path) -> None:
    """Gives a package's folder the metadata an installer would write, so that being on the path is enough."""
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    folder = package / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    folder.mkdir()
    head = {"Metadata-Version": "2.1", "Name": project["name"], "Version": project["version"]}
    lines = [f"{key}: {value}" for key, value in head.items()]
    lines += [f"Requires-Dist: {requirement}" for requirement in project.get("dependencies", [])]
    (folder / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
    groups = project.get("entry-points", {}).items()
    entries = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in groups]
    (folder / "entry_points.txt").write_text("\n".join(entries), encoding="utf-8")


def run_page(page: Path, folder: Path) -> None:
    """Writes a page's files into the folder and runs its commands there, as they stand."""
    write_files(page, folder)
    for snippet in snippets(page):
        if snippet.language == "sh" and snippet.runs:
            for words in commands(snippet):
                print("+", shlex.join(words), flush=True)
                program = {"pip": ["-m", "pip"], "gftzoo": ["-m", "gftzoo"], "python": []}[words[0]]
                subprocess.run([sys.executable, *program, *words[1:]], cwd=folder, check=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("folder", type=Path, help="a new folder for files, runs and pictures")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True)
    run_page(arguments.page, arguments.folder)


if __name__ == "__main__":
    main()
