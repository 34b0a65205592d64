"""A state dict into a network: every tensor fits, or the first that does not is named."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.errors import GftzooError
from gftzoo.layers.initialisation import Empty
from gftzoo.printing import plain
from gftzoo.weights.choosing import Tensors
from gftzoo.weights.names import UNAVERAGED


class BuildsNetworks(Protocol):
    """A family, as far as its networks go."""

    def build_network(self, card: ModelCard) -> nn.Module:
        """The network of a card."""


MOST_TENSORS = 5_000  # of a network; the largest published ones have some hundred


def empty_network(family: BuildsNetworks, card: ModelCard) -> nn.Module:
    """The network of a card without numbers, which takes no memory; GftzooError for one of absurd depth."""
    seen = 0

    def count(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen > MOST_TENSORS:
            raise GftzooError(
                f"the network that card {card.name!r} describes has more than {MOST_TENSORS:,} tensors; "
                f"check its network options {plain(card.network, 200)}."
            )

    hook = nn.modules.module.register_module_parameter_registration_hook(count)
    try:
        with Empty():
            return family.build_network(card)
    finally:
        hook.remove()


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Strictly loads a state dict.

    GftzooError names the first tensor that is missing, unexpected, misshapen, of another kind of number, or holds what
    is no finite number.
    """
    check_fit(network, tensors, where)
    own = network.state_dict()
    odd = next((key for key, value in tensors.items() if value.layout != torch.strided or value.is_meta), None)
    if odd is not None:
        how = "no numbers (a meta tensor)" if tensors[odd].is_meta else f"the layout {tensors[odd].layout}"
        raise GftzooError(f"{where} does not fit this model: tensor {odd!r} has {how}; save it as a plain tensor.")
    kind = next((key for key in own if _kind(own[key]) != _kind(tensors[key])), None)
    if kind is not None:
        raise GftzooError(
            f"{where} does not fit this model: tensor {kind!r} holds {_kind(tensors[kind])} and the model needs "
            f"{_kind(own[kind])}; take the file before it was quantised or converted."
        )
    parameters = dict(network.named_parameters(remove_duplicate=False))
    broken = next((key for key, value in tensors.items() if _unusable(value, key in parameters)), None)
    if broken is not None:
        what = "NaN" if tensors[broken].isnan().any() else "infinite numbers"
        raise GftzooError(f"{where} holds {what} in tensor {broken!r}; take an earlier checkpoint or fetch it again.")
    network.load_state_dict(dict(tensors))


def _kind(tensor: Tensor) -> str:
    if tensor.is_floating_point():
        return "floating-point numbers"
    if tensor.is_complex():
        return "complex numbers"
    return "booleans" if tensor.dtype == torch.bool else "integers"


def _unusable(value: Tensor, trained: bool) -> bool:
    """A buffer may hold an infinity, that of an attention mask for one."""
    if not value.is_floating_point():
        return False
    value = value.float() if value.element_size() == 1 else value  # few operations know 8 bits
    return not bool(value.isfinite().all() if trained else not value.isnan().any())


def check_fit(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """GftzooError that names the first tensor that is missing, unexpected or misshapen."""
    own = network.state_dict()
    missing = sorted(own.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - own.keys())
    wrong = sorted(key for key in own.keys() & tensors.keys() if own[key].shape != tensors[key].shape)
    if wrong:
        key = wrong[0]
        fault = f"tensor {key!r} has shape {tuple(tensors[key].shape)} and the model needs {tuple(own[key].shape)}"
    elif prefix := shared_prefix(unexpected, missing):
        fault = f"its tensors' names begin with {prefix!r}, which is no wrapper that is known"
        raise GftzooError(f"{where} does not fit this model: {fault}; save it without the prefix.")
    elif missing:
        fault = f"tensor {missing[0]!r} is missing ({len(missing)} in all)"
    elif unexpected:
        fault = f"tensor {unexpected[0][:160]!r} is not part of the model ({len(unexpected)} in all)"
    else:
        return
    raise GftzooError(f"{where} does not fit this model: {fault}; check the model's name and resolution.")


def shared_prefix(names: Collection[str], wanted: Collection[str]) -> str:
    """What all of `names` begin with and would be among `wanted` without; empty if there is nothing such."""
    first = min(names, default="")
    for start in (i + 1 for i, letter in enumerate(first) if letter == "."):
        prefix = first[:start]
        if first[start:] in wanted and all(name.startswith(prefix) for name in names):
            return prefix
    return ""


def completed(network: nn.Module, found: Tensors) -> Mapping[str, Tensor]:
    """The chosen tensors, and for an average what is never trained or never averaged, from beside it."""
    trained = {name for name, parameter in network.named_parameters(remove_duplicate=False) if parameter.requires_grad}
    fixed = network.state_dict().keys() - trained - found.tensors.keys()
    beside = {k: v for k, v in found.beside.items() if k in fixed or k.startswith(UNAVERAGED)}
    return {**beside, **found.tensors}
