"""A run's folder as plain data, whatever of it is there: it may be training, cut or copied. Nothing is executed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gftzoo.documents import VALUE, parse_json, read_json, read_yaml
from gftzoo.errors import GftzooError

CONFIG_FILE, METRICS, LOCK_FILE, FINAL_PICTURE = "config.yaml", "metrics.jsonl", ".lock", "samples/final.png"
BEST_FILE = "best.json"
STEP = re.compile(r"step-(\d+)$")
STRENGTH = re.compile(r"(beta|cfg)-([\d.]+)$")


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run."""

    path: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        """`config.yaml`; GftzooError where there is none or it is damaged."""
        file = self.path / CONFIG_FILE
        if not file.is_file():
            raise GftzooError(f"{str(self.path)!r} is not a run (it has no {CONFIG_FILE}); runs lie under runs/.")
        found = read_yaml(file)
        if not isinstance(found, dict):
            raise GftzooError(f"{str(file)!r} is no configuration.")
        return found

    @cached_property
    def rows(self) -> list[dict[str, float]]:
        """The numbers of `metrics.jsonl` by step, each row with a `step`; lines that are cut are left out."""
        file = self.path / METRICS
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
        rows: dict[float, dict[str, float]] = {}
        for row in map(_numbers, lines):
            if "step" in row:
                rows.setdefault(row["step"], {}).update(row)
        return [rows[step] for step in sorted(rows)]

    @property
    def step(self) -> int:
        """The last step that was told of or saved."""
        return max([0, *self.checkpoints, *(int(row["step"]) for row in self.rows)])

    @property
    def steps(self) -> int:
        """The steps that the run is to have."""
        wanted = self.config.get("steps")
        return wanted if isinstance(wanted, int) else 0

    @cached_property
    def checkpoints(self) -> list[int]:
        """The steps of its complete checkpoints."""
        folders = (path.parent for path in (self.path / "checkpoints").glob("step-*/state.json"))
        return sorted(int(found[1]) for folder in folders if (found := STEP.match(folder.name)))

    @property
    def state(self) -> str:
        """`training`, `finished`, `ended early`, `stopped`, or `not begun` where nothing was saved."""
        if self.checkpoints and self.checkpoints[-1] >= self.steps:
            return "finished"
        if self._locked():
            return "training"
        if self._gave_up():
            return "ended early"
        return "stopped" if self.checkpoints else "not begun"

    def _gave_up(self) -> bool:
        """Whether it ended at its last checkpoint because it got no better."""
        patience = self.config.get("patience")
        try:
            known = read_json(self.path / BEST_FILE)
            return isinstance(patience, int) and known["step"] == self.checkpoints[-1] and known["since"] >= patience
        except (GftzooError, KeyError, IndexError, TypeError):
            return False

    def _locked(self) -> bool:
        """Whether a process keeps the folder."""
        lock = self.path / LOCK_FILE
        if not lock.is_file():
            return False
        try:
            with FileLock(lock, timeout=0):
                return False
        except Timeout:
            return True
        except (OSError, NotImplementedError):  # a folder that cannot be written, or without locks
            return False

    def last(self, name: str) -> float | None:
        """The newest value of a number."""
        return next((row[name] for row in reversed(self.rows) if name in row), None)

    @cached_property
    def made_of(self) -> dict[str, Any]:
        """What the newest checkpoint says that the run is made of."""
        if not self.checkpoints:
            return {}
        try:
            state = read_json(self.path / "checkpoints" / f"step-{self.checkpoints[-1]:08d}" / "state.json")
            return dict(state.get("made_of") or {})
        except (GftzooError, AttributeError, TypeError, ValueError):
            return {}

    @cached_property
    def scores(self) -> list[dict[str, Any]]:
        """The score records of its folder `scores`, by name of file."""
        return [record for _, record in sorted(self._records())]

    def _records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for path in (self.path / "scores").glob("*.json"):
            try:
                found = read_json(path)
            except GftzooError:
                continue
            if isinstance(found, dict) and all(isinstance(found.get(key), dict) for key in ("measure", "scores")):
                yield path.name, {"name": path.stem, "subject": {}, **found}

    @property
    def best_score(self) -> float | None:
        """The least Frechet distance of its records."""
        found = [record["scores"].get("frechet") for record in self.scores]
        return min((value for value in found if isinstance(value, int | float)), default=None)

    def over_time(self) -> list[tuple[str, Path]]:
        """The sample grids by step, the last one at its end."""
        found = [(int(hit[1]), path) for path in self._pictures() if (hit := STEP.match(path.stem))]
        grids = [(f"step {step:,}", path) for step, path in sorted(found)]
        final = self.path / FINAL_PICTURE
        return [*grids, ("at the end", final)] if final.is_file() else grids

    def over_strength(self) -> list[tuple[str, Path]]:
        """The samples of the end by temperature, or by CFG scale, from no guidance to the strongest."""
        found = [(hit[1], float(hit[2]), path) for path in self._pictures() if (hit := STRENGTH.match(path.stem))]
        ordered = sorted(found, key=lambda each: -each[1] if each[0] == "beta" else each[1])
        return [(f"{word} {value:g}", path) for word, value, path in ordered]

    def _pictures(self) -> list[Path]:
        return sorted((self.path / "samples").glob("*.png"))


def runs_below(folder: Path) -> list[RunFolder]:
    """All runs below a folder, by name; those of sub-folders, too."""
    return [RunFolder(path.parent) for path in sorted(folder.rglob(CONFIG_FILE))]


def _numbers(line: str) -> dict[str, float]:
    """The numbers of one line; nothing of one that is damaged."""
    try:
        found = parse_json(line, METRICS, VALUE)
        return {str(key): float(value) for key, value in found.items() if isinstance(value, int | float)}
    except (GftzooError, AttributeError, ValueError, OverflowError):
        return {}
