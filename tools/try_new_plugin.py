"""What an author of a new family does first, with nothing edited: new-plugin, install, list, train, sample, check.

    python tools/try_new_plugin.py --pip

Without --pip the package is installed by writing its metadata, which needs neither network nor a build backend.
"""

from __future__ import annotations

import argparse
import os
import shutil
import site
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

NAME = "acme"


def install_metadata(package: Path, folder: Path) -> dict[str, str]:
    """Puts code and metadata into `folder`, as an installer does; the environment in which Python finds them."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    module = project["name"].replace("-", "_")
    shutil.copytree(package / module, folder / module)
    info = folder / f"{module}-{project['version']}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in project["dependencies"]]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


def install_by_pip(package: Path, folder: Path) -> str:
    """A fresh environment that sees the packages of this one, with the plugin installed; its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    paths = "".join(f"import site; site.addsitedir({path!r})\n" for path in site.getsitepackages())
    (folder / "lib" / version / "site-packages" / "parent.pth").write_text(paths)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", str(package)], check=True)
    return str(python)


def try_plugin(folder: Path, *, pip: bool, quick: bool) -> None:
    """Every step in turn; SystemExit with its output if one fails."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads slow networks of this size down
    python, environment = sys.executable, dict(os.environ)

    def gftzoo(*words: str) -> str:
        print("$ gftzoo", *words, flush=True)
        done = subprocess.run(
            [python, "-m", "gftzoo", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        print(done.stdout, done.stderr, sep="", flush=True)
        if done.returncode:
            raise SystemExit(f"gftzoo {' '.join(words)} ended with exit code {done.returncode}.")
        return done.stdout

    gftzoo("new-plugin", NAME)
    package = folder / f"gftzoo-{NAME}"
    if pip:
        python = install_by_pip(package, folder / "env")
    else:
        environment = install_metadata(package, folder / "site")
    if f"{NAME}-nano" not in gftzoo("list", f"{NAME}*"):
        raise SystemExit(f"gftzoo list does not show {NAME}-nano.")
    gftzoo("train", f"{NAME}-nano", "--gft", "--steps", "3")
    gftzoo("sample", f"runs/{NAME}-nano-gft", "--beta", "0.5", "-n", "4", "--out", "grid.png")
    gftzoo("check-plugin", NAME, *(["--quick"] if quick else []))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pip", action="store_true", help="install with pip into a fresh environment")
    parser.add_argument("--quick", action="store_true", help="leave the slow checks out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try_plugin(Path(folder), pip=arguments.pip, quick=arguments.quick)
    print(f"Installed {'by pip' if arguments.pip else 'by its metadata'}, listed, trained, sampled and checked.")


if __name__ == "__main__":
    main()
