"""What only a device can show of training and sampling: each check returns what it found, or fails."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import throughput
import torch
from safetensors.torch import load_file
from sampling_speed import Pair
from torch.utils._python_dispatch import TorchDispatchMode

from gftzoo.contract.guidance import Temperature
from gftzoo.engine import TrainConfig, checkpoints, resolve, train
from gftzoo.engine.run import room
from gftzoo.precision import choose_dtype
from gftzoo.sampling import image_seeds

SMALL = {"batch_size": 8, "log_every": 1, "sample_every": 1000, "sample_grid": [1, 1], "ema_decay": 0.9}
# What makes the processor wait for a device: a number, a shape that follows from values.
WAITS = ("aten._local_scalar_dense", "aten.nonzero", "aten.equal", "aten.is_nonzero")


def config(steps: int, device: torch.device, **options: Any) -> TrainConfig:
    return resolve("dit-nano", objective="gft", steps=steps, options={**SMALL, "device": device.type, **options})


def weights(run: Path) -> dict[str, torch.Tensor]:
    newest = checkpoints.newest(run)
    assert newest is not None, "the run left no checkpoint"
    return load_file(newest / "raw.safetensors")


def resume_to_the_bit(device: torch.device) -> str:
    """Four steps at once, and two with two more."""
    with tempfile.TemporaryDirectory() as name, deterministic():
        folder = Path(name)
        whole = weights(train(config(4, device), folder / "whole"))
        train(config(2, device), folder / "parts")
        train(config(4, device), folder / "parts", resume=True)
        parts = weights(folder / "parts")
    gap = max(float((value - parts[key]).abs().max()) for key, value in whole.items())
    assert gap == 0, f"weights differ by {gap:.3g}"
    return "4 steps, and 2 and 2: the same weights"


@contextmanager
def deterministic() -> Iterator[None]:
    """Kernels whose sums have one order, where there are such."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def fp16_scaler(device: torch.device) -> str:
    """A run in fp16: finite weights, and a scale in its checkpoint."""
    with tempfile.TemporaryDirectory() as name:
        run = train(config(3, device, precision="fp16"), Path(name) / "run")
        newest = checkpoints.newest(run)
        assert newest is not None
        scale = checkpoints.read_state(newest)["scaler"]["scale"]
        assert all(value.isfinite().all() for value in weights(run).values())
    return f"3 steps, scale {scale:g}"


def fsdp_offload(device: torch.device) -> str:
    """FSDP2 with weights that wait on the CPU, in a group of this process alone, beside a plain run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = weights(train(config(2, device, precision="fp32"), folder / "plain"))
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        store = torch.distributed.FileStore(str(folder / "store"), 1)
        torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
        try:
            options = {"parallel": "fsdp", "offload": True, "precision": "fp32"}
            sharded = weights(train(config(2, device, **options), folder / "sharded"))
        finally:
            torch.distributed.destroy_process_group()
    gap = max(float((value - sharded[key]).abs().max()) for key, value in plain.items())
    assert gap < 1e-4, f"weights differ by {gap:.3g} from those of a plain run"
    return f"2 steps, {gap:.1g} from a plain run"


class Waits(TorchDispatchMode):
    """Counts operations that a device would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += str(func).startswith(WAITS)
        return func(*args, **(kwargs or {}))


def synchronising_calls(device: torch.device) -> str:
    """How often a training step waits for the device: as CUDA says, elsewhere by the operations that would."""
    found = []
    for objective in ("conditional", "gft"):
        bench = throughput.Bench(throughput.configuration("dit-nano", objective, 8, "bf16"), device)
        bench.step()
        found.append(f"{objective} {waits_of_cuda(bench) if device.type == 'cuda' else waits_of(bench)}")
    return f"calls a step: {', '.join(found)}"


def waits_of(bench: throughput.Bench) -> int:
    with Waits() as waits:
        bench.step()
    return waits.count


def waits_of_cuda(bench: throughput.Bench) -> int:
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            bench.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in told)


def compiled_samples(device: torch.device) -> str:
    """Compiled sampling against eager, on a GPU with CUDA graphs; a second batch reuses them."""
    found = []
    names = ("dit-nano", "llamagen-nano", "var-nano", "mar-nano", "maskgit-nano", "sd-nano")
    for name in names if device.type == "cuda" else ("maskgit-nano",):
        torch._dynamo.reset()
        model = Pair.build(name, device, 1).gft
        settings = {"head_steps": 4} if name == "mar-nano" else {}
        draws = [drawn(model, seed, settings) for seed in (0, 1)]
        model.compile(backend="inductor" if device.type == "cuda" else "eager")
        for seed, plain in enumerate(draws):
            found.append(f"{name} {gap(plain, drawn(model, seed, settings)):.1g}")
    return f"differences: {', '.join(found)}"


def drawn(model: Any, seed: int, settings: dict[str, Any]) -> torch.Tensor:
    conditions = throughput.trace.example_conditions(model.card, 2)
    return model.sample_latents(conditions, Temperature(0.5), image_seeds(seed, range(2)), **settings).clone()


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    """The relative distance of latents, or the share of codes that are others; AssertionError beyond a tenth."""
    codes = not a.is_floating_point()
    found = float((a != b).float().mean()) if codes else float((a - b).norm() / a.norm())
    assert found <= 0.1, f"compiled and eager samples differ by {found:.2g}"
    return found


def bf16_samples(device: torch.device) -> str:
    """bf16 sampling against fp32."""
    model = Pair.build("dit-nano", device).gft
    plain = drawn(model, 0, {"steps": 4})
    model.half = choose_dtype("bf16", device)
    return f"dit-nano {gap(plain, drawn(model, 0, {'steps': 4})):.1g} of the norm"


def batch_that_fits(device: torch.device) -> str:
    """The batch that is chosen for a full-size model is drawn without running out of memory."""
    full = device.type == "cuda"
    model = Pair.build("dit-xl" if full else "dit-nano", device).gft
    size = room.images_at_once(model, 2)
    conditions = throughput.trace.example_conditions(model.card, size)
    model.sample_latents(conditions, Temperature(0.5), image_seeds(0, range(size)), steps=1)
    return f"{model.card.name}: {size} images"


CHECKS: dict[str, Callable[[torch.device], str]] = {
    "resume to the bit": resume_to_the_bit,
    "fp16 with its scaler": fp16_scaler,
    "FSDP2 with offload on one device": fsdp_offload,
    "a step waits for the device": synchronising_calls,
    "compiled sampling": compiled_samples,
    "bf16 sampling": bf16_samples,
    "the batch that fits": batch_that_fits,
}
