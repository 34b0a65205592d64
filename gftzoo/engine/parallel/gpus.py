"""GPUs by name: their memory and the peak of their tensor cores, from the vendors' data sheets. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gftzoo.errors import UsageError, nearest


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU.

    Attributes:
        name: as `--gpu` takes it.
        gib: memory that the driver reports.
        teraflops: dense bf16 peak with fp32 sums; None where it is not known.
        driver: what of the driver's name tells it apart.
    """

    name: str
    gib: float
    teraflops: float | None
    driver: str = ""


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("h100", 79.6, 989, "H100"),
        Gpu("h200", 140.4, 989, "H200"),
        Gpu("a100-80", 80.0, 312, "A100"),
        Gpu("a100-40", 40.0, 312, "A100"),
        Gpu("l40s", 45.0, 362, "L40S"),
        Gpu("4090", 24.0, 165, "4090"),
        Gpu("5090", 31.8, 209, "5090"),
        Gpu("mi300x", 192.0, 1307, "MI300X"),
    )
}
_SOLD_AS_WELL = {"H800": "H100", "A800": "A100"}


def find_gpu(text: str) -> Gpu:
    """The GPU of a name, or of `SIZE_GiB[,TFLOPS]`; UsageError for anything else."""
    if text.lower() in GPUS:
        return GPUS[text.lower()]
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(math.isfinite(n) and 0 < n < 1e6 for n in numbers):
        names = ", ".join(GPUS)
        raise UsageError(
            f"unknown GPU {text!r}{nearest(text.lower(), GPUS)}; valid are {names}, or GiB[,TFLOPS] as in 24,165."
        )
    size, *peak = numbers
    return Gpu(f"{size:g} GiB", size, peak[0] if peak else None)


def peak_of(driver_name: str) -> float | None:
    """The dense bf16 peak in FLOP/s of a device by its driver's name, where it is known."""
    names = [sold for also, sold in _SOLD_AS_WELL.items() if also in driver_name] or [driver_name]
    found = next((gpu for gpu in GPUS.values() if gpu.driver in names[0]), None)
    return None if found is None or found.teraflops is None else found.teraflops * 1e12
