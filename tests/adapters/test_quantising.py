"""A frozen base in 8 or 4 bits: which layers it is of, what it costs, and what is said where it cannot be."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gftzoo.adapters.quantising import quantise_frozen, quantised_layers
from gftzoo.engine import Job, resolve
from gftzoo.engine.parallel.place import Place
from gftzoo.engine.run.adapting import in_way, refuse_half_base
from gftzoo.engine.run.estimate import training_cost
from gftzoo.errors import UsageError
from gftzoo.layers.lora import add_lora
from gftzoo.layers.lora_options import BasePrecision, LoraOptions

BF16 = Place(torch.device("cpu"), torch.bfloat16)


def adapted() -> nn.ModuleDict:
    """Factors on one of three layers in blocks, of which one has rows that 4 bits do not take."""
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 96), nn.Linear(96, 64))
    network = nn.ModuleDict({"blocks": nn.ModuleList([block]), "head": nn.Linear(64, 8)})
    add_lora(network, LoraOptions(rank=4, targets=r"blocks\.0\.0"))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(".lora_" in name)
    return network


@pytest.mark.parametrize(("base", "count"), [("8bit", 3), ("4bit", 2)])
def test_the_frozen_layers_of_blocks(base: BasePrecision, count: int) -> None:
    network = adapted()
    assert len(list(quantised_layers(network["blocks"], base))) == count  # type: ignore[arg-type]
    pytest.importorskip("bitsandbytes")
    x = torch.randn(5, 128)
    wanted = network["blocks"][0](x)  # type: ignore[index]
    quantise_frozen(network["blocks"], base, torch.bfloat16, BF16.device)  # type: ignore[arg-type]
    with torch.autocast("cpu", torch.bfloat16):
        found = network["blocks"][0](x)  # type: ignore[index]
    found.float().sum().backward()
    assert (found - wanted).norm() < (0.02 if base == "8bit" else 0.2) * wanted.norm()
    assert {key for key, p in network.named_parameters() if p.grad is not None} == {
        f"blocks.0.0.lora_{factor}.default.weight" for factor in "AB"
    }
    assert network["head"].weight.dtype == torch.float32 and not list(quantised_layers(network["blocks"], base))  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [ImportError("libcudart"), RuntimeError("no kernel")])
def test_a_package_that_fails_on_the_device_is_one_sentence(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> None:
        raise error

    monkeypatch.setattr("gftzoo.adapters.quantising.import_module", fails)
    with pytest.raises(UsageError, match=rf"lora\.base=8bit cannot be on cpu.*{error}.*-o lora\.base=half"):
        quantise_frozen([], "8bit", torch.bfloat16, BF16.device)


def test_fewer_bits_cost_less_and_need_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    job = in_way(Job(resolve("dit-nano", weights="README.md", options={"train": "temperature"})), "lora")
    jobs = [job.changed(lora=LoraOptions(base=base)) for base in ("full", "half", "8bit", "4bit")]
    full, half, eight, four = (training_cost(each, BF16).state_bytes for each in jobs)
    assert full > half > four > eight  # of whose rows few are a multiple of 64
    monkeypatch.setattr("gftzoo.adapters.quantising.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"by bitsandbytes, which is not installed.*gftzoo\[optimizers\].*=half"):
        refuse_half_base(jobs[2], BF16)
    monkeypatch.undo()
    monkeypatch.setattr("gftzoo.adapters.quantising.find_spec", lambda _: True)
    monkeypatch.setattr("gftzoo.engine.run.adapting.rank_and_world", lambda: (0, 2))
    with pytest.raises(UsageError, match=r"lora\.base=4bit is of one device"):
        refuse_half_base(jobs[3], BF16)
