"""Everything that trains as named tensors, and their way into files and back: whole, or every rank its own parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from gftzoo.adapters import adapter_of, adapter_tensors
from gftzoo.engine.step.ema import EMA, local
from gftzoo.group import is_main_process
from gftzoo.model import Model
from gftzoo.parts import fill_from_parts, shapes_of_parts, write_parts

Named = dict[str, Tensor]


def live(model: Model, optimizer: torch.optim.Optimizer, ema: EMA | None) -> Iterator[tuple[str, Named]]:
    """What a checkpoint is made of, by file: `raw`, `optimizer` and, where there is an average, `ema`.

    The tensors are those that train and not copies; sharded ones are DTensors. Of an adapter they are it alone.
    """
    weights = stored(model)
    yield "raw", weights
    yield "optimizer", optimizer_tensors(model.network, optimizer)
    if ema is not None:
        yield "ema", {**weights, **averages(model.network, ema)}


def stored(model: Model) -> Named:
    """The weights that a checkpoint of the model holds: all, or those of the adapter."""
    network = model.network
    return dict(network.state_dict()) if adapter_of(model) is None else adapter_tensors(network)


def averages(network: nn.Module, ema: EMA) -> Named:
    """The averaged parameters, sharded as the parameters are."""
    parts = {id(parameter): ema.shadow[name] for name, parameter in network.named_parameters() if name in ema.shadow}
    named = network.named_parameters(remove_duplicate=False)  # tied weights have an average under each name
    return {name: _sharded_as(parameter, parts[id(parameter)]) for name, parameter in named if id(parameter) in parts}


def _sharded_as(parameter: Tensor, part: Tensor) -> Tensor:
    """This rank's `part` as the DTensor that `parameter` is, or as it is."""
    like = parameter.data
    if not isinstance(like, DTensor):
        return part
    return DTensor.from_local(part, like.device_mesh, like.placements, shape=like.shape, stride=like.stride())


def optimizer_tensors(network: nn.Module, optimizer: torch.optim.Optimizer) -> Named:
    """The optimizer's state as flat tensors, `parameter name/state name`; numbers of Python are such, too."""
    return {
        f"{name}/{key}": value if isinstance(value, Tensor) else torch.tensor(value)
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def empty_optimizer(network: nn.Module, optimizer: torch.optim.Optimizer, saved: Mapping[str, Tensor]) -> Named:
    """Gives the optimizer zeros in place of a saved state, where the parameters are, and returns them to be filled."""
    by_parameter: dict[str, Named] = {}
    for full, tensor in saved.items():
        name, _, key = full.rpartition("/")
        by_parameter.setdefault(name, {})[key] = tensor
    for name, parameter in network.named_parameters():
        if name in by_parameter:
            optimizer.state[parameter] = {key: _zeros(t, parameter.data) for key, t in by_parameter[name].items()}
    return optimizer_tensors(network, optimizer)


def _zeros(saved: Tensor, parameter: Tensor) -> Tensor:
    """Zeros of the type and shape of what was saved for a parameter, sharded as that is where it has its shape."""
    if saved.shape == parameter.shape and saved.ndim:
        return torch.zeros_like(parameter, dtype=saved.dtype)
    return torch.zeros(saved.shape, dtype=saved.dtype, device=parameter.device)


def gathered(tensors: Mapping[str, Tensor]) -> Named:
    """Whole tensors on the CPU of the main process, one after the other; every rank must call it.

    Other ranks get none. What is whole and on a CPU already is not copied.
    """
    found = {}
    for name, tensor in tensors.items():
        complete = _collected(tensor) if isinstance(tensor, DTensor) else tensor.detach()
        if is_main_process():
            found[name] = complete.cpu().contiguous()
    return _unshared(found)


def _collected(tensor: DTensor) -> Tensor:
    """The parts of a sharded tensor put together on the main process; elsewhere this rank's part.

    Only the main process receives, which `DTensor.full_tensor` does not know: it would send everything to every rank.
    Sharding is that of FSDP2: equal runs of rows, of which the last may be short or empty.
    """
    assert tensor.placements == (Shard(0),)
    part, world = tensor.to_local().detach(), tensor.device_mesh.size()
    padded = part.new_zeros(-(-len(tensor) // world), *part.shape[1:])
    padded[: len(part)] = part
    parts = [torch.empty_like(padded) for _ in range(world)] if is_main_process() else None
    torch.distributed.gather(padded, parts)
    return part if parts is None else torch.cat([piece.cpu() for piece in parts])[: len(tensor)]


def _unshared(tensors: Mapping[str, Tensor]) -> Named:
    """Safetensors refuses tensors that share storage (tied weights): each gets its own."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        place = local(tensor).data_ptr()
        result[name] = tensor.clone() if place in seen and place else tensor
        seen.add(place)
    return result


def write_sharded(folder: Path, kind: str, tensors: Named) -> None:
    """Writes every rank's parts of one kind; every rank must call it, and all raise where one cannot write."""
    write_parts(folder / kind, _unshared(tensors))


# As safetensors calls them; a checkpoint has no others.
_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def shapes(folder: Path, kind: str) -> Named:
    """Names, shapes and types of one kind of a checkpoint, on the meta device; no value is read."""
    if (folder / kind).is_dir():
        return shapes_of_parts(folder / kind)
    found = {}
    with safe_open(folder / f"{kind}.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (no mapping)
            part = file.get_slice(name)
            found[name] = torch.empty(part.get_shape(), dtype=_TYPES[part.get_dtype()], device="meta")
    return found


@torch.no_grad()
def not_finite(model: Model, optimizer: torch.optim.Optimizer, ema: EMA | None) -> str | None:
    """The first parameter, moment or average with a value that is no number, of this rank's parts.

    The device is waited for once. Buffers are left out: a mask of VAR's has infinities.
    """
    parameters = {name for name, _ in model.network.named_parameters(remove_duplicate=False)}
    names: dict[torch.device, list[str]] = {}
    finite: dict[torch.device, list[Tensor]] = {}
    for kind, tensors in live(model, optimizer, ema):
        for name, tensor in tensors.items():
            part = local(tensor)
            if part.is_floating_point() and (kind == "optimizer" or name in parameters):
                names.setdefault(part.device, []).append(f"{name!r} of {kind}")
                finite.setdefault(part.device, []).append(torch.isfinite(part).all())
    for device, flags in finite.items():
        good = torch.stack(flags).tolist()
        if not all(good):
            return names[device][good.index(False)]
    return None


@torch.no_grad()
def fill(tensors: Named, folder: Path, kind: str) -> None:
    """Reads one kind of a checkpoint into `tensors`, whole or sharded, whichever way it was written."""
    if (folder / kind).is_dir():
        fill_from_parts(folder / kind, tensors)
        return
    saved = load_file(folder / f"{kind}.safetensors")
    for name, tensor in tensors.items():
        tensor.copy_(_distributed_like(tensor, saved[name]))


def _distributed_like(like: Tensor, value: Tensor) -> Tensor:
    """`value`, a whole tensor, where and sharded as `like` is."""
    value = value.to(like.device)
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)  # all ranks have read it
