"""Sampling in lower precision and compiled, for every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from nano import NANO, nano_conditions, nano_latents, nano_model
from torch._dynamo.testing import CompileCounter

from gftzoo.compiling import Lowered
from gftzoo.contract.guidance import Temperature
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.data import open_source
from gftzoo.data.encoding import EncodingModel, encode
from gftzoo.data.planning import plan_cache
from gftzoo.errors import UsageError
from gftzoo.evaluate.subjects import subject_of
from gftzoo.generator import SampleGenerator
from gftzoo.model import Model
from gftzoo.sampling import image_seeds, sample_batches

SHORT = {
    "dit": {"steps": 2}, "mdt": {"steps": 2}, "sit": {"steps": 2}, "uvit": {"steps": 2}, "sd": {"steps": 2},
    "adm": {"steps": 2}, "ldm": {"steps": 2}, "mar": {"steps": 2, "head_steps": 2}, "maskgit": {"steps": 3},
}  # fmt: skip
# As few blocks as there can be: what is traced is every block anew.
TINY: dict[str, dict[str, Any]] = {
    "mdt": {"depth": 3, "decode_layer": 1}, "uvit": {"depth": 2}, "mar": {"depth": 1, "head_depth": 1},
    "sd": {"channels": (16,), "attention": (True,)},
    "adm": {"multipliers": (1,), "attention": (True,)}, "ldm": {"multipliers": (1,), "attention": (True,)},
}  # fmt: skip


def tiny(name: str) -> Model:
    torch._dynamo.reset()
    return nano_model(name, temperature=True, **TINY.get(name.removesuffix("-nano"), {"depth": 1}))


def latents(model: Model, name: str, **settings: Any) -> torch.Tensor:
    short = {**SHORT.get(name.removesuffix("-nano"), {}), **settings}
    return model.sample_latents(nano_conditions(model, 2), Temperature(0.5), image_seeds(5, range(2)), **short)


@pytest.mark.parametrize("name", NANO)
def test_the_network_is_one_graph(name: str) -> None:
    """As training calls it, without a break, and to the bit."""
    model = tiny(name)
    problem = model.family.draw_problem(model, nano_latents(model, 2), SampleGenerator([1, 2]))
    condition, beta = model.encode_condition(nano_conditions(model, 2)), torch.tensor([0.5, 0.7])
    model.network.eval()
    with torch.no_grad():
        plain = model.family.predict(model, problem, condition, beta)
        model.network.compile(backend="eager", fullgraph=True)
        assert torch.equal(model.family.predict(model, problem, condition, beta), plain)


@pytest.mark.parametrize("name", ["dit-nano", "mar-nano", "maskgit-nano", "sd-nano", "var-nano"])
def test_compiled_sampling_draws_the_same(name: str) -> None:
    """Those that decode code by code are tested with their decoders."""
    model, graphs = tiny(name), CompileCounter()
    plain = latents(model, name)
    model.compile(backend=graphs)  # type: ignore[arg-type]
    assert torch.equal(latents(model, name), plain) and graphs.frame_count > 0
    before = graphs.frame_count
    latents(model, name)
    assert graphs.frame_count == before


@pytest.mark.parametrize("name", NANO)
def test_bf16_draws_nearly_the_same(name: str) -> None:
    model = nano_model(name, temperature=True)
    plain = latents(model, name)
    half = latents(model.to("cpu", "bf16"), name)
    assert half.dtype == plain.dtype and half.isfinite().all()
    if plain.is_floating_point():
        assert 0 < (half - plain).norm() < 0.1 * plain.norm()
    else:
        assert (half == plain).float().mean() > 0.8
    with Lowered(model.network, torch.bfloat16).in_place():  # as compiled steps have it
        assert torch.equal(latents(model, name), half)
    assert torch.equal(latents(model.to("cpu", "fp32"), name), plain)


class Told(Tokenizer):
    """Says in its images whether autocast was on, and in what."""

    def encode(self, images: torch.Tensor, generator: SampleGenerator | None = None) -> torch.Tensor:
        return self.decode(images)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        kinds = [None, torch.bfloat16, torch.float16]
        on = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        return latents[:, :1] * 0 + kinds.index(on) / 2


@pytest.mark.parametrize(("precision", "tokenizer"), [("fp32", 0), ("bf16", 0.5), ("fp16", 0), ("auto", 0)])
def test_a_tokenizer_never_computes_in_fp16(precision: Any, tokenizer: float) -> None:
    """Stable Diffusion's VAE leaves its range; auto is fp32 on a CPU."""
    model = nano_model("dit-nano", temperature=True).to("cpu", precision)
    model.tokenizer = Told(model.card.tokenizer)
    assert model.decode(torch.zeros(1, 1, 8, 8)).unique().tolist() == [(tokenizer + 1) / 2]
    encoding = EncodingModel(model.card, model.tokenizer, model.family, torch.device("cpu"), precision)
    views = torch.zeros(1, 1, 1, 8, 8, dtype=torch.uint8)
    assert encode(encoding, views)[1].unique().tolist() == [tokenizer]


def test_a_cache_and_a_score_say_their_precision() -> None:
    model = nano_model("dit-nano", temperature=True)
    found = {}
    for precision in ("fp32", "bf16", "fp16"):
        encoding = EncodingModel(model.card, model.require_tokenizer(), model.family, torch.device("cpu"), precision)
        found[precision] = plan_cache(encoding, open_source("digits", "train"))
    assert found["bf16"].difference(found["fp32"]) == "precision 'bf16' and not 'fp32'"
    assert found["fp16"] == found["fp32"]
    subject = subject_of(model.to("cpu", "bf16"), Temperature(0.5), {}, 0)
    assert (subject.precision, subject.compiled, subject.dtype) == ("bf16", False, "float32")


def test_compiled_batches_have_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nano_model("dit-nano", temperature=True)
    plain = torch.cat(list(sample_batches(model, [1, 2, 3], Temperature(0.5), [5, 6, 7], 2, steps=1)))
    sizes: list[int] = []
    draw = model.sample_latents

    def counted(conditions: Any, *arguments: Any, **settings: Any) -> torch.Tensor:
        sizes.append(len(conditions))
        return draw(conditions, *arguments, **settings)

    monkeypatch.setattr(model, "sample_latents", counted)
    model.compiler = "eager"  # as if
    padded = torch.cat(list(sample_batches(model, [1, 2, 3], Temperature(0.5), [5, 6, 7], 2, steps=1)))
    assert sizes == [2, 2] and torch.allclose(padded, plain, atol=1e-6)


def test_compilation_without_a_compiler_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gftzoo.compiling.shutil.which", lambda _: None)
    with pytest.raises(UsageError, match=r"needs a C\+\+ compiler.*CXX.*leave out --compile"):
        nano_model("dit-nano", temperature=True).compile()
