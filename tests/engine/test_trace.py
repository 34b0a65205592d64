"""What a forward pass is expected to keep for the backward pass, beside what a real one keeps."""

from __future__ import annotations

import pytest
import torch
from nano import NANO, nano_conditions, nano_latents, nano_model
from torch import Tensor

from gftzoo.engine.run.trace import trace_forward
from gftzoo.families.finding import load_family
from gftzoo.generator import SampleGenerator
from gftzoo.model import Model

ROWS = 8


def on_meta(name: str, **network: int) -> Model:
    card = nano_model(name, temperature=True).card
    card = card.change(network={**card.network, **network})
    family = load_family(card.family)
    with torch.device("meta"):
        return Model(card, family.build_network(card), None, family)


def really_kept(model: Model) -> float:
    """Bytes of an image that a real forward pass hands to the backward pass, weights aside."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.network.parameters()}
    saved: dict[int, Tensor] = {}  # the tensors themselves, so that no storage is used twice

    def record(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    family = model.family
    problem = family.draw_problem(model, nano_latents(model, ROWS), SampleGenerator(list(range(ROWS))))
    condition = model.encode_condition(nano_conditions(model, ROWS))
    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        family.loss_term(model, family.predict(model, problem, condition, torch.ones(ROWS)), problem).sum()
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values()) / ROWS


@pytest.mark.parametrize("name", NANO)
def test_the_trace_is_what_a_real_forward_keeps(name: str) -> None:
    traced = trace_forward(on_meta(name))
    assert traced is not None
    assert traced[1] == pytest.approx(really_kept(nano_model(name, temperature=True)), rel=0.15)


@pytest.mark.parametrize("name", NANO)
def test_half_precision_and_checkpointing_keep_less_and_compute_the_same(name: str) -> None:
    model = on_meta(name)
    full, half = trace_forward(model), trace_forward(model, torch.bfloat16)
    checkpointed = trace_forward(model, torch.bfloat16, checkpointed=True)
    assert full and half and checkpointed
    assert half == trace_forward(model, torch.bfloat16)  # nothing depends on where memory happens to be
    assert full[0] == half[0] == checkpointed[0]
    assert 0.5 < half[1] / full[1] < 0.85  # normalisations and the residual stream stay in fp32
    assert checkpointed[1] < 0.7 * half[1]


def test_checkpointed_blocks_cost_their_inputs_and_one_of_them_in_full() -> None:
    def kept(depth: int, checkpointed: bool) -> float:
        traced = trace_forward(on_meta("dit-nano", depth=depth), checkpointed=checkpointed)
        assert traced is not None
        return traced[1]

    block, inputs = (kept(8, checkpointed) - kept(4, checkpointed) for checkpointed in (False, True))
    width, tokens = 96, 16
    assert inputs == 4 * 4 * width * tokens  # 4 more blocks, 4 bytes a number; the conditioning is shared
    assert kept(4, True) - 4 * inputs / 4 == pytest.approx(kept(4, False) - 3 * block / 4, rel=0.02)
