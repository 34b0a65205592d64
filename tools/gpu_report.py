"""Everything that only a GPU can tell, in one command of at most 25 minutes.

    python tools/gpu_report.py OUT                   # on one CUDA GPU; needs nothing but the installed packages
    python tools/gpu_report.py OUT --nano            # the same at nano size, on a CPU too

OUT gets `training.csv`, `sampling.csv` and `checks.csv`, each row with device, commit and versions, and the page
`gpu.md`. Every part runs in a process of its own, so that it survives the failure of another, and has its share of the
time; what failed, and what there was no time for, is in the page and in the exit code.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import csv_rows
import sampling_speed
import throughput
import torch
from gpu_checks import CHECKS

import gftzoo
from gftzoo.engine.parallel.place import choose_device
from gftzoo.precision import choose_dtype
from gftzoo.printing import words

FULL = ("dit-xl", "llamagen-l", "var-d16", "mar-b", "sd-1.5")
NANO = ("dit-nano", "var-nano")
STEPS = {"dit-xl": {"steps": 20}, "sd-1.5": {"steps": 20}, "mar-b": {"steps": 16}}  # enough to time one
SECONDS = {"checks": 150, "training": 600, "sampling": 540}  # with what a part overruns, within 25 minutes
OVERRUN = 60
OBJECTIVES = ("conditional", "gft", "gft, lora")


@dataclass(frozen=True)
class Plan:
    """What a report is made of: where, how large, and until when.

    Attributes:
        out: folder of the report.
        nano: whether models are small and everything is done once.
        until: when a part ends, in seconds of `time.monotonic`.
    """

    out: Path
    nano: bool
    until: float

    @property
    def device(self) -> torch.device:
        return choose_device("auto")

    @property
    def models(self) -> tuple[str, ...]:
        return NANO if self.nano else FULL

    @property
    def over(self) -> bool:
        """Whether the part's time is spent."""
        return time.monotonic() > self.until


@dataclass(frozen=True)
class Check:
    """One line of checks.csv."""

    check: str
    result: str
    note: str
    device: str
    commit: str
    gftzoo: str
    torch: str
    cuda: str


def record(plan: Plan, name: str, result: str, note: str) -> None:
    """Appends a line to checks.csv, and says it."""
    versions = (gftzoo.__version__, torch.__version__, torch.version.cuda or "")
    row = Check(name, result, note, throughput.where(plan.device), throughput.commit(), *versions)
    csv_rows.append(row, plan.out / "checks.csv")
    print(f"{result:8} {name}: {note}", flush=True)


def attempt(plan: Plan, name: str, job: Callable[[], str | None]) -> None:
    """Runs a job, whose failure is a line of the report and nothing more; its note is what it found."""
    if plan.over:
        record(plan, name, "left out", "no time was left")
        return
    try:
        note = job()
    except Exception as error:  # whatever a device does
        record(plan, name, "failed", words(error))
    else:
        if note is not None:
            record(plan, name, "passed", note)
    if plan.device.type == "cuda":
        torch.cuda.empty_cache()


def checks(plan: Plan) -> None:
    """What cannot be checked without the device: each its own line."""
    for name, check in CHECKS.items():
        attempt(plan, name, partial(check, plan.device))


def training(plan: Plan) -> None:
    """Images/s, FLOPs utilisation and memory of a step: plain, GFT, GFT with LoRA; eager, then compiled."""
    for blocks in ("eager",) if plan.nano else ("eager", "compiled"):
        for name in plan.models:
            for objective in OBJECTIVES:
                job = partial(train_rows, plan, name, objective, blocks)
                attempt(plan, f"training {name}, {objective}, {blocks}", job)


def train_rows(plan: Plan, name: str, objective: str, blocks: str) -> None:
    batch = 2 if plan.nano else throughput.largest_batch(name, "bf16", plan.device)
    seconds = 0.0 if plan.nano else 3.0
    for row in throughput.measure(name, objective, batch, "bf16", plan.device, seconds, (blocks,)):
        throughput.show(row)
        csv_rows.append(row, plan.out / "training.csv")


def sampling(plan: Plan) -> None:
    """Images/s with GFT and CFG: fp32, bf16, and bf16 compiled; one image and 32."""
    for precision, steps in (("fp32", "eager"), ("bf16", "eager"), ("bf16", "compiled"))[: 2 if plan.nano else 3]:
        for name in plan.models:
            job = partial(sample_rows, plan, name, precision, steps)
            attempt(plan, f"sampling {name}, {precision}, {steps}", job)


def sample_rows(plan: Plan, name: str, precision: str, steps: str) -> None:
    pair = sampling_speed.Pair.build(name, plan.device)
    for model in (pair.gft, pair.plain):
        model.half = choose_dtype(precision, plan.device)
    pair = pair.compiled() if steps == "compiled" else pair
    settings: dict[str, Any] = {"steps": 2} if name == "dit-nano" else dict(STEPS.get(name, {}))
    rounds, batches = (1, (1, 2)) if plan.nano else (3, (1, 32))
    for row in sampling_speed.measure(pair, batches, rounds, settings, plan.device, steps):
        sampling_speed.show(row)
        csv_rows.append(row, plan.out / "sampling.csv")
        if plan.over:
            return


PARTS: dict[str, Callable[[Plan], None]] = {"checks": checks, "training": training, "sampling": sampling}


def run_part(name: str, out: Path, nano: bool) -> str | None:
    """Runs a part in a process of its own; what is wrong with its end, or None."""
    return run_part_of([__file__, str(out), "--part", name, *(["--nano"] if nano else [])], name)


def run_part_of(arguments: list[str], name: str) -> str | None:
    """Runs Python with some arguments as a part; see `run_part`."""
    try:
        code = subprocess.run([sys.executable, *arguments], check=False, timeout=SECONDS[name] + OVERRUN).returncode
    except subprocess.TimeoutExpired:
        return f"part {name!r} did not end and was stopped"
    return None if code == 0 else f"part {name!r} ended with code {code}"


def read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(rows: list[dict[str, str]], columns: dict[str, str]) -> Iterator[str]:
    """A table of some columns, each under its heading."""
    yield f"| {' | '.join(columns.values())} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(row[key] for key in columns)} |"


def page(out: Path, broken: list[str]) -> str:
    """The report as a page."""
    lines = read(out / "checks.csv")
    where = lines[0] if lines else {"device": "?", "commit": "?", "torch": "?", "cuda": "?"}
    parts = [
        "# On a GPU",
        f"Made by `python tools/gpu_report.py` on {where['device']}, commit {where['commit']}, torch {where['torch']}, "
        f"CUDA {where['cuda'] or 'none'}. Weights are random, latents too, and nothing is encoded or decoded.",
        *([f"**Not whole:** {'; '.join(broken)}."] if broken else []),
        "## Checks",
        "\n".join(table(lines, {"check": "what", "result": "result", "note": "found"})),
        "## Training",
        "\n".join(table(read(out / "training.csv"), {
            "model": "model", "objective": "objective", "blocks": "blocks", "batch": "batch",
            "images_per_second": "images/s", "mfu": "FLOPs utilisation", "peak_memory_gib": "memory, GiB",
            "expected_memory_gib": "expected, GiB", "over_plain": "times plain",
        })),
        "## Sampling",
        "\n".join(table(read(out / "sampling.csv"), {
            "model": "model", "precision": "precision", "steps": "steps", "batch": "batch",
            "gft_images_per_second": "GFT, images/s", "cfg_images_per_second": "CFG, images/s",
            "gft_over_cfg": "time of GFT / CFG", "sampler": "settings",
        })),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--nano", action="store_true", help="small models, once each: a look at the report itself")
    parser.add_argument("--part", choices=list(PARTS), help="only this part, in this process")
    job = parser.parse_args()
    job.out.mkdir(parents=True, exist_ok=True)
    if job.part is not None:
        PARTS[job.part](Plan(job.out, job.nano, time.monotonic() + SECONDS[job.part]))
        return 0
    for name in ("training", "sampling", "checks"):
        (job.out / f"{name}.csv").unlink(missing_ok=True)  # of a report before
    ends = [run_part(name, job.out, job.nano) for name in PARTS]
    broken = [end for end in ends if end is not None]
    failed = [f"{row['check']} {row['result']}" for row in read(job.out / "checks.csv") if row["result"] != "passed"]
    (job.out / "gpu.md").write_text(page(job.out, broken + failed), encoding="utf-8")
    print(f"{job.out / 'gpu.md'}: {'; '.join(broken + failed) or 'everything passed'}")
    return int(bool(broken + failed))


if __name__ == "__main__":
    sys.exit(main())
