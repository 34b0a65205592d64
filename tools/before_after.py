"""What this version of gftzoo takes beside another one, item by item, in one run: `tools/benchmark.py --before`.

The two are measured in turn, each by its own interpreter and in processes of its own, by processor time on one thread.
Others may share the machine, which only ever adds: of several rounds the least counts, but of start-up the median.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import operations
import startup
from PIL import Image

PROBE = Path(__file__).with_name("version_probe.py")
BATCHES = {"dit-nano": 16, "llamagen-nano": 16, "var-nano": 64, "mar-nano": 16, "sd-nano": 4}
WHOLE = "dit-s:batch_size=4:resolution=32"  # 256 tokens, as at 256 px in the latents of a VAE
SAME_WORK = {"llamagen-nano": "objective.ends=drawn:network.temperature_input=embedding"}  # as the recipe was
SLOWER = 1.03  # and more is told of
NANO_ROUNDS = 5  # at least, of nano models: what they take moves by a tenth from round to round
AGE = 10**9  # seconds since 1970 of the data's change times: what has just changed is not kept


@dataclass(frozen=True)
class Row:
    """An item before and after, in a unit that is measured beside both; `limit` is what it was to reach."""

    item: str
    unit: str
    before: float
    after: float
    limit: float | None = None

    @property
    def ratio(self) -> float:
        return self.after / self.before

    def told(self) -> dict[str, str]:
        """The row as it is kept."""
        return {
            "item": self.item,
            "unit": self.unit,
            "before": f"{self.before:.2f}",
            "after": f"{self.after:.2f}",
            "after_over_before": f"{self.ratio:.2f}",
            "limit_of_after": "" if self.limit is None else f"{self.limit:g}",
        }


class NotMeasured(Exception):
    """A version did not do what was to be measured."""


class Versions:
    """The two interpreters, and a folder for what they keep."""

    def __init__(self, before: str, home: Path) -> None:
        self.pythons, self.home = (before, sys.executable), home

    def forget(self) -> None:
        """Takes away what they have kept."""
        for index in range(2):
            shutil.rmtree(self.home / str(index), ignore_errors=True)

    def probe(self, *words: str, newer: Sequence[str] | None = None) -> tuple[dict[str, float], dict[str, float]]:
        """What the probe says in each version; `newer` where the words for this one differ."""
        return self._probe(0, words), self._probe(1, words if newer is None else newer)

    def _probe(self, index: int, words: Sequence[str]) -> dict[str, float]:
        with tempfile.TemporaryDirectory(dir=self.home) as folder:
            done = subprocess.run(
                [self.pythons[index], str(PROBE), *words],
                cwd=folder,
                env={**os.environ, "XDG_CACHE_HOME": str(self.home / str(index)), "OMP_NUM_THREADS": "1"},
                check=False,
                capture_output=True,
                text=True,
            )
        if done.returncode:
            said = (done.stdout + done.stderr).strip()
            raise NotMeasured(f"{self.pythons[index]} could not do {' '.join(words)!r}:\n{said}")
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found

    def least(
        self, rounds: int, *words: str, newer: Sequence[str] | None = None, nothing_kept: bool = False
    ) -> tuple[dict[str, float], dict[str, float]]:
        """The least of each number over rounds, in each version; with nothing kept, each is as if it were the first."""
        found = []
        for _ in range(rounds):
            if nothing_kept:
                self.forget()
            found.append(self.probe(*words, newer=newer))
        before, after = ({name: min(each[name] for each in one) for name in one[0]} for one in zip(*found, strict=True))
        return before, after


def start_up(versions: Versions, rounds: int) -> list[Row]:
    before, after = startup.measure(versions.pythons, rounds)
    limits = startup.LIMITS
    return [Row(f"start-up: {job}", "import torch", before[job], after[job], limits.get(job)) for job in after]


def opening(versions: Versions, files: int, lines: int, rounds: int) -> list[Row]:
    """Data that is opened for the first time, and by the next process."""
    folder = versions.home / "data"
    write_pictures(folder, files)
    entry = json.dumps({"caption": "a thing of some kind, in some place", "image": "pictures/c000/0.png"})
    (folder / "lines.jsonl").write_text(f"{entry}\n" * lines)
    for path in (*folder.rglob("c*"), folder / "pictures", folder / "lines.jsonl"):
        os.utime(path, (AGE, AGE))
    kinds = {
        f"a folder of {files:,} pictures": ("torchvision's ImageFolder", f"imagefolder:{folder / 'pictures'}", 2.0),
        f"JSON of {lines:,} lines": ("json.loads of each line", f"jsonl:{folder / 'lines.jsonl'}", 3.0),
    }
    rows = []
    for what, (unit, source, limit) in kinds.items():
        for time, nothing_kept in (("first", True), ("again", False)):
            found = versions.least(rounds, "opening", source, nothing_kept=nothing_kept)
            before, after = (each["open"] / each["library"] for each in found)
            rows.append(Row(f"opening {what}, {time}", unit, before, after, limit))
    return rows


def write_pictures(folder: Path, files: int) -> None:
    """Small pictures, a thousand of a class."""
    picture = folder / "picture.png"
    folder.mkdir()
    Image.new("RGB", (8, 8), (9, 99, 199)).save(picture)
    content = picture.read_bytes()
    for number in range(files):
        path = folder / "pictures" / f"c{number // 1000:03d}" / f"{number}.png"
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(content)


def single_operations(rounds: int) -> list[Row]:
    """As they were written before, and as they are."""
    found = operations.measure(operations.pairs(), rounds)
    return [Row(f"operation: {name}", "as it was written", 1.0, ratio) for name, ratio in found.items()]


def whole_steps(versions: Versions, rounds: int) -> list[Row]:
    """Steps of runs of DiT-S/2, batch 4."""
    before, after = versions.least(rounds, "steps", WHOLE)
    plain, gft = (f"dit-s {objective}" for objective in ("conditional", "gft"))
    return [
        Row("a GFT step of dit-s", "a plain step", before[gft] / before[plain], after[gft] / after[plain], 1.22),
        *(Row(f"training step: {name}", "before", 1.0, after[name] / before[name]) for name in (plain, gft)),
    ]


def relative(what: str, found: tuple[dict[str, float], dict[str, float]]) -> list[Row]:
    """Each number over what it was before."""
    before, after = found
    return [Row(f"{what}: {name}", "before", 1.0, after[name] / before[name]) for name in after]


def same_work(versions: Versions, rounds: int) -> list[Row]:
    """GFT steps of models whose recipe has another objective now, with the one that it had."""
    rows = []
    for model, options in SAME_WORK.items():
        before, after = versions.least(rounds, "steps", f"gft/{model}", newer=["steps", f"gft/{model}:{options}"])
        gft = f"{model} gft"
        rows.append(Row(f"training step: {gft}, with the recipe of before", "before", 1.0, after[gft] / before[gft]))
    return rows


def measure(before: str, rounds: int, files: int, lines: int) -> list[Row]:
    """All items; prints each as it comes, and why a version could not do a part, which is left out."""
    rows: list[Row] = []
    left_out, more = 0, max(rounds, NANO_ROUNDS)
    with tempfile.TemporaryDirectory() as name:
        versions = Versions(before, Path(name))
        drawings = [f"{model}:{batch}" for model, batch in BATCHES.items()]
        parts: list[Callable[[], list[Row]]] = [
            lambda: start_up(versions, rounds),
            lambda: opening(versions, files, lines, rounds),
            lambda: single_operations(rounds),
            lambda: whole_steps(versions, rounds),
            lambda: relative("training step", versions.least(more, "steps", *BATCHES)),
            lambda: same_work(versions, more),
            lambda: relative("sampling", versions.least(more, "sampling", *drawings)),
        ]
        for part in parts:
            try:
                found = part()
            except NotMeasured as error:
                left_out += 1
                print(error, flush=True)
                continue
            rows += found
            print(*(" ".join(row.told().values()) for row in found), sep="\n", flush=True)
    slower = [row.item for row in rows if row.ratio > SLOWER]
    print(f"Parts that were not measured: {left_out}. Slower by more than 3 %: {', '.join(slower) or 'none'}.")
    return rows


def write(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0].told()))
        writer.writeheader()
        writer.writerows(row.told() for row in rows)
