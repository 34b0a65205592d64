"""Adapters: a slope or factors that train on a base, which stays as it is; for every registered family."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from command import call
from nano import NANO, nano_card, nano_conditions, nano_latents, nano_model
from runs import SMALL, final, interrupted, resealed, same
from safetensors.torch import load_file, save_file
from torch import Tensor

import gftzoo
from gftzoo.adapters import base_hash, freeze, slope_shape
from gftzoo.catalogue.cards import ModelCard
from gftzoo.engine import Job, TrainConfig, resolve, train
from gftzoo.engine.parallel.place import Place
from gftzoo.engine.record.samples import SampleHook
from gftzoo.engine.run.adapting import in_way
from gftzoo.engine.run.estimate import training_cost
from gftzoo.errors import GftzooError, UsageError
from gftzoo.exporting import export
from gftzoo.families.finding import load_family
from gftzoo.generator import SampleGenerator
from gftzoo.gft import GFT
from gftzoo.layers.lora import is_factor
from gftzoo.layers.lora_options import LoraOptions
from gftzoo.layers.temperature import is_slope
from gftzoo.model import Model
from gftzoo.tokenizers import Pixels
from gftzoo.zoo import list_models

STEPS = 4
RATE = {"lr": 1e-2, "learning_rate.warmup": 0}
FEW = {"dit-nano": {"steps": 2}, "sd-nano": {"steps": 2}, "mar-nano": {"steps": 2}}
OPTIONS = {**SMALL, "sample_grid": [1, 1], "checkpoint_every": 2}


@dataclass(frozen=True)
class Trained:
    """A plain base and an adapter that was trained on it."""

    base: Path
    run: Path
    config: TrainConfig


@pytest.fixture(scope="module", params=NANO)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a plain nano model in which every layer has an effect."""
    folder = tmp_path_factory.mktemp(request.param) / "base"
    nano_model(request.param, temperature=False).save(folder)
    return folder


def start(base: Path, way: str, **options: object) -> TrainConfig:
    name = gftzoo.load(base).card.name
    return resolve(name, weights=str(base), steps=STEPS, options={**OPTIONS, **RATE, "train": way, **options})


@pytest.fixture(scope="module")
def trained(base: Path) -> Trained:
    config = start(base, "temperature")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SampleHook, "after_train", lambda *_: None)  # its pictures take most of the time
        return Trained(base, train(config, base.parent / "run"), config)


@torch.no_grad()
def predicted(model: Model, beta: float | None = None) -> Tensor:
    """The prediction of four samples, all at one temperature."""
    model.network.eval()
    generator = SampleGenerator.for_samples("test", 0, range(4))
    problem = model.family.draw_problem(model, nano_latents(model, 4), generator)
    condition = model.encode_condition(nano_conditions(model, 4))
    return model.family.predict(model, problem, condition, None if beta is None else torch.full((4,), beta))


def latents(model: Model, beta: float | None = None) -> Tensor:
    return model.sample_latents(nano_conditions(model, 2), model.guidance(beta), [0, 1], **FEW.get(model.card.name, {}))


def test_the_base_stays_and_the_adapter_alone_is_kept(trained: Trained) -> None:
    plain, kept = load_file(trained.base / "raw.safetensors"), final(trained.run)
    model = gftzoo.load(trained.run)
    assert kept and all(is_slope(key) for key in kept)
    assert kept.keys() == final(trained.run, "ema").keys()
    assert {key.rpartition("/")[0] for key in final(trained.run, "optimizer")} == kept.keys()
    whole = model.network.state_dict()
    assert all(torch.equal(whole[key], value) for key, value in plain.items())
    assert all(value.abs().max() > 0 for key, value in kept.items() if not key.endswith("bias"))


def test_at_beta_one_an_adapter_is_its_base_to_the_bit(trained: Trained) -> None:
    model = gftzoo.load(trained.run)
    base = gftzoo.load(trained.base)
    assert torch.equal(predicted(model, 1.0), predicted(base))
    assert torch.equal(latents(model, 1.0), latents(base))
    assert not torch.equal(predicted(model, 1.0), predicted(model, 0.5))


def test_an_adapter_resumes_to_the_bit(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SampleHook, "after_train", lambda *_: None)
    interrupted(trained.config, tmp_path / "parts", 2, monkeypatch)
    train(TrainConfig.read(tmp_path / "parts"), tmp_path / "parts", resume=True)
    for kind in ("raw", "ema", "optimizer"):
        assert same(final(trained.run, kind), final(tmp_path / "parts", kind)), kind


def test_an_adapter_is_one_file_that_goes_onto_its_base(trained: Trained, tmp_path: Path) -> None:
    model = gftzoo.load(trained.run)
    export(model, "adapter", tmp_path / "apart")
    export(model, "safetensors", tmp_path / "whole")
    model.save(tmp_path / "saved")
    name, expected = model.card.name, predicted(model, 0.5)
    for again in (
        gftzoo.load(name, str(trained.base), adapter=trained.run),
        gftzoo.load(name, adapter=tmp_path / "apart" / "adapter.safetensors"),
        gftzoo.load(trained.base, adapter=tmp_path / "apart"),
        gftzoo.load(tmp_path / "apart"),
        gftzoo.load(tmp_path / "whole"),
        gftzoo.load(tmp_path / "saved"),
    ):
        assert torch.equal(predicted(again, 0.5), expected)


def test_the_base_is_known_by_its_tensors_and_not_by_its_file(trained: Trained, tmp_path: Path) -> None:
    torch.save({"model": load_file(trained.base / "raw.safetensors")}, tmp_path / "official.pt")
    name = gftzoo.load(trained.base).card.name
    assert gftzoo.load(name, tmp_path / "official.pt", adapter=trained.run).card.temperature


def test_a_wrong_base_is_refused_with_both_hashes(trained: Trained, tmp_path: Path) -> None:
    other = load_file(trained.base / "raw.safetensors")
    changed = next(key for key, value in other.items() if value.is_floating_point() and value.ndim == 2)
    other[changed] = other[changed] + 1e-3
    save_file(other, tmp_path / "other.safetensors")
    model = gftzoo.load(trained.base)
    hashes = base_hash(model.network.requires_grad_(False))[:12]
    with pytest.raises(GftzooError, match=rf"hash {hashes}, and '.*other.safetensors' has (?!{hashes})"):
        gftzoo.load(model.card.name, tmp_path / "other.safetensors", adapter=trained.run)


def test_only_the_adapter_gets_gradients_and_nothing_else_is_kept(nano_name: str) -> None:
    model = temperature_model(nano_name)
    condition = model.encode_condition(nano_conditions(model, 4))
    generator = SampleGenerator.for_samples("test", 0, range(4))
    problem = model.family.draw_problem(model, nano_latents(model, 4), generator)
    prediction = model.family.prediction(model, problem, condition, torch.full((4,), 0.5))
    assert prediction.d.requires_grad
    GFT().loss(model, problem, condition, generator).mean().backward()
    assert {n for n, p in model.network.named_parameters() if p.grad is not None} == {
        n for n, _ in model.network.named_parameters() if is_slope(n)
    }


def temperature_model(name: str) -> Model:
    config = resolve(name, weights="README.md", options={"train": "temperature"})
    model = Model.fresh(config.card, nano_model(name, temperature=False).tokenizer)
    freeze(model, "temperature")
    return model


@pytest.fixture
def factors(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    monkeypatch.setattr(SampleHook, "after_train", lambda *_: None)
    config = start(base, "lora", **{"lora.rank": 2, "lora.alpha": 8})
    return Trained(base, train(config, tmp_path / "run"), config)


def test_factors_train_load_and_merge(factors: Trained, tmp_path: Path) -> None:
    kept, plain = final(factors.run, "ema"), load_file(factors.base / "raw.safetensors")
    model = gftzoo.load(factors.run)
    temperature = model.network.state_dict().keys() - plain_names(model) - plain.keys()
    assert kept.keys() == {key for key in model.network.state_dict() if is_factor(key)} | temperature
    assert all(value.abs().max() > 0 for key, value in kept.items() if ".lora_B." in key)
    export(model, "adapter", tmp_path / "apart")
    export(model, "safetensors", tmp_path / "whole")
    expected = predicted(model, 0.5)
    apart = gftzoo.load(model.card.name, str(factors.base), adapter=tmp_path / "apart")
    assert torch.equal(predicted(apart, 0.5), expected)
    whole = gftzoo.load(tmp_path / "whole")
    assert not any(is_factor(key) for key in whole.network.state_dict())
    torch.testing.assert_close(predicted(whole, 0.5), expected, rtol=1e-4, atol=1e-5)
    assert (predicted(gftzoo.load(factors.base))[..., :1] - expected[..., :1]).abs().max() > 1e-3


def plain_names(model: Model) -> set[str]:
    return {key for key in model.network.state_dict() if is_factor(key) or ".base_layer." in key}


@pytest.mark.parametrize("base", ["llamagen-nano"], indirect=True)
def test_a_base_that_is_gone_or_changed_stops_run_and_sampling(trained: Trained, tmp_path: Path) -> None:
    base, run = tmp_path / "base", tmp_path / "run"
    shutil.copytree(trained.base, base)
    shutil.copytree(trained.run, run)
    config = trained.config.model_copy(update={"weights": str(base / "raw.safetensors"), "steps": STEPS + 1})
    point_at(run, str(base / "raw.safetensors"))
    assert gftzoo.load(run).provenance["started_from"]["weights"] == "raw.safetensors"
    changed = load_file(base / "raw.safetensors")
    key = next(key for key, value in changed.items() if value.is_floating_point())
    save_file({**changed, key: changed[key] + 1}, base / "raw.safetensors")
    for use in (lambda: train(config, run, resume=True), lambda: gftzoo.load(run)):
        with pytest.raises(GftzooError, match=r"was trained on .* with hash .* has"):
            use()
    shutil.rmtree(base)
    for use in (lambda: train(config, run, resume=True), lambda: gftzoo.load(run)):
        with pytest.raises(GftzooError, match=r"raw.safetensors' of .* is gone \(hash .*\); put it back"):
            use()


def point_at(run: Path, base: str) -> None:
    """Makes a copied run's checkpoints stand on another file."""
    for path in run.glob("checkpoints/*/card.json"):
        found = json.loads(path.read_text())
        found["provenance"]["adapter"]["base"]["weights"] = base
        path.write_text(json.dumps(found))
        resealed(path.parent)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train": "temperature", "network.temperature_input": "both"}, "needs network.temperature_input=affine"),
        ({"train": "temperature", "objective": "conditional"}, "objective conditional has none"),
        ({"train": "temperature", "weights": None}, "stay as they are; give them with --weights RUN_OR_FILE"),
        ({"train": "lora", "lora.targets": "("}, "no regular expression"),
        ({"train": "lora", "lora.rnak": 2}, "unknown key .lora.rnak"),
        ({"lora.base": "4bit"}, "lora.base is of LoRA and this run has train=all; add -o train=lora"),
        ({"train": "some"}, "'all', 'lora' or 'temperature'"),
        ({"train": "lora", "sharded_checkpoints": True}, "leave sharded_checkpoints out"),
    ],
)
def test_what_an_adapter_cannot_have_is_one_sentence(options: dict[str, object], words: str) -> None:
    options = dict(options)
    chosen = {"objective": options.pop("objective", "gft"), "weights": options.pop("weights", "README.md")}
    with pytest.raises(UsageError, match=words):
        resolve("dit-nano", options=options, **chosen)


def test_layers_that_match_nothing_are_told_of() -> None:
    model = nano_model("dit-nano", temperature=True)
    with pytest.raises(UsageError, match=r"no layer .* matches lora.targets='qkv'; its layers are"):
        freeze(model, "lora", LoraOptions(targets="qkv"))


def test_a_frozen_base_learns_no_other_classes(tmp_path: Path) -> None:
    card = nano_card("dit-nano").change(classes=7, class_names=())
    Model.fresh(card, Pixels(card.tokenizer)).save(tmp_path / "base")
    with pytest.raises(UsageError, match="knows 7 classes and the data has 10"):
        train(start(tmp_path / "base", "temperature"), tmp_path / "run")


@pytest.mark.parametrize("base", ["llamagen-nano"], indirect=True)
def test_an_adapter_is_no_base(trained: Trained) -> None:
    with pytest.raises(UsageError, match="is an adapter and no whole model; write one with `gftzoo export"):
        start(trained.run, "temperature")
    with pytest.raises(UsageError, match="is an adapter; give it as --adapter"):
        gftzoo.load(gftzoo.load(trained.base).card.name, trained.run)


@pytest.mark.parametrize("base", ["llamagen-nano"], indirect=True)
def test_commands_take_an_adapter(trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    apart, picture = str(tmp_path / "apart"), tmp_path / "a.png"
    assert call("export", str(trained.run), apart, "--to", "adapter") == 0
    assert call("sample", "llamagen-nano", "--adapter", apart, "--beta", "0.5", "-n", "1", "--out", str(picture)) == 0
    assert picture.is_file()
    assert call("sample", "dit-nano", "--adapter", apart, "--out", str(picture)) == 2
    assert "is an adapter of llamagen-nano and not of dit-nano" in capsys.readouterr().err
    assert call("export", "llamagen-nano", str(tmp_path / "plain"), "--adapter", apart, "--to", "official") == 2
    words = ("--adapter", apart, "--to", "official", "--beta", "0.5")
    assert call("export", "llamagen-nano", str(tmp_path / "plain"), *words) == 0  # a read-out folds
    baked, steered = gftzoo.load(tmp_path / "plain"), gftzoo.load(trained.run)
    torch.testing.assert_close(predicted(baked), predicted(steered, 0.5), rtol=1e-4, atol=1e-5)


def test_a_frozen_run_is_known_to_cost_less() -> None:
    job = Job(resolve("dit-nano", weights="README.md", options={"train": "temperature", "batch_size": 64}))
    ways = [in_way(job, way) for way in ("all", "lora", "temperature")]
    assert ways[2] is job and ways[0].config.card.network == nano_card("dit-nano").network
    costs = [training_cost(way, Place(torch.device("cpu"))) for way in ways]
    for key in ("state_bytes", "activation_bytes", "flops_per_image"):
        whole, factors, slope = (getattr(cost, key) for cost in costs)
        assert slope < whole and factors < whole, key
    assert costs[0].trained > costs[2].trained > costs[1].trained > 0


# Cards that differ in resolution alone have one slope.
def takes_a_slope(card: ModelCard) -> bool:
    """Whether the card's network can have an affine temperature: pipelines of other libraries cannot."""
    try:
        card.change(network={**card.network, "temperature_input": "affine"}).network_options(
            load_family(card.family).options().network
        )
    except UsageError:
        return False
    return True


SIZES = {
    (card.family, repr(card.network), card.condition, card.tokenizer.codebook): card
    for card in reversed(list_models())
    if card.data is None and takes_a_slope(card)  # the small models have data of their own
}


@pytest.mark.parametrize("card", SIZES.values(), ids=lambda card: card.name)
def test_an_adapter_of_a_full_size_model_is_small(card: ModelCard) -> None:
    family = load_family(card.family)
    steered = card.change(temperature=True, network={**card.network, **slope_shape(card, family)})
    with torch.device("meta"):
        network = family.build_network(steered)
    own = sum(parameter.numel() for name, parameter in network.named_parameters() if is_slope(name))
    share = own / sum(parameter.numel() for parameter in network.parameters())
    assert 0 < share <= (0.1 if steered.network.get("temperature_blocks") else 0.01)
