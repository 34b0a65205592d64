"""The rows of a CSV file of results, for tools/results_page.py."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

Row = dict[str, str]


def read(path: Path) -> list[Row]:
    """The rows of a CSV file; none if there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def mean(rows: Iterable[Row], column: str) -> float:
    return statistics.fmean(float(row[column]) for row in rows)


def spread(rows: Sequence[Row], column: str, scale: float = 1.0, digits: int = 2) -> str:
    """Mean ± sample standard deviation; empty where a value is missing."""
    if any(not row[column] for row in rows):
        return ""
    values = [scale * float(row[column]) for row in rows]
    shown = f"{statistics.fmean(values):.{digits}f}"
    return shown if len(values) < 2 else f"{shown} ± {statistics.stdev(values):.{digits}f}"
