"""What single operations of training take, beside how they were written before: one run, in turns, medians.

    python tools/operations.py --out docs/results/operations.csv

Process time on one thread, forward and backward where there is one. The ratio is after over before.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.data.training import mirrored
from gftzoo.engine.step.ema import EMA
from gftzoo.engine.step.loop import reseed
from gftzoo.generator import seed_for
from gftzoo.gft import deterministic
from gftzoo.layers.categorical import nats
from gftzoo.layers.llama import rotate, rotations
from gftzoo.model import Model
from gftzoo.zoo import get_card

Pair = tuple[Callable[[], object], Callable[[], object]]  # before, after


def cross_entropy() -> Pair:
    logits_BNV, codes_BN = torch.randn(4, 256, 4096, requires_grad=True), torch.randint(4096, (4, 256))

    def transposed() -> None:
        F.cross_entropy(logits_BNV.transpose(1, 2), codes_BN, reduction="none").mean().backward()

    return transposed, lambda: nats(logits_BNV, codes_BN).mean().backward()


def rotation() -> Pair:
    cos_LP, sin_LP = rotations(8, 16, 0, torch.device("cpu"))
    x_BHLK = torch.randn(64, 4, 64, 16, requires_grad=True)

    def pairs() -> Tensor:
        a, b = x_BHLK.float().unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack([a * cos_LP - b * sin_LP, b * cos_LP + a * sin_LP], -1).flatten(-2)

    return lambda: pairs().sum().backward(), lambda: rotate(x_BHLK, cos_LP, sin_LP).sum().backward()


def parameters() -> list[nn.Parameter]:
    found = [nn.Parameter(torch.randn(1000, 1000)) for _ in range(10)]
    for parameter in found:
        parameter.grad = torch.randn_like(parameter)
    return found


def adamw() -> Pair:
    return torch.optim.AdamW(parameters(), lr=1e-9).step, torch.optim.AdamW(parameters(), lr=1e-9, fused=True).step


def gradient_norm() -> Pair:
    found = parameters()
    gradients = [parameter.grad for parameter in found if parameter.grad is not None]
    norm = nn.utils.get_total_norm
    return lambda: nn.utils.clip_grad_norm_(found, float("inf")), lambda: norm(gradients)


def mirroring() -> Pair:
    images_BCRR, positions = torch.randint(255, (64, 3, 256, 256), dtype=torch.uint8), range(64)

    def all_of_them() -> Tensor:
        flipped = torch.tensor([bool(seed_for("flip", 0, position) % 2) for position in positions])
        return torch.where(flipped.view(-1, 1, 1, 1), images_BCRR.flip(-1), images_BCRR)

    return all_of_them, lambda: mirrored(images_BCRR, 0, positions)


def evaluation_mode() -> Pair:
    with torch.device("meta"):
        network = Model.fresh(get_card("dit-xl")).network

    def eval_and_back() -> None:
        training = [module for module in network.modules() if module.training]
        network.eval()
        for module in training:
            module.training = True

    def after() -> None:
        with deterministic(network):
            pass

    return eval_and_back, after


def seeding() -> Pair:
    return lambda: torch.manual_seed(seed_for("step", 0)), lambda: reseed("step", 0)


def average() -> Pair:
    """Of many small tensors, as networks have them."""
    network, kept = (nn.ModuleList([nn.Linear(100, 100) for _ in range(1000)]) for _ in range(2))
    after = EMA(network, 0.9)

    @torch.no_grad()
    def one_by_one() -> None:
        for mean, parameter in zip(kept.parameters(), network.parameters(), strict=True):
            mean.mul_(0.9).add_(parameter, alpha=0.1)

    return one_by_one, lambda: after.update(1)


def pairs() -> dict[str, Pair]:
    return {
        "cross-entropy (4, 256, 4096)": cross_entropy(),
        "rotation of LlamaGen": rotation(),
        "AdamW, 10 M parameters": adamw(),
        "gradient norm, nothing clipped": gradient_norm(),
        "mirroring 64 pictures of 256 px": mirroring(),
        "evaluation mode and back, DiT-XL": evaluation_mode(),
        "average of 10 M weights": average(),
        "seeding a step": seeding(),
    }


def measure(found: dict[str, Pair], rounds: int) -> dict[str, float]:
    """After over before, of each operation."""
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in found}
    for turn in range(rounds + 1):
        for name, pair in found.items():
            for taken, job in zip(seconds[name], pair, strict=True):
                begin = time.process_time()
                job()
                if turn:
                    taken.append(time.process_time() - begin)
    return {name: statistics.median(after) / statistics.median(before) for name, (before, after) in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="CSV file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [(name, f"{ratio:.2f}") for name, ratio in measure(pairs(), arguments.rounds).items()]
    for row in rows:
        print(*row)
    if arguments.out is not None:
        with arguments.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("operation", "after_over_before"), *rows])


if __name__ == "__main__":
    main()
