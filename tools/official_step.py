"""A training step beside that of the code that GFT was published with, for DiT-S/2.

    git clone https://github.com/thu-ml/GFT
    python tools/official_step.py GFT/DiT --out docs/results/official-step.csv

Both train at the same batch, on the same latents, in fp32 on one thread, in one process and in turns: the loss, its
gradient, AdamW and the average of the weights. Medians, over the rounds, of the processor time of five steps, so that
samples whose condition is dropped come as often as they do in a run; the most memory that a process of each held,
without what it holds once everything is imported.
"""

from __future__ import annotations

import argparse
import copy
import csv
import statistics
import subprocess
import sys
import time
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch

from gftzoo.engine.config import TrainConfig
from gftzoo.engine.step.ema import EMA
from gftzoo.engine.step.optimizers import adamw
from gftzoo.generator import SampleGenerator
from gftzoo.model import Model
from gftzoo.objectives import build_objective
from gftzoo.zoo import get_card

MODEL, SIDE, CLASSES = "dit-s", 32, 1000
STEPS = 5  # of a round
Step = Callable[[], None]


def official_step(code: Path, batch: int) -> Step:
    """One pass through the loop of its train.py, from the latents on, with its defaults for training from scratch."""
    sys.path.insert(0, str(code))
    network = import_module("models").DiT_models["DiT-S/2"](
        input_size=SIDE, num_classes=CLASSES, use_beta_embed=True, class_dropout_prob=0.1, pretrain=True, beta_in="mlp"
    )  # its `linear` stops at an assertion
    options = Namespace(rm_guidance=True, distill=False, min_beta=0.0, max_beta=1.0)
    diffusion = import_module("diffusion").create_diffusion(timestep_respacing="", learn_sigma=False, args=options)
    average = copy.deepcopy(network).requires_grad_(requires_grad=False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0)
    latents, classes = torch.randn(batch, 4, SIDE, SIDE), torch.arange(batch)
    network.train()

    @torch.no_grad()
    def update_average() -> None:
        averaged = OrderedDict(average.named_parameters())
        for name, parameter in network.named_parameters():
            averaged[name].mul_(0.9999).add_(parameter.data, alpha=1 - 0.9999)

    def step() -> None:
        times = torch.randint(0, diffusion.num_timesteps, (batch,))
        loss = diffusion.training_losses(network, latents, times, {"y": classes})["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        update_average()

    return step


def own_step(objective: str, batch: int, **options: object) -> Step:
    """The same of gftzoo, with the norm of the gradient that its log has."""
    card = get_card(MODEL).change(temperature=objective == "gft")
    recipe = card.recipes[objective]
    config = TrainConfig(model=MODEL, card=card, data="own", steps=1, lr=recipe.lr, betas=recipe.betas)
    model = Model.fresh(card)
    trains = build_objective(objective, {**recipe.objective_options, **options})
    optimizer = adamw(model.family.parameter_groups(model.network, recipe.weight_decay), config)
    average = EMA(model.network, 0.9999)
    latents, classes, taken = torch.randn(batch, 4, SIDE, SIDE), torch.arange(batch), 0
    model.network.train()

    def step() -> None:
        nonlocal taken
        taken += batch
        generator = SampleGenerator.for_samples("train", 0, range(taken - batch, taken))
        problem = model.family.draw_problem(model, latents, generator)
        optimizer.zero_grad()
        trains.loss(model, problem, classes, generator).mean().backward()
        torch.nn.utils.get_total_norm([p.grad for p in model.network.parameters() if p.grad is not None])
        optimizer.step()
        average.update(taken)

    return step


def steps(code: Path, batch: int) -> dict[str, Callable[[], Step]]:
    """What is compared, not yet built."""
    return {
        "thu-ml/GFT, GFT": lambda: official_step(code, batch),
        "gftzoo, plain": lambda: own_step("conditional", batch),
        "gftzoo, GFT": lambda: own_step("gft", batch),
        "gftzoo, GFT, second pass in fp32": lambda: own_step("gft", batch, unconditional_precision="same"),
    }


def peak(arguments: argparse.Namespace, name: str) -> float:
    """MiB that a process of its own holds at most over three steps, above what it held before they were built."""
    words = [sys.executable, __file__, str(arguments.code), "--batch", str(arguments.batch), "--only", name]
    found = subprocess.run(words, check=True, capture_output=True, text=True)
    return float(found.stdout.split()[-1])


def print_peak(build: Callable[[], Step]) -> None:
    """What `peak` reads, in that process."""
    before = most_held()
    step = build()
    for _ in range(3):
        step()
    print(most_held() - before)


def most_held() -> float:
    """The most MiB that this process has held; what `getrusage` says begins with what its parent held."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("code", type=Path, help="its folder DiT")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="prints the memory that one of them takes")
    parser.add_argument("--out", type=Path, help="CSV file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    builds = steps(arguments.code, arguments.batch)
    if arguments.only is not None:
        print_peak(builds[arguments.only])
        return
    built = {name: build() for name, build in builds.items()}
    seconds: dict[str, list[float]] = {name: [] for name in built}
    for turn in range(arguments.rounds + 1):
        for name, step in built.items():
            begin = time.process_time()
            for _ in range(STEPS if turn else 1):
                step()
            if turn:
                seconds[name].append(time.process_time() - begin)
    times = {name: statistics.median(values) for name, values in seconds.items()}
    official, plain = times["thu-ml/GFT, GFT"], times["gftzoo, plain"]
    for name, value in times.items():
        print(name, f"{value / official:.3f} {value / plain:.3f}", flush=True)
    held = {name: peak(arguments, name) for name in times}
    rows = [
        (name, f"{value / official:.3f}", f"{value / plain:.3f}", f"{held[name] / held['thu-ml/GFT, GFT']:.3f}")
        for name, value in times.items()
    ]
    for row in rows:
        print(*row, flush=True)
    if arguments.out is not None:
        with arguments.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(
                [("step", "time_over_official", "time_over_plain", "memory_over_official"), *rows]
            )


if __name__ == "__main__":
    main()
