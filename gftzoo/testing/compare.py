"""Comparisons of tensors that say what they found."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gftzoo.testing.broken import Broken

ROUNDING = 1e-4  # of float32 networks in batches of different sizes, as a share of the largest value
GRADIENTS = 1e-3  # as a share of the largest gradient: sums of many float32 terms


def expect(holds: bool, sentence: str) -> None:
    """Broken with `sentence` unless it holds."""
    if not holds:
        raise Broken(sentence)


def difference(a: Tensor, b: Tensor) -> float:
    """The largest difference as a share of the largest value (of 1, if that is smaller); infinite where not finite."""
    if a.shape != b.shape:
        raise Broken(f"shapes {tuple(a.shape)} and {tuple(b.shape)} instead of equal ones.")
    if a.numel() == 0:
        return 0.0
    a, b = a.detach().double(), b.detach().double()
    gap = float((a - b).abs().max() / b.abs().max().clamp(min=1.0))
    return float("inf") if math.isnan(gap) else gap


def same(a: Tensor, b: Tensor, what: str, tolerance: float = 0.0) -> str:
    """The numbers, if `a` equals `b` up to `tolerance`; Broken with the numbers if not."""
    gap = difference(a, b)
    if gap > tolerance:
        rows = differing_rows(a, b, tolerance)
        raise Broken(f"{what}: relative difference {gap:.2g} in rows {rows}, allowed {tolerance:.2g}.")
    return f"difference {gap:.1g}" if gap else "equal to the bit"


def other(a: Tensor, b: Tensor, what: str, least: float = 1e-6) -> str:
    """The numbers, if `a` differs from `b` by more than rounding; Broken with the numbers if not."""
    gap = difference(a, b)
    expect(gap > least, f"{what}: relative difference {gap:.2g}, where more than {least:.2g} is expected.")
    return f"difference {gap:.2g}"


def differing_rows(a: Tensor, b: Tensor, tolerance: float) -> list[int]:
    """The indices of the first dimension at which two tensors differ by more than `tolerance`."""
    if a.ndim == 0:
        return []
    gap = (a.detach().double() - b.detach().double()).abs().reshape(len(a), -1).amax(1)
    bound = tolerance * b.detach().double().abs().max().clamp(min=1.0)
    return torch.nonzero(~(gap <= bound)).flatten().tolist()


def cosine(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The cosine between two sets of gradients with the same names."""
    flat = [torch.cat([x[name].detach().float().flatten() for name in sorted(a)]) for x in (a, b)]
    return float(torch.cosine_similarity(flat[0], flat[1], dim=0))


def gradients(network: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of every parameter that has one."""
    network.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def equal_gradients(a: dict[str, Tensor], b: dict[str, Tensor], what: str) -> str:
    """The numbers, if two sets of gradients are equal; Broken with the worst parameter if not."""
    expect(a.keys() == b.keys(), f"{what}: parameters with a gradient in one only: {sorted(a.keys() ^ b.keys())[:3]}.")
    expect(bool(a), f"{what}: no parameter has a gradient.")
    size = max(float(gradient.abs().max()) for gradient in b.values())
    gaps = {name: float((a[name] - b[name]).abs().max()) / max(size, 1e-12) for name in a}
    worst = max(gaps, key=lambda name: gaps[name])
    expect(
        gaps[worst] <= GRADIENTS,
        f"{what}: {worst} differs by {gaps[worst]:.2g} of the largest gradient, allowed {GRADIENTS:g}.",
    )
    return f"difference {gaps[worst]:.1g}"
