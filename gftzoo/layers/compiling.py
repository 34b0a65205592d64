"""Compilation of what a sampler does again and again: one graph a shape, which a GPU records and replays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

MOST_SHAPES = 64  # of one step, e.g. VAR's scales or the tokens of MAR's rounds; torch stops at 8


def compiled(step: Callable[..., Any], on_gpu: bool, backend: str = "inductor") -> Callable[..., Any]:
    """The step as one graph for each shape of its inputs; on a GPU a CUDA graph, whose result is a copy."""
    allow_shapes()
    replayed = on_gpu and backend == "inductor"
    mode = "reduce-overhead" if replayed else None
    found: Callable[..., Any] = torch.compile(step, fullgraph=True, dynamic=False, backend=backend, mode=mode)
    return (lambda *inputs: replay(found, *inputs)) if replayed else found


def replay(step: Callable[..., Any], *inputs: Any) -> Any:
    """What a recorded step returns, copied out of the memory to which its next replay writes."""
    torch.compiler.cudagraph_mark_step_begin()
    return tree_map_only(Tensor, Tensor.clone, step(*inputs))


def compile_network(
    network: nn.Module, blocks: Sequence[nn.Module], steady: bool, on_gpu: bool, backend: str = "inductor"
) -> None:
    """Compiles in place: the whole network for a GPU where its inputs have one shape, its blocks alone elsewhere.

    Blocks that are alike are compiled once; where shapes change they are compiled for all of them at the second one.
    """
    allow_shapes()
    if steady and on_gpu and backend == "inductor":
        network.compile(fullgraph=True, dynamic=False, mode="reduce-overhead")
        return
    for block in blocks:
        block.compile(fullgraph=True, dynamic=False if steady else None, backend=backend)


def hold_still(*buffers: Tensor) -> None:
    """Lets CUDA graphs write to buffers on a GPU, which they refuse otherwise."""
    for buffer in buffers:
        torch._dynamo.mark_static_address(buffer)


def allow_shapes() -> None:
    """Lets torch compile one step for as many shapes as the samplers of the zoo have."""
    config: Any = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, MOST_SHAPES)
