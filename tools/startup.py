"""What commands take to start, as process time over that of `import torch`, first and again.

    python tools/startup.py --out docs/results/startup.csv

Each command runs in a process of its own, in turn with the others; medians of the processor time of the process and of
all it started. "First" has an empty cache of what gftzoo has found out; "again" has that of the first.
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

LIMITS = {  # over `import torch`
    "import gftzoo.engine": 1.4,
    "info dit-xl, first": 0.2,
    "info dit-xl, again": 0.2,
    "train --dry-run dit-xl, first": 1.5,
    "train --dry-run dit-xl, again": 1.5,
    "sample of a nano run": 2.0,
    "plugins": 1.3,
}


def command(*words: str) -> list[str]:
    """A command of gftzoo as a process."""
    return [sys.executable, "-c", f"from gftzoo.cli import main; main({list(words)!r})"]


def process_seconds(words: Sequence[str], folder: Path) -> float:
    """The processor time of a process and of what it starts; it may fail, as a misspelt command does."""
    begin = _children()
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    subprocess.run(words, capture_output=True, env=environment, cwd=folder, check=False)
    return _children() - begin


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def jobs(run: Path) -> dict[str, list[str]]:
    """The processes to measure, in the order in which they run."""
    train = ("train", "dit-xl", "--gft", "--dry-run")
    return {
        "python -c 'import torch'": [sys.executable, "-c", "import torch"],
        "--help": command("--help"),
        "list": command("list"),
        "a misspelt model": command("sample", "dit-nanoo"),
        "import gftzoo.engine": [sys.executable, "-c", "import gftzoo.engine"],
        "info dit-xl, first": command("info", "dit-xl"),
        "info dit-xl, again": command("info", "dit-xl"),
        "train --dry-run dit-xl, first": command(*train),
        "train --dry-run dit-xl, again": command(*train),
        "plugins": command("plugins"),
        "sample of a nano run": command("sample", str(run), "-n", "1", "--steps", "1", "--out", "x.png"),
    }


def measure(rounds: int) -> dict[str, float]:
    """Median seconds of each process."""
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as home:
        run = Path(home) / "runs" / "nano"
        words = ("train", "dit-nano", "--gft", "--steps", "1", "--name", "nano", "-o", "sample_grid=[1,1]")
        subprocess.run(command(*words, "-o", "batch_size=2"), cwd=home, check=True, capture_output=True)
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                for name, words_of in jobs(run).items():
                    seconds.setdefault(name, []).append(process_seconds(words_of, Path(folder)))
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="CSV file to write")
    arguments = parser.parse_args()
    seconds = measure(arguments.rounds)
    torch = seconds.pop("python -c 'import torch'")
    rows = [(name, f"{found / torch:.2f}", LIMITS.get(name, "")) for name, found in seconds.items()]
    for name, ratio, limit in rows:
        print(f"{name:>32}  {ratio}  {limit and f'at most {limit}'}")
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with arguments.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("command", "over_import_torch", "limit"), *rows])


if __name__ == "__main__":
    main()
