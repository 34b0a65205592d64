"""What training steps, sampling, data and start-up cost, as ratios measured in one run.

    python tools/benchmark.py dit-nano --out docs/results/benchmark.csv
    python tools/benchmark.py --before OTHER/bin/python --out docs/results/before-after.csv

With `--before`, the interpreter of an environment with another version, what was to become faster is measured in both;
else the parts of a model beside each other. Every pair is measured alternately, several times, and the median of each
is taken, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import before_after
import torch

import gftzoo
from gftzoo.cli.new_plugin import TEMPLATE, renamed
from gftzoo.contract.guidance import ClassifierFree, Temperature
from gftzoo.contract.problem import Problem
from gftzoo.data import SeekableSampler, TrainingData, open_source
from gftzoo.engine import TrainConfig, resolve
from gftzoo.engine.step.optimizers import adamw
from gftzoo.families.finding import load_family
from gftzoo.generator import SampleGenerator
from gftzoo.gft import GFT, GFTOptions
from gftzoo.model import Model
from gftzoo.objectives import build_objective
from gftzoo.objectives.conditional import Conditional
from gftzoo.sampling import image_seeds


def medians(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each job, run in turn, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(rounds + 1):
        for name, job in jobs.items():
            begin = time.perf_counter()
            job()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def build(config: TrainConfig, device: str) -> Model:
    torch.manual_seed(0)
    family = load_family(config.card.family)
    return Model.fresh(config.card, family.build_tokenizer(config.card.tokenizer)).to(device)


def straightforward_gft(
    model: Model, problem: Problem, condition: torch.Tensor, generator: SampleGenerator
) -> torch.Tensor:
    """GFT as first written down: two full forwards for the whole batch, both with a graph, one detached."""
    beta_B, dropped_B = generator.uniform(), generator.uniform() < 0.1
    family = model.family
    beta_in_B = torch.where(dropped_B, 1.0, beta_B)
    s = family.predict(model, problem, family.condition_drop(model, condition, dropped_B), beta_in_B).float()
    u = family.predict(model, problem, model.null_condition(condition), torch.ones_like(beta_B)).float().detach()
    weight = beta_B.view(-1, *[1] * (s.ndim - 1))
    return family.loss_term(model, weight * s + (1 - weight) * u, problem)


def update(model: Model, loss: Callable[..., torch.Tensor], config: TrainConfig, batch: int) -> Callable[[], None]:
    """One update of a model on a batch, with the optimizer of a run."""
    optimizer = adamw([{"params": list(model.network.parameters())}], config)
    images = batch_of(model, batch)
    latents = model.require_tokenizer().encode(images.to(model.device))
    condition = model.encode_condition([i % max(model.card.classes, 1) for i in range(batch)])
    positions = count()

    def run() -> None:
        place = next(positions) * batch
        generator = SampleGenerator.for_samples("benchmark", 0, range(place, place + batch), model.device)
        problem = model.family.draw_problem(model, latents, generator)
        optimizer.zero_grad()
        loss(model, problem, condition, generator).mean().backward()
        optimizer.step()

    return run


def training_steps(name: str, batch: int, rounds: int, device: str) -> dict[str, float]:
    """Seconds of one update: plain, GFT, and GFT written straightforwardly."""
    steered, plain = (resolve(name, objective=objective) for objective in ("gft", "conditional"))
    model = build(steered, device)
    no_skipping = GFT(GFTOptions(**{**steered.objective_options, "skip_dropped": False}))
    jobs = {
        "plain": update(build(plain, device), Conditional().loss, plain, batch),
        "gft": update(model, build_objective("gft", steered.objective_options).loss, steered, batch),
        "gft, no skipping": update(model, no_skipping.loss, steered, batch),
        "gft, two full forwards": update(model, straightforward_gft, steered, batch),
    }
    return medians(jobs, rounds)


def gft_steps(name: str, variants: Mapping[str, Mapping[str, Any]], rounds: int) -> dict[str, float]:
    """Seconds of a GFT update with each of some options, over those of a plain update."""
    steered, plain = (resolve(name, objective=objective) for objective in ("gft", "conditional"))
    model, batch = build(steered, "cpu"), steered.batch_size
    jobs = {"plain": update(build(plain, "cpu"), Conditional().loss, plain, batch)}
    for variant, options in variants.items():
        objective = build_objective("gft", {**steered.objective_options, **options})
        jobs[variant] = update(model, objective.loss, steered, batch)
    found = medians(jobs, rounds)
    return {variant: found[variant] / found["plain"] for variant in variants}


def batch_of(model: Model, batch: int) -> torch.Tensor:
    spec, side = model.card.tokenizer, model.card.resolution
    return torch.rand(batch, spec.image_channels, side, side) * 2 - 1


def sampling(name: str, batch: int, rounds: int, device: str) -> dict[str, float]:
    """Seconds of one batch of images at the model's default steps: one pass a step, and two."""
    steered = build(resolve(name, objective="gft"), device)
    plain = build(resolve(name, objective="conditional"), device)
    conditions, seeds = [i % max(plain.card.classes, 1) for i in range(batch)], image_seeds(0, range(batch))
    jobs = {
        "gft": lambda: steered.sample_latents(conditions, Temperature(0.5), seeds),
        "cfg": lambda: plain.sample_latents(conditions, ClassifierFree(2.0), seeds),
    }
    return medians(jobs, rounds)


def data_path(name: str, batch: int, rounds: int) -> dict[str, float]:
    """Seconds per batch of the embedded data through the dataset and the sampler."""
    config = resolve(name, objective="gft")
    source = open_source(config.data, split="train")
    card = config.card
    dataset = TrainingData(source, resolution=card.resolution, channels=card.tokenizer.image_channels, seed=0)
    keys = iter(SeekableSampler(len(dataset), seed=0))

    def fetch() -> None:
        dataset.__getitems__([next(keys) for _ in range(batch)])

    return medians({"data": fetch}, rounds)


def start_up(rounds: int) -> dict[str, float]:
    """Process seconds of the command line beside those of an empty interpreter; list also with 50 plugins more."""

    def process(code: str, path: str = "") -> Callable[[], object]:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*filter(None, [path, os.environ.get("PYTHONPATH")])]),
        }
        return lambda: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)

    command = "from gftzoo.cli import main; main([{!r}])"
    with tempfile.TemporaryDirectory() as folder:
        install_plugins(Path(folder), 50)
        jobs = {
            "python -c pass": process("pass"),
            "gftzoo --help": process(command.format("--help")),
            "gftzoo list": process(command.format("list")),
            "gftzoo list, 50 plugins": process(command.format("list"), folder),
        }
        return medians(jobs, rounds)


def install_plugins(folder: Path, count: int) -> None:
    """Plugins with a catalogue of one model each, whose code fails if it is ever imported."""
    registry = (TEMPLATE / "gftzoo_acme" / "registry.yaml").read_text()
    for index in range(count):
        name = f"plugin{index}"
        package, info = folder / f"gftzoo_{name}", folder / f"gftzoo_{name}-1.0.dist-info"
        package.mkdir()
        info.mkdir()
        (package / "__init__.py").write_text("raise RuntimeError\n")
        (package / "registry.yaml").write_text(renamed(registry, name))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: gftzoo-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[gftzoo.families]\n{name} = gftzoo_{name}:Family\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="dit-nano")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--before", help="interpreter of another version, which all is measured beside")
    parser.add_argument("--files", type=int, default=100_000, help="of the folder that both open")
    parser.add_argument("--lines", type=int, default=1_000_000, help="of JSON that both open")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.before is not None:
        rows = before_after.measure(arguments.before, arguments.rounds, arguments.files, arguments.lines)
        if arguments.out is not None:
            before_after.write(rows, arguments.out)
        return
    name, batch, rounds, device = arguments.model, arguments.batch, arguments.rounds, arguments.device
    step = training_steps(name, batch, rounds, device)
    draw = sampling(name, batch, max(rounds // 2, 3), device)
    fetch = data_path(name, batch, rounds)
    start = start_up(rounds)
    ratios = {
        "sampling: GFT / CFG": draw["gft"] / draw["cfg"],
        "step: GFT / plain": step["gft"] / step["plain"],
        "step: GFT / GFT without skipping dropped samples": step["gft"] / step["gft, no skipping"],
        "step: GFT / GFT with two full forwards": step["gft"] / step["gft, two full forwards"],
        "data: batches fed per plain step": step["plain"] / fetch["data"],
        "start: gftzoo --help / python -c pass": start["gftzoo --help"] / start["python -c pass"],
        "start: gftzoo list / python -c pass": start["gftzoo list"] / start["python -c pass"],
        "start: gftzoo list with 50 plugins more / without": start["gftzoo list, 50 plugins"] / start["gftzoo list"],
        "start: gftzoo list, seconds": start["gftzoo list"],
    }
    print(f"{name}, batch {batch}, {device}, {arguments.threads} thread(s), medians of {rounds}")
    for key, value in ratios.items():
        print(f"{key:>52}  {value:.3f}")
    if arguments.out is not None:
        write(arguments.out, name, batch, device, ratios)


def write(path: Path, name: str, batch: int, device: str, ratios: dict[str, float]) -> None:
    """Appends one row per ratio."""
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    where = torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine()
    with path.open("a", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        if new:
            rows.writerow(["model", "batch", "device", "gftzoo", "torch", "what", "ratio"])
        for key, value in ratios.items():
            rows.writerow([name, batch, where, gftzoo.__version__, torch.__version__, key, f"{value:.4f}"])


if __name__ == "__main__":
    main()
