"""What commands take to start, as process time over that of `import torch`, first and again.

    python tools/startup.py --before OTHER/bin/python --out docs/results/startup.csv

Each command runs in a process of its own, in turn with the others, and with those of another version of gftzoo where
its interpreter is named; medians of the processor time of the process and of all it started. "First" has an empty cache
of what gftzoo has found out; "again" has that of the first. Byte code is there, as pip leaves it: a round before those
that are counted compiles it.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

TORCH = "import torch"
LIMITS = {  # over `import torch`
    "import gftzoo.engine": 1.4,
    "info dit-xl, first": 0.2,
    "info dit-xl, again": 0.2,
    "train --dry-run dit-xl, first": 1.5,
    "train --dry-run dit-xl, again": 1.5,
    "sample of a nano run": 2.0,
    "plugins": 1.3,
}


def command(python: str, *words: str) -> list[str]:
    """A command of gftzoo as a process."""
    return [python, "-c", f"from gftzoo.cli import main; main({list(words)!r})"]


def process_seconds(words: Sequence[str], home: Path, folder: Path) -> float:
    """The processor time of a process and of what it starts; it may fail, as a misspelt command does."""
    begin = _children()
    subprocess.run(words, capture_output=True, env=environment(home, folder), cwd=folder, check=False)
    return _children() - begin


def environment(home: Path, folder: Path) -> dict[str, str]:
    """A process's: one thread, byte code kept in `home`, and what gftzoo finds out in `folder`."""
    own = {"XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPYCACHEPREFIX": str(home / "code"), "OMP_NUM_THREADS": "1"}
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"} | own


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def jobs(python: str, run: Path) -> dict[str, list[str]]:
    """The processes to measure, in the order in which they run."""
    train = ("train", "dit-xl", "--gft", "--dry-run")
    return {
        TORCH: [python, "-c", "import torch"],
        "--help": command(python, "--help"),
        "list": command(python, "list"),
        "a misspelt model": command(python, "sample", "dit-nanoo"),
        "import gftzoo.engine": [python, "-c", "import gftzoo.engine"],
        "info dit-xl, first": command(python, "info", "dit-xl"),
        "info dit-xl, again": command(python, "info", "dit-xl"),
        "train --dry-run dit-xl, first": command(python, *train),
        "train --dry-run dit-xl, again": command(python, *train),
        "plugins": command(python, "plugins"),
        "sample of a nano run": command(python, "sample", str(run), "-n", "1", "--steps", "1", "--out", "x.png"),
    }


def measure(pythons: Sequence[str], rounds: int) -> list[dict[str, float]]:
    """Median seconds of each process over those of `import torch`, for each interpreter."""
    seconds: list[dict[str, list[float]]] = [{} for _ in pythons]
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        runs = [trained(python, home, home / str(index)) for index, python in enumerate(pythons)]
        for turn in range(rounds + 1):
            for python, run, found in zip(pythons, runs, seconds, strict=True):
                with tempfile.TemporaryDirectory() as folder:
                    for job, words in jobs(python, run).items():
                        taken = process_seconds(words, home, Path(folder))
                        found.setdefault(job, []).extend([taken] if turn else [])
    medians = [{job: statistics.median(values) for job, values in found.items()} for found in seconds]
    return [{job: value / found[TORCH] for job, value in found.items() if job != TORCH} for found in medians]


def trained(python: str, home: Path, folder: Path) -> Path:
    """The folder of a run of one step."""
    folder.mkdir()
    words = ("train", "dit-nano", "--gft", "--steps", "1", "--name", "nano")
    options = ("-o", "sample_grid=[1,1]", "-o", "batch_size=2")
    where = environment(home, folder)
    subprocess.run(command(python, *words, *options), cwd=folder, env=where, check=True, capture_output=True)
    return folder / "runs" / "nano"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", help="interpreter of an environment with another version of gftzoo")
    parser.add_argument("--out", type=Path, help="CSV file to write")
    arguments = parser.parse_args()
    pythons = [sys.executable, *([arguments.before] if arguments.before else [])]
    found = measure(pythons, arguments.rounds)
    rows = [(job, *(f"{each[job]:.2f}" for each in found), LIMITS.get(job, "")) for job in found[0]]
    for row in rows:
        print(*row, sep="  ", flush=True)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        columns = ("command", "over_import_torch", *(["before"] if arguments.before else []), "limit")
        with arguments.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *rows])


if __name__ == "__main__":
    main()
