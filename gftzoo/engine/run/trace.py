"""What one forward pass computes, and keeps for the backward pass, found on the meta device: no memory is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from gftzoo.catalogue.cards import ModelCard
from gftzoo.generator import SampleGenerator
from gftzoo.model import Model

T = TypeVar("T")
# What autocast runs in half precision; the rest of its list is rare in these networks.
PRODUCTS = {
    F.linear, F.conv1d, F.conv2d, F.scaled_dot_product_attention, torch.matmul, torch.bmm, torch.baddbmm, torch.addmm,
    torch.einsum, Tensor.matmul, Tensor.__matmul__, Tensor.bmm,
}  # fmt: skip
# What autocast runs in fp32 on a GPU.
FULL = {F.layer_norm, F.group_norm, F.softmax, torch.softmax, Tensor.softmax, F.cross_entropy, F.mse_loss}


def trace_forward(
    model: Model, half: torch.dtype | None = None, checkpointed: bool = False
) -> tuple[float, float] | None:
    """(FLOPs, bytes kept for the backward pass) of one image's conditional forward; None if it cannot be traced.

    Args:
        model: its network is on the meta device.
        half: autocast's dtype, if there is autocast.
        checkpointed: blocks keep only what they are given, and one at a time what it recomputes.
    """
    blocks = model.family.blocks(model.network) if checkpointed else []

    def cost(device: torch.device, rows: int) -> tuple[float, float]:
        kept = Kept()
        with kept.watch(blocks), LikeADevice(half, kept):
            flops = _forward_flops(model, device, rows)
        return flops / rows, kept.total() / rows

    return _traced(cost)


def _traced(cost: Callable[[torch.device, int], T]) -> T | None:
    """What a measure says of rows on the meta device; None if it cannot be traced.

    A family whose problems depend on values, on how much a mask hides, gets some that have values, and then forgets.
    """
    for device, rows in (("meta", 2), ("cpu", 8)):
        try:
            return cost(torch.device(device), rows)
        except Exception:  # noqa: S112  # shapes that follow from values fail in many ways
            continue
    return None


class Frozen(NamedTuple):
    """What one image costs where most of the network is frozen."""

    forward_flops: float
    step_flops: float  # of a forward and what of a backward pass reaches the parameters that train
    peak_bytes: float  # of the forward pass: what it keeps, and what it needs for a moment


def trace_frozen(model: Model, half: torch.dtype | None = None) -> Frozen | None:
    """The cost of one image where parameters are frozen, and much is let go of at once; None if it cannot be traced.

    Args:
        model: its network is on the meta device.
        half: autocast's dtype, if there is autocast.
    """

    def cost(device: torch.device, rows: int) -> Frozen:
        held = Held()
        with LikeADevice(half, Kept()):
            with torch.no_grad():
                forward = _forward_flops(model, device, rows)
            step = _forward_flops(model, device, rows, backward=True)
            with held:
                _forward_flops(model, device, rows)
        return Frozen(forward / rows, step / rows, held.peak / rows)

    return _traced(cost)


def trace_sampling(model: Model, half: torch.dtype | None = None) -> float | None:
    """The most bytes that one image's pass needs at once without gradients; None if it cannot be traced.

    Args:
        model: its network is on the meta device.
        half: autocast's dtype, if there is autocast.
    """

    def cost(device: torch.device, rows: int) -> float:
        held = Held()
        with torch.no_grad(), LikeADevice(half, Kept()), held:
            _forward_flops(model, device, rows)
        return held.peak / rows

    return _traced(cost)


def _forward_flops(model: Model, device: torch.device, rows: int, backward: bool = False) -> float:
    from torch.utils.flop_counter import FlopCounterMode  # imports triton, and what is known is not traced

    latents = torch.zeros_like(example_latents(model.card, rows), device=device)
    problem = model.family.draw_problem(model, latents, SampleGenerator(list(range(rows)), device)).to("meta")
    beta = torch.ones(rows, device="meta") if model.card.temperature else None
    condition = model.family.encode_condition(model, example_conditions(model.card, rows))
    with FlopCounterMode(display=False) as counter:
        prediction = model.family.predict(model, problem, condition, beta)
        loss = model.family.loss_term(model, prediction, problem).sum()
        if backward:
            loss.backward()
    return float(counter.get_total_flops())


class Held(TorchDispatchMode):
    """The most bytes of the meta device that are alive at once, beside what was there before."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        result = func(*args, **(kwargs or {}))
        self.alive = {key: entry for key, entry in self.alive.items() if not entry[0].expired()}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.is_meta and tensor.untyped_storage()._cdata not in known:
                storage = tensor.untyped_storage()
                self.alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return result


class Kept:
    """Storages that autograd keeps, by block; weights are not among them.

    The storages themselves are held, which costs nothing on the meta device: one that is freed would leave its address
    to another.
    """

    def __init__(self) -> None:
        self.outside: dict[int, torch.UntypedStorage] = {}  # by address
        self.inside: list[dict[int, torch.UntypedStorage]] = []
        self.weights: dict[int, torch.UntypedStorage] = {}  # autocast's copies of them, which last as long as the step
        self.where = self.outside

    @contextmanager
    def watch(self, blocks: Sequence[nn.Module]) -> Iterator[None]:
        """Records what is kept, that of every block apart."""
        hooks = [block.register_forward_pre_hook(self._enter, with_kwargs=True) for block in blocks]
        hooks += [block.register_forward_hook(self._leave) for block in blocks]
        try:
            with torch.autograd.graph.saved_tensors_hooks(self._record, lambda tensor: tensor):
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def total(self) -> int:
        """Bytes at the start of the backward pass, with the largest of the blocks that are computed again."""
        return _bytes(self.outside) + max(map(_bytes, self.inside), default=0)

    def hold_weight(self, lowered: Tensor) -> None:
        """Leaves autocast's copy of a weight out of what is counted."""
        self.weights[lowered.untyped_storage()._cdata] = lowered.untyped_storage()

    def _record(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if not _is_weight(tensor) and storage._cdata not in self.weights:
            self.where[storage._cdata] = storage
        return tensor

    def _enter(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        self.where = self.outside
        tree_map(lambda given: self._record(given) if isinstance(given, Tensor) else given, (args, kwargs))
        self.where = {}
        self.inside.append(self.where)

    def _leave(self, *_: Any) -> None:
        self.where = self.outside


class LikeADevice(TorchFunctionMode):
    """Makes the meta device run what a real one would: fused attention, and autocast, which it has none of."""

    def __init__(self, half: torch.dtype | None, kept: Kept) -> None:
        super().__init__()
        self.half, self.kept = half, kept

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.half is not None and func in PRODUCTS:
            args, kwargs = tree_map(self._lower, (args, kwargs))
        elif self.half is not None and func in FULL:
            args, kwargs = tree_map(_raise, (args, kwargs))
        if func is F.scaled_dot_product_attention:
            func = fused_attention
        return func(*args, **kwargs)

    def _lower(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            return value
        lowered = value.to(self.half)
        if _is_weight(value):
            self.kept.hold_weight(lowered)
        return lowered


def _raise(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _bytes(storages: dict[int, torch.UntypedStorage]) -> int:
    return sum(storage.nbytes() for storage in storages.values())


def _is_weight(tensor: Tensor) -> bool:
    return isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter)


def fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`scaled_dot_product_attention` of (B, H, L, D) by a kernel that keeps no (L, L) matrix, as real devices have."""
    if query.ndim != 4 or enable_gqa or query.device.type != "meta":
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    bias = None if attn_mask is None else attn_mask.to(query.dtype)
    attend = torch.ops.aten._scaled_dot_product_efficient_attention
    result: Tensor = attend(query, key, value, bias, True, dropout_p, is_causal, scale=scale)[0]
    return result


def example_latents(card: ModelCard, rows: int) -> Tensor:
    """Latents of the right shape and type without values."""
    spec = card.tokenizer
    if spec.codebook is None:
        return torch.empty(rows, spec.channels, card.grid, card.grid, device="meta")
    sides = spec.scales or (card.grid,)
    codes = spec.parts * sum(side * side for side in sides)
    return torch.empty(rows, codes, dtype=torch.int64, device="meta")


def example_conditions(card: ModelCard, rows: int) -> list[int | str]:
    """Conditions of the right kind."""
    return [0] * rows if card.condition == "class" else [""] * rows
