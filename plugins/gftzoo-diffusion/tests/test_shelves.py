"""Networks and processes of the shelves that no nano model has keep the contract, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gftzoo_diffusion.networks import NETWORKS, kind_of
from gftzoo_diffusion.processes import PROCESSES
from safetensors.torch import save_file

from gftzoo.catalogue.cards import ModelCard
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.loading.files import import_model
from gftzoo.model import Model
from gftzoo.testing import CHECKS, Check, Subject, examine
from gftzoo.zoo import get_card, get_tokenizer_spec, list_models

NANO = {str(card.network.get("kind", "dit")): card for card in list_models("*-nano", family="diffusion")}
TRAINED_ON = {str(card.network.get("process", "linear")) for card in list_models("*-nano", family="diffusion")}
OF_THE_PROCESS = [c for c in CHECKS if c.hook in ("draw_problem", "loss_term", "temperature_sampler") and not c.slow]
OF_A_SMALL_CARD = [c for c in CHECKS if c.name not in ("parameter-counts", "costs") and not c.slow]


def broken(card: ModelCard, checks: list[Check]) -> list[str]:
    subject = Subject(card)
    return [f.explanation() for f in (examine(subject, check) for check in checks) if not f.holds]


@pytest.mark.parametrize("process", [name for name in PROCESSES if name not in TRAINED_ON])
def test_a_process_keeps_the_contract(process: str) -> None:
    way = PROCESSES[process]
    network = {"process": process, "loss_weight": way.weights[-1], "depth": 1, "width": 16, "heads": 2, "patch": 4}
    assert not broken(NANO["dit"].change(network=network, sampler={"sampler": way.samplers[0]}), OF_THE_PROCESS)


def test_a_network_for_prompts_keeps_the_contract() -> None:
    full = get_card("uvit-s-coco")
    sizes: dict[str, Any] = {"depth": 2, "width": 32, "heads": 2, "patch": 4, "text_tokens": 24, "text_width": 96}
    small = {"tokenizer": get_tokenizer_spec("pixels"), "resolution": 8, "text_encoder": "nano"}
    assert not broken(full.change(network={**full.network, **sizes}, **small), OF_A_SMALL_CARD)


@pytest.mark.parametrize("kind", NANO)
def test_latents_are_square_and_divide(kind: str) -> None:
    model, odd = Model.fresh(NANO[kind], None), NANO[kind].resolution + NANO[kind].tokenizer.downsample
    with pytest.raises(UsageError, match="does not divide"):
        Model.fresh(NANO[kind].change(resolution=odd))
    side, channels = model.card.grid, model.card.tokenizer.channels
    with pytest.raises(UsageError, match=f"reads latents of {side}x{side} and these are {side // 2}x{2 * side}"):
        model.family.draw_problem(model, torch.zeros(2, channels, side // 2, 2 * side), SampleGenerator([0, 1]))


@pytest.mark.parametrize("kind", NANO)
def test_other_classes_start_at_the_null_class(kind: str, tmp_path: Path) -> None:
    base = Model.fresh(NANO[kind], None)
    save_file(base.network.state_dict(), tmp_path / "base.safetensors")
    fitted = import_model(base.card.change(classes=3), tmp_path / "base.safetensors").network.state_dict()
    table = kind_of({"kind": kind}).class_table
    assert torch.equal(fitted[table], base.network.state_dict()[table][-1:].expand(4, -1))


def test_every_network_has_a_nano_model_or_a_test_of_its_own() -> None:
    assert set(NETWORKS) - set(NANO) == {"uvit-text"}
