"""The pieces that families inherit, where no family of the zoo shows it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.catalogue.cards import ModelCard, TokenizerSpec
from gftzoo.contract.guidance import ClassifierFree
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.pieces import (
    ClassConditions,
    CodePrediction,
    CodeProblem,
    MatrixDecay,
    NoisedProblem,
    NoisePrediction,
    OfficialWeights,
    OwnTokenizers,
    SamplerChoice,
    Steered,
    hook,
    ramp,
)
from gftzoo.errors import GftzooError
from gftzoo.families.defaults import Defaults
from gftzoo.foreign_folders import load_foreign
from gftzoo.layers.sinusoid import SinusoidEmbedding
from gftzoo.layers.temperature import Slope
from gftzoo.plugins.loading import Hooks, new_manager
from gftzoo.tokenizers import Pixels

MODEL: Any = SimpleNamespace(card=SimpleNamespace(classes=3))


def drawn(model: Any, condition: Tensor) -> Tensor:
    return condition


class Network(nn.Module):
    """A class table of five rows, an embedded temperature and one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4)
        self.beta = SinusoidEmbedding(4)
        self.head = nn.Linear(4, 2)


class Composed(ClassConditions, CodePrediction[CodeProblem], OfficialWeights, MatrixDecay, OwnTokenizers):
    class_table = "table.weight"
    embeddings = {"beta": ("table.weight",)}
    readout = "head"
    undecayed = ("beta",)
    tokenizers = {"mine": lambda spec, _: Pixels(spec)}
    temperature_sampler = hook(drawn)

    @hookimpl
    def build_network(self, card: Any) -> nn.Module:
        return Network()

    def own_key(self, key: str) -> str | None:
        return None if key == "steps" else key.removeprefix("net.")


@pytest.fixture(scope="module")
def family() -> Any:
    """The hooks of the composed family, as pluggy calls them."""
    manager = new_manager()
    manager.register(Hooks(Composed()))
    manager.check_pending()
    return manager.hook


def test_inherited_and_assigned_hooks_are_found(family: Any) -> None:
    condition = torch.tensor([0, 1, 2])
    dropped = family.condition_drop(model=MODEL, condition=condition, dropped=torch.tensor([True, False, False]))
    assert dropped.tolist() == [3, 1, 2]
    given = {"guidance": None, "settings": None, "generator": None}
    assert family.temperature_sampler(model=MODEL, condition=condition, **given) is condition
    spec = TokenizerSpec(id="a", kind="mine", channels=1)
    assert isinstance(family.build_tokenizer(spec=spec, weights=None), Pixels)
    assert family.build_tokenizer(spec=spec.model_copy(update={"kind": "other"}), weights=None) is None


def test_codes_that_are_not_asked_for_do_not_count(family: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    logits_BNV, codes = torch.randn(2, 4, 5, generator=generator), torch.tensor([[0, 1, 2, 3], [4, 3, 2, 1]])
    asked = torch.tensor([[True, False, True, False], [False, False, False, True]])
    problem = CodeProblem(codes, asked=asked)
    loss_B = family.loss_term(model=MODEL, prediction=logits_BNV, problem=problem)
    likelihood_B = family.log_likelihood(model=MODEL, prediction=logits_BNV, problem=problem)
    for row in range(2):
        kept = asked[row]
        assert loss_B[row] == pytest.approx(F.cross_entropy(logits_BNV[row, kept], codes[row, kept]).item())
        assert likelihood_B[row] == pytest.approx(-loss_B[row].item() * int(kept.sum()))
    everything = CodeProblem(codes, asked=torch.ones_like(asked))
    whole = family.loss_term(model=MODEL, prediction=logits_BNV, problem=CodeProblem(codes))
    assert torch.allclose(family.loss_term(model=MODEL, prediction=logits_BNV, problem=everything), whole)
    assert problem.select(torch.tensor([1])).asked.tolist() == asked[1:].tolist()  # type: ignore[union-attr]


def test_a_variance_behind_the_noise_does_not_count() -> None:
    target = torch.randn(2, 3, 4, 4)
    problem = NoisedProblem(target, torch.zeros(2), target)
    wider = torch.cat([target, torch.randn_like(target)], 1)
    piece = NoisePrediction[NoisedProblem]()
    assert piece.loss_term(MODEL, wider, problem).tolist() == [0, 0]
    assert piece.prediction_distance(MODEL, wider, torch.cat([target, wider], 1), problem).tolist() == [0, 0]


def test_official_weights_are_renamed_and_completed(family: Any) -> None:
    official = {f"net.{k}": v for k, v in Network().state_dict().items() if not k.startswith("beta")}
    official["net.table.weight"] = torch.arange(12.0).view(3, 4)
    found = family.import_weights(card=ModelCard, tensors={**official, "steps": torch.zeros(1)})
    network = Network()
    network.load_state_dict(found)
    assert not network.beta(torch.rand(3)).any()
    assert torch.equal(network.table.weight, official["net.table.weight"][-1:].expand(5, -1))


def test_a_temperature_is_folded_into_the_table(family: Any) -> None:
    network = Network()
    found = family.fold_temperature(model=SimpleNamespace(network=network), beta=0.5)
    assert found.keys() == {"table.weight", "head.weight", "head.bias"}
    assert torch.allclose(found["table.weight"], network.table.weight + network.beta(torch.tensor([0.5])), atol=1e-6)


def test_matrices_decay_but_for_those_named(family: Any) -> None:
    network = Network()
    decayed, plain = family.parameter_groups(network=network, weight_decay=0.1)
    assert [p.shape for p in decayed["params"]] == [(5, 4), (2, 4)]
    assert len(plain["params"]) == 5 and (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)


def test_the_blocks_of_a_slope_are_not_the_trunk() -> None:
    network = nn.Module()
    network.blocks = nn.ModuleList([nn.Identity()])
    network.slope = Slope(nn.Linear(1, 1), [nn.Identity(), nn.Identity()])
    assert Defaults().blocks(network) == list(network.blocks)


def test_steering_gives_every_pass_its_condition() -> None:
    model: Any = SimpleNamespace(null_condition=lambda condition: condition * 0, compiler=None)
    steered = Steered(model, torch.tensor([1.0, 2.0]), ClassifierFree(3.0))
    guided = steered.predict(lambda x, condition, beta: x + condition.double(), 0.0, torch.tensor([10.0, 20.0]))
    assert guided.tolist() == [13, 26] and guided.dtype == torch.float32
    assert list(ramp("abc")) == [(0.0, "a"), (0.5, "b"), (1.0, "c")] and list(ramp("a")) == [(0.0, "a")]


def test_a_setting_of_another_sampler_is_refused() -> None:
    class Settings(SamplerChoice):
        only_of = {"eta": ("ddim",)}

        sampler: Literal["ddpm", "ddim"] = "ddpm"
        eta: float = Field(0.0)

    assert Settings(sampler="ddim", eta=0.5).eta == 0.5 and Settings(eta=0.0).eta == 0.0
    with pytest.raises(ValidationError, match=r"ddpm does not have it; choose sampler=ddim"):
        Settings(eta=0.5)


def test_a_foreign_part_that_cannot_be_had_is_one_sentence() -> None:
    kind: Any = SimpleNamespace(from_pretrained=lambda *_, **__: 1 / 0)
    with pytest.raises(GftzooError, match=r"^the encoder could not be loaded \(ZeroDivisionError: .*\); try again\.$"):
        load_foreign(kind, "nowhere", "the encoder", "try again.")
