"""The baselines: their losses against straight-line computations, their frozen copies, their runs, and plugins'."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from nano import NANO, nano_card, nano_conditions, nano_latents, nano_model
from plugin_site import Site
from runs import final, interrupted, same
from torch import Tensor

from gftzoo.contract.objective import Objective
from gftzoo.contract.problem import Problem
from gftzoo.engine import Job, TrainConfig, resolve, train
from gftzoo.engine.parallel.place import Place
from gftzoo.engine.run.estimate import training_cost
from gftzoo.errors import GftzooError, PluginError, UsageError
from gftzoo.families.finding import load_family
from gftzoo.generator import SampleGenerator
from gftzoo.installed import report
from gftzoo.model import Model
from gftzoo.objectives import BUILT_IN, build_objective, find_objective, objective_names
from gftzoo.plugins.discovery import OBJECTIVES, installed_plugins
from gftzoo.weights import save_model

BATCH = 4
CPU = Place(torch.device("cpu"))
WITH_LIKELIHOOD = {name for name in NANO if load_family(nano_card(name).family).offers("log_likelihood")}
SUPPORTED = {
    "gft": set(NANO),
    "conditional": set(NANO),
    "cca": set(NANO) & WITH_LIKELIHOOD,
    "distill": set(NANO) - WITH_LIKELIHOOD,
}
PAIRS = [(objective, name) for objective, names in SUPPORTED.items() for name in sorted(names)]
FROZEN = [pair for pair in PAIRS if pair[0] in ("cca", "distill")]


def prepared(objective: str, name: str, **options: object) -> tuple[Objective, Model, Model]:
    """An objective whose frozen copy differs from the model it trains, both without dropout; and the frozen model."""
    found = build_objective(objective, options)
    start = nano_model(name, temperature=found.temperature, seed=1)
    start.network.eval()
    found.prepare(start)
    found.frozen.network.eval()  # type: ignore[attr-defined]
    model = nano_model(name, temperature=found.temperature, seed=2)
    model.network.eval()
    return found, model, start


def question(model: Model) -> tuple[Problem, Tensor]:
    generator = SampleGenerator.for_samples("test", 0, range(BATCH))
    problem = model.family.draw_problem(model, nano_latents(model, BATCH), generator)
    return problem, model.encode_condition(nano_conditions(model, BATCH))


def gradients(model: Model, loss: Tensor) -> Tensor:
    model.network.zero_grad()
    loss.sum().backward()
    return torch.cat([p.grad.flatten() for p in model.network.parameters() if p.grad is not None])


def token_sum(model: Model, problem: Problem, label: int, row: int) -> Tensor:
    """log p(x | label) of one image, token by token, of those that are asked for."""
    logits = model.family.predict(model, problem.select(torch.tensor([row])), torch.tensor([label]), None)[0]
    codes = next(v for k, v in vars(problem).items() if k.startswith("codes"))[row]
    asked = getattr(problem, "asked", None)
    counted = range(len(codes)) if asked is None else asked[row].nonzero().flatten().tolist()
    # a code is one digit, or several of these bases, the lowest first, with their logits side by side
    bases = getattr(model.network.options, "parts", (logits.shape[-1],))
    total = logits.new_zeros(())
    for i in counted:
        rest = int(codes[i])
        for part in logits[i].split(bases):
            rest, digit = divmod(rest, len(part))
            total = total + part.log_softmax(0)[digit]
    return total


@pytest.mark.parametrize("name", sorted(SUPPORTED["cca"]))
def test_cca_is_the_written_out_loss(name: str) -> None:
    strength, weight = 0.3, 7.0
    cca, model, start = prepared("cca", name, sharpness=strength, negative_weight=weight)
    problem, _ = question(model)
    right, wrong, null = [3, 5, 2, 8], [5, 5, 8, 3], model.card.classes  # the second is not wrong after all
    dropped = torch.tensor([False, False, True, False])
    expected = []
    for row in range(BATCH):
        labels = (null, null) if dropped[row] else (right[row], wrong[row])
        plus, minus = (token_sum(model, problem, c, row) - token_sum(start, problem, c, row).detach() for c in labels)
        loss = torch.log1p(torch.exp(-strength * plus))
        if dropped[row] or right[row] == wrong[row]:
            loss = loss + torch.log1p(torch.exp(-strength * minus))
        else:
            loss = loss + weight * torch.log1p(torch.exp(strength * minus))
        expected.append(loss / max(weight, 1.0))
    actual = cca.loss_at(model, problem, torch.tensor(right), torch.tensor(wrong), dropped)  # type: ignore[attr-defined]
    torch.testing.assert_close(actual, torch.stack(expected), rtol=1e-4, atol=1e-4)
    a, b = gradients(model, actual), gradients(model, torch.stack(expected))
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))


def test_cca_takes_the_neighbours_condition_as_the_wrong_one(monkeypatch) -> None:
    cca, model, _ = prepared("cca", "llamagen-nano", p_drop=0.0)
    problem, _ = question(model)
    seen: list[Tensor] = []
    predict = model.family.predict
    monkeypatch.setattr(model.family, "predict", lambda m, p, c, b: seen.append(c) or predict(m, p, c, b))
    generator = SampleGenerator(range(BATCH))
    cca.loss(model, problem, torch.tensor([1, 2, 3, 4]), generator)
    assert [c.tolist() for c in seen] == [[1, 2, 3, 4, 2, 3, 4, 1]] * 2


def test_cca_needs_two_images_to_contrast() -> None:
    cca, model, _ = prepared("cca", "llamagen-nano")
    problem, condition = question(model)
    row = torch.tensor([0])
    with pytest.raises(UsageError, match="micro-batch of 1 image has no wrong condition"):
        cca.loss(model, problem.select(row), condition[row], SampleGenerator([0]))


def test_cca_at_the_start_is_the_loss_of_a_coin() -> None:
    cca, _, start = prepared("cca", "llamagen-nano", negative_weight=3.0)
    problem, condition = question(start)
    nobody = torch.zeros(BATCH, dtype=torch.bool)
    loss = cca.loss_at(start, problem, condition, condition.roll(1), nobody)  # type: ignore[attr-defined]
    torch.testing.assert_close(loss, torch.full((BATCH,), math.log(2) * (1 + 3.0) / 3.0))


@pytest.mark.parametrize("name", sorted(SUPPORTED["distill"]))
def test_distillation_is_the_written_out_loss(name: str) -> None:
    distill, model, start = prepared("distill", name)
    problem, condition = question(model)
    scale = torch.tensor([1.0, 1.5, 2.5, 5.0])
    expected = []
    for row in range(BATCH):
        one = torch.tensor([row])
        part, c = problem.select(one), condition[one]
        with torch.no_grad():
            with_c = start.family.predict(start, part, c, None)
            without = start.family.predict(start, part, start.null_condition(c), None)
        w = float(scale[row])
        target = with_c * w - (w - 1) * without  # (1 + s) eps_c - s eps_u with s = w - 1
        prediction = model.family.predict(model, part, c, torch.tensor([1 / w]))
        # The family's own noise loss, with the teacher's noise in the place of the true one.
        expected.append(noise_loss(model, part, prediction, target))
    actual = distill.loss_at(model, problem, condition, scale)  # type: ignore[attr-defined]
    torch.testing.assert_close(actual, torch.stack(expected), rtol=1e-4, atol=1e-5)
    a, b = gradients(model, actual), gradients(model, torch.stack(expected))
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))


def noise_loss(model: Model, problem: Problem, prediction: Tensor, target: Tensor) -> Tensor:
    """The mean over all noise that is asked for of one image: every pixel, or every masked token."""
    if model.card.family == "mar":
        channels, real = problem.noise_BMKC.shape[-1], problem.weight_BM[0].bool()  # type: ignore[attr-defined]
        return (prediction[0, real, :, :channels] - target[0, real, :, :channels]).pow(2).mean()
    channels = problem.target.shape[1]  # type: ignore[attr-defined]
    return (prediction[0, :channels] - target[0, :channels]).pow(2).mean()


def test_distillation_draws_the_scale_where_it_is_told() -> None:
    distill, model, _ = prepared("distill", "dit-nano", cfg_min=2.0, cfg_max=2.0)
    problem, condition = question(model)
    drawn = distill.loss(model, problem, condition, SampleGenerator(range(BATCH)))
    at_two = distill.loss_at(model, problem, condition, torch.full((BATCH,), 2.0))  # type: ignore[attr-defined]
    assert torch.equal(drawn, at_two)


@pytest.mark.parametrize(("objective", "name"), FROZEN)
def test_no_gradient_reaches_the_frozen_copy(objective: str, name: str) -> None:
    found, model, start = prepared(objective, name)
    problem, condition = question(model)
    before = {key: value.clone() for key, value in found.frozen.network.state_dict().items()}  # type: ignore[attr-defined]
    found.loss(model, problem, condition, SampleGenerator(range(BATCH))).sum().backward()
    frozen: Model = found.frozen  # type: ignore[attr-defined]
    assert all(p.grad is None and not p.requires_grad for p in frozen.network.parameters())
    assert all(p.grad is None for p in start.network.parameters())
    assert same(before, frozen.network.state_dict())
    with torch.no_grad():  # and it is a copy: what trains does not move it
        for parameter in start.network.parameters():
            parameter.add_(1.0)
    assert same(before, frozen.network.state_dict())


def start_file(name: str, folder: Path) -> Path:
    save_model(nano_model(name, temperature=False), folder)
    return folder / "raw.safetensors"


def small(objective: str, name: str, steps: int, folder: Path, **options: object) -> TrainConfig:
    weights = str(start_file(name, folder)) if BUILT_IN[objective].copies else None
    small_run = {"batch_size": 8, "sample_every": 1000, "ema_decay": 0.9, "sample_grid": [1, 1]}
    return resolve(name, objective=objective, steps=steps, weights=weights, options={**small_run, **options})


@pytest.mark.parametrize(("objective", "name"), FROZEN)
def test_two_steps_train(objective: str, name: str, tmp_path: Path) -> None:
    run = train(small(objective, name, 2, tmp_path / "start"), tmp_path / "run")
    start = nano_model(name, temperature=False).network.state_dict()
    trained = final(run)
    assert any(not torch.equal(trained[key], value) for key, value in start.items())
    assert not any(value.isnan().any() for value in trained.values())


@pytest.mark.parametrize("name", NANO)
@pytest.mark.parametrize("objective", ["cca", "distill"])
def test_a_family_without_the_hook_is_refused(objective: str, name: str, tmp_path: Path) -> None:
    if name in SUPPORTED[objective]:
        with pytest.raises(UsageError, match=r"starts from a trained model; give its weights with --weights"):
            resolve(name, objective=objective)
        return
    with pytest.raises(UsageError, match=r"needs the hook \w+, which family '[\w-]+' does not have;") as refused:
        resolve(name, objective=objective, weights=str(start_file(name, tmp_path)))
    having = set(str(refused.value).partition("families that have it: ")[2].rstrip(".").split(", "))
    assert having >= {nano_card(name).family for name in SUPPORTED[objective]}  # there are families without a nano too
    assert nano_card(name).family not in having


@pytest.mark.parametrize(("objective", "name"), [("cca", "var-nano"), ("distill", "dit-nano")])
def test_resumed_equals_uninterrupted_to_the_bit(objective: str, name: str, tmp_path: Path, monkeypatch) -> None:
    config = small(objective, name, 4, tmp_path / "start", checkpoint_every=2)
    train(config, tmp_path / "whole")
    interrupted(config, tmp_path / "parts", 2, monkeypatch)
    train(TrainConfig.read(tmp_path / "parts"), tmp_path / "parts", resume=True)
    for kind in ("raw", "ema", "optimizer"):
        assert same(final(tmp_path / "whole", kind), final(tmp_path / "parts", kind)), kind


def test_a_run_whose_start_has_changed_is_not_resumed(tmp_path: Path, monkeypatch) -> None:
    config = small("distill", "dit-nano", 4, tmp_path / "start", checkpoint_every=2)
    interrupted(config, tmp_path / "run", 2, monkeypatch)
    save_model(nano_model("dit-nano", temperature=False, seed=5), tmp_path / "start")
    with pytest.raises(GftzooError, match=r"started from .* with hash \w{12} and the file has now \w{12}"):
        train(TrainConfig.read(tmp_path / "run"), tmp_path / "run", resume=True)


def test_a_run_is_a_place_to_start_from(tmp_path: Path) -> None:
    run = train(small("conditional", "dit-nano", 1, tmp_path), tmp_path / "run")
    ema, raw = (resolve("dit-nano", weights=str(run), options={"entry": e} if e else {}).weights for e in (None, "raw"))
    assert ema == str(run / "checkpoints" / "step-00000001" / "ema.safetensors")
    assert raw == str(run / "checkpoints" / "step-00000001" / "raw.safetensors")


def test_wrong_options_and_unprepared_objectives_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"did you mean 'negative_weight'"):
        build_objective("cca", {"negative_wieght": 3})
    with pytest.raises(UsageError, match="cfg_min 6 is larger than cfg_max 5"):
        build_objective("distill", {"cfg_min": 6})
    with pytest.raises(UsageError, match="call prepare"):
        nano_model("llamagen-nano", temperature=False).loss(torch.zeros(2, 64, dtype=torch.int64), [1, 2], "cca")


def test_the_estimate_counts_passes_and_copies(tmp_path: Path) -> None:
    plain, gft = (training_cost(Job(small(o, "dit-nano", 1, tmp_path)), CPU) for o in ("conditional", "gft"))
    distill = training_cost(Job(small("distill", "dit-nano", 1, tmp_path)), CPU)
    assert gft.flops_per_image and plain.flops_per_image and distill.flops_per_image
    assert distill.flops_per_image / gft.flops_per_image == pytest.approx(5 / 4)
    assert plain.flops_per_image / gft.flops_per_image == pytest.approx(3 / 4, rel=0.02)  # no temperature input
    assert distill.state_bytes - gft.state_bytes == 4.0 * gft.parameters


PLUGIN = """
from gftzoo.contract.objective import Objective, ObjectiveOptions
class Options(ObjectiveOptions):
    gain: float = 2.0
class Doubled(Objective):
    name = "{name}"
    temperature = False
    Options = Options
    def loss(self, model, problem, condition, generator):
        prediction = model.family.predict(model, problem, condition, None)
        return self.options.gain * model.family.loss_term(model, prediction, problem)
"""


def test_an_objective_of_a_plugin_trains(site: Site, tmp_path: Path) -> None:
    site.install("doubled", PLUGIN.format(name="doubled"), group=OBJECTIVES, attribute="Doubled")
    assert objective_names() == [*BUILT_IN, "doubled"]
    with pytest.raises(UsageError, match="did you mean 'gain'"):
        resolve("dit-nano", objective="doubled", options={"objective.gian": 1.0})
    options = {"batch_size": 4, "sample_grid": [1, 1], "objective.gain": 3.0}
    run = train(resolve("dit-nano", objective="doubled", steps=1, options=options), tmp_path / "run")
    assert TrainConfig.read(run).objective_options["gain"] == 3.0
    (plugin,) = [p for p in installed_plugins() if p.name == "doubled"]
    assert report(plugin).state == "ok"


@pytest.mark.parametrize(
    ("name", "code", "attribute", "words"),
    [
        ("stray", "import nowhere", "Doubled", r"'stray' \(stray 1.2\) failed to load"),
        ("thing", "Doubled = 3", "Doubled", "is no objective"),
        ("other", PLUGIN.format(name="else"), "Doubled", "objective named 'else'"),
        ("half", PLUGIN.format(name="half").replace("def loss", "def lose"), "Doubled", "lacks 'loss'"),
        ("bare", PLUGIN.format(name="bare").replace("temperature = False", ""), "Doubled", "lacks 'temperature'"),
    ],
)
def test_a_broken_objective_is_named(site: Site, name: str, code: str, attribute: str, words: str) -> None:
    site.install(name, code, group=OBJECTIVES, attribute=attribute)
    with pytest.raises(PluginError, match=words):
        find_objective(name)
    (plugin,) = [p for p in installed_plugins() if p.name == name]
    assert report(plugin).state == "broken"
