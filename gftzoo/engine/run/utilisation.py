"""Which share of a GPU's peak training may be expected to reach: as it was measured, or else as it is assumed."""

from __future__ import annotations

import csv
import statistics
from dataclasses import dataclass
from pathlib import Path

from gftzoo.engine.config import TrainConfig
from gftzoo.engine.parallel.gpus import Gpu
from gftzoo.errors import UsageError

COLUMNS = ("model", "objective", "blocks", "device", "mfu")


@dataclass(frozen=True)
class Utilisation:
    """A share of the dense bf16 peak, in (0, 1], and how it is known, for people."""

    share: float
    known: str = "assumed"


ASSUMED = Utilisation(0.35)  # which transformers of these sizes reach in bf16 without special kernels


def measured(path: Path, config: TrainConfig, gpu: Gpu) -> Utilisation:
    """What rows of `tools/gpu_report.py` or `tools/throughput.py` say of a run on a kind of GPU.

    Rows of the same kind of GPU, the same objective and blocks compiled or not as in the run count: those of the model,
    or without any the median of the others. `ASSUMED` where there is none.

    Raises:
        UsageError: the file is none of these rows.
    """
    way = config.objective if config.train == "all" else f"{config.objective}, {config.train}"
    blocks = "compiled" if config.compile else "eager"
    shares: dict[str, list[float]] = {}
    for row in _rows(path):
        here = bool(gpu.driver) and gpu.driver in row["device"]
        if here and row["objective"] == way and row["blocks"] == blocks and row["mfu"]:
            shares.setdefault(row["model"], []).append(_share(row["mfu"], path))
    if config.model in shares:
        return Utilisation(statistics.median(shares[config.model]), f"measured of {config.model}")
    if not shares:
        return ASSUMED
    found = [statistics.median(each) for each in shares.values()]
    return Utilisation(statistics.median(found), f"measured of {len(found)} other models")


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = [{key: value or "" for key, value in row.items() if key} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"--utilisation {str(path)!r} cannot be read ({error}); give a share, e.g. 0.35.") from error
    lacking = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if lacking:
        raise UsageError(
            f"--utilisation {str(path)!r} has no column {lacking[0]!r}; give the training.csv of tools/gpu_report.py, "
            "or a share, e.g. 0.35."
        )
    return rows


def _share(text: str, path: Path) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UsageError(f"{str(path)!r} has mfu {text!r}, which is no share of the peak, in (0, 1].")
    return share
