"""Checks of a model at work: compiled, on two ranks, and what its steps and samples cost."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from gftzoo.contract.guidance import ClassifierFree, Temperature
from gftzoo.engine import checkpoints
from gftzoo.generator import SampleGenerator
from gftzoo.gft import GFT
from gftzoo.objectives.conditional import Conditional
from gftzoo.testing.broken import Broken
from gftzoo.testing.compare import ROUNDING, equal_gradients, expect, gradients, same
from gftzoo.testing.contract import promises
from gftzoo.testing.subject import BATCH, NONE_DROPPED, Subject

# A large eps keeps Adam from blowing the rounding of vanishing gradients up to whole updates.
RUN = {
    "batch_size": 4, "lr": 0.01, "eps": 1e-3, "learning_rate.warmup": 0, "learning_rate.kind": "constant",
    "ema_decay": 0.5, "weight_decay_end": "null", "precision": "fp32", "device": "cpu", "log_every": 1,
    "sample_grid": "[1, 1]",
}  # fmt: skip
TIME_LIMIT = 600  # seconds for two steps on two ranks


@promises("blocks", "Compiled, they compute what they compute otherwise.", slow=True)
def compiled_blocks(subject: Subject) -> str:
    """The blocks, captured as graphs with their backward passes, give the same loss and gradients.

    The graphs run without code generation (torch's `aot_eager`): whether a block can be compiled is the family's
    matter, the code generator is not, and this needs no C++ compiler.
    """
    batch = subject.batch(subject.copy(temperature=True))
    network = batch.model.network
    blocks = batch.family.blocks(network)
    expect(bool(blocks), "there are no blocks; keep repeated modules in an nn.ModuleList or implement the hook.")
    members = set(network.modules())
    expect(all(block in members for block in blocks), "a block is no module of the network.")

    def step() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss_B = GFT().loss_at(batch.model, batch.problem, batch.condition, batch.beta_B, NONE_DROPPED)
        return loss_B.detach(), gradients(network, loss_B.sum())

    plain_B, plain = step()
    try:
        for block in blocks:
            block.compile(backend="aot_eager")
        compiled_B, compiled = step()
    finally:
        torch.compiler.reset()
    same(compiled_B, plain_B, "losses with compiled and plain blocks", ROUNDING)
    return f"{len(blocks)} blocks, gradients: " + equal_gradients(compiled, plain, "compiled and plain blocks")


@promises("blocks", "A run on two ranks", slow=True)
def two_ranks(subject: Subject) -> str:
    """Two updates on two ranks (gloo, DDP) give the weights of two updates on one."""
    with tempfile.TemporaryDirectory() as folder:
        weights, averages = zip(*(train(subject.card.name, ranks, Path(folder)) for ranks in (1, 2)), strict=True)
    expect(weights[0].keys() == weights[1].keys(), "the two runs saved different tensors.")
    moved = max(
        float((averages[0][key] - value).abs().max()) for key, value in weights[0].items() if key in averages[0]
    )
    expect(moved > 1e-3, f"two updates moved the weights by {moved:.2g} from their average, too little to tell.")
    gaps = {key: float((weights[1][key] - value).abs().max()) for key, value in weights[0].items()}
    worst = max(gaps, key=lambda key: gaps[key])
    expect(gaps[worst] <= 1e-4, f"{worst} differs by {gaps[worst]:.2g} between one and two ranks, allowed 1e-4.")
    return f"largest difference {gaps[worst]:.1g}, where updates are {moved:.1g} and more"


def train(model: str, ranks: int, folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The weights and their average after a short run, in processes of its own."""
    words = ["train", model, "--gft", "--steps", "2", "--runs", str(folder), "--name", str(ranks)]
    words += [f"-o{key}={value}" for key, value in RUN.items()]
    words += [f"-oaccumulate={2 // ranks}"]  # the micro-batches of two ranks, one after the other
    launch = [sys.executable, "-m"]
    if ranks > 1:
        launch += ["torch.distributed.run", f"--nproc_per_node={ranks}", "--master_addr=127.0.0.1"]
        launch += [f"--master_port={free_port()}", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    try:
        done = subprocess.run(  # noqa: S603 (our own command)
            [*launch, "gftzoo", *words],
            capture_output=True,
            text=True,
            env=environment,
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Broken(f"two steps on {ranks} rank(s) did not end within {TIME_LIMIT} s.") from error
    run = checkpoints.newest(folder / str(ranks)) if (folder / str(ranks)).is_dir() else None
    if run is None:  # the exit code says nothing: gloo may abort after the work is done
        lines = [line for line in done.stderr.splitlines() if "Error" in line] or done.stderr.splitlines()[-1:]
        raise Broken(f"training on {ranks} rank(s) left no checkpoint ({lines[0].strip() if lines else 'no message'}).")
    return load_file(run / "raw.safetensors"), load_file(run / "ema.safetensors")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@promises("temperature_sampler", "Latents drawn with the family's own procedure;")
def costs(subject: Subject) -> str:
    """What training steps and samples cost: GFT beside the conditional model. Measured, not judged."""
    steps = {
        "conditional": timed(lambda: update(subject, Conditional(), temperature=False)),
        "GFT": timed(lambda: update(subject, GFT(), temperature=True)),
    }
    draws = {
        "GFT": timed(lambda: subject.sample(subject.model(temperature=True), Temperature(0.6))),
        "CFG": timed(lambda: subject.sample(subject.model(temperature=False), ClassifierFree(2.0))),
    }
    return (
        f"step of {BATCH}: {steps['GFT']:.1f} ms, {steps['GFT'] / steps['conditional']:.2f}x the conditional one; "
        f"sampling {BATCH}: {draws['GFT']:.1f} ms, {draws['GFT'] / draws['CFG']:.2f}x CFG's"
    )


def update(subject: Subject, objective: GFT | Conditional, *, temperature: bool) -> None:
    """The forward and backward passes of one training step."""
    batch = subject.batch(temperature=temperature)
    generator = SampleGenerator.for_samples("check cost", 0, range(BATCH))
    objective.loss(batch.model, batch.problem, batch.condition, generator).mean().backward()
    batch.model.network.zero_grad(set_to_none=True)


def timed(job: Callable[[], object], rounds: int = 3) -> float:
    """Median milliseconds of a job, after one round to warm up."""
    seconds = []
    for turn in range(rounds + 1):
        begin = time.perf_counter()
        job()
        if turn:
            seconds.append(time.perf_counter() - begin)
    return 1000 * statistics.median(seconds)
