"""What sampling pays for a temperature: one prediction of each temperature input, against the plain network's.

    python tools/temperature_cost.py dit-l:2 llamagen-b:4 --out docs/results/temperature-cost.csv

A case is a model, of its own size, and a batch size. In one process on one thread, in turn, the plain network, the one
with the published embedding, the one with an affine read-out and the one with a block of the slope's own predict the
same batch without gradient; medians of the thread's own time count (on a GPU: the time until it is idle).
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import csv_rows
import torch
from adapter_cost import Job
from training_cost import timed

from gftzoo.catalogue.cards import ModelCard
from gftzoo.zoo import get_card

INPUTS: dict[str, dict[str, object] | None] = {
    "plain": None,
    "embedding": {"temperature_input": "embedding"},
    "read-out": {"temperature_input": "affine", "temperature_blocks": 0},
    "block": {"temperature_input": "affine", "temperature_blocks": 1},
}


@dataclass(frozen=True)
class Row:
    """One line of the CSV; the ratios are to the plain network."""

    model: str
    temperature: str
    parameters: int
    parameters_ratio: float
    time_ratio: float
    batch: int
    rounds: int
    device: str
    torch: str


class Prediction(Job):
    """One prediction of a batch, at beta 0.5 where the network has a temperature."""

    def __init__(self, card: ModelCard, network: dict[str, object] | None, batch: int, device: str) -> None:
        super().__init__(card.change(network={**card.network, **(network or {})}), batch, device, network is not None)
        self.model.network.eval()
        self.beta = None if network is None else torch.full((batch,), 0.5, device=self.model.device)
        self.asked = self.problem()

    @torch.no_grad()
    def __call__(self) -> None:
        self.model.family.predict(self.model, self.asked, self.condition, self.beta)


def measure(name: str, batch: int, rounds: int, device: str) -> list[Row]:
    """The rows of one model."""
    card = get_card(name)
    jobs = {kind: Prediction(card, network, batch, device) for kind, network in INPUTS.items()}
    times: dict[str, list[float]] = {kind: [] for kind in jobs}
    for job in jobs.values():
        job()  # warm up
    for _ in range(rounds):
        for kind, job in jobs.items():
            times[kind].append(timed(job, device))
    counts = {kind: sum(p.numel() for p in job.model.network.parameters()) for kind, job in jobs.items()}
    where = torch.cuda.get_device_name() if device.startswith("cuda") else "one CPU thread"
    plain = statistics.median(times["plain"])
    return [
        Row(
            name, kind, counts[kind], round(counts[kind] / counts["plain"], 4),
            round(statistics.median(times[kind]) / plain, 3), batch, rounds, where, torch.__version__.partition("+")[0],
        )
        for kind in jobs
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", help="MODEL:BATCH")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("docs/results/temperature-cost.csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for case in arguments.cases:
        name, _, batch = case.partition(":")
        rows += measure(name, int(batch or 4), arguments.rounds, arguments.device)
        for row in rows[-len(INPUTS) :]:
            print(f"{row.model:14} {row.temperature:10} size x{row.parameters_ratio:.3f}  time x{row.time_ratio:.3f}")
        csv_rows.write(rows, arguments.out)  # after each case: a later one may fail
    return 0


if __name__ == "__main__":
    sys.exit(main())
