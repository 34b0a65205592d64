"""What every nano model computes, as numbers and hashes: a change of structure must leave them as they are.

    python tests/behaviour.py          # compares with tests/behaviour.json
    python tests/behaviour.py --write  # records anew, after a change that is meant to change them

Hashes are equal only for the same torch on the same kind of processor; everywhere else the numbers are compared.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from nano import NANO, nano_conditions, nano_latents, nano_model
from safetensors.torch import load_file
from torch import Tensor

from gftzoo.engine import checkpoints, resolve, train

RECORD = Path(__file__).with_name("behaviour.json")
SMALL = {"batch_size": 4, "sample_every": 1000, "checkpoint_every": 1, "ema_decay": 0.9}


def machine() -> str:
    """What decides the last bits of a result besides the code."""
    model = next(
        (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), ""
    ) if Path("/proc/cpuinfo").is_file() else ""  # fmt: skip
    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {model.partition(':')[2].strip()}"


def observed(name: str) -> dict[str, list[Any]]:
    """(hash, sum, norm) of loss, gradient, samples and resumed weights of one nano model."""
    found: dict[str, list[Any]] = {}
    for objective in ("gft", "conditional"):
        model = nano_model(name, temperature=objective == "gft")
        conditions, latents = nano_conditions(model, 4), nano_latents(model, 4)
        loss = model.loss(latents, conditions, objective=objective, seed=3)
        loss.backward()
        gradients = [p.grad for _, p in sorted(model.network.named_parameters()) if p.grad is not None]
        strength: dict[str, float] = {"beta": 0.5} if objective == "gft" else {"cfg": 2.0}
        found[f"{objective} loss"] = summary([loss])
        found[f"{objective} gradient"] = summary(gradients)
        found[f"{objective} samples"] = summary([model.sample(conditions[:2], seed=5, **strength)])
    found["resumed weights"] = summary(resumed(name))
    return found


def resumed(name: str) -> list[Tensor]:
    """The weights after two steps of training and, from their checkpoint, a third."""
    config = resolve(name, objective="gft", steps=2, options=SMALL)
    with tempfile.TemporaryDirectory() as folder:
        run = train(config, Path(folder) / "run")
        train(config.model_copy(update={"steps": 3}), run, resume=True)
        newest = checkpoints.newest(run)
        assert newest is not None
        weights = load_file(newest / "raw.safetensors")
    return [weights[key] for key in sorted(weights)]


def summary(tensors: Iterable[Tensor]) -> list[Any]:
    """A hash of all bits, and two numbers that stand for them elsewhere."""
    flat = torch.cat([t.detach().float().reshape(-1) for t in tensors])
    digest = hashlib.sha256(flat.numpy().tobytes()).hexdigest()[:16]
    return [digest, float(flat.double().sum()), float(flat.double().norm())]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    torch.set_num_threads(1)
    now = {"machine": machine(), "models": {name: observed(name) for name in NANO}}
    if parser.parse_args().write:
        RECORD.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
        return 0
    then = json.loads(RECORD.read_text(encoding="utf-8"))
    others = [
        f"{name}: {what}"
        for name, all_of_it in now["models"].items()  # type: ignore[attr-defined]
        for what, value in all_of_it.items()
        if then["models"].get(name, {}).get(what, [None])[0] != value[0]
    ]
    sys.stdout.write(("\n".join(others) or "every hash is equal") + "\n")
    return int(bool(others))


if __name__ == "__main__":
    sys.exit(main())
