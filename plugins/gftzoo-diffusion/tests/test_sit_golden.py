"""SiT computes what willisma/SiT @947f95b does: network, loss with gradients, and all samplers with recorded noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from dit_golden import Recorded, gradient_norms, official_model, read_golden, tiny_card
from gftzoo_diffusion.options import NetworkOptions
from gftzoo_diffusion.processes import PROCESSES
from gftzoo_diffusion.samplers import DiffusionSampler, sample
from gftzoo_diffusion.samplers.drawing import Drawing
from gftzoo_diffusion.training import DiffusionProblem
from golden import Golden, near
from torch import Tensor

from gftzoo.contract.guidance import ClassifierFree, Guidance, Unguided
from gftzoo.contract.pieces import Steered
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.loading.files import import_model
from gftzoo.model import Model
from gftzoo.zoo import get_card

SDE = {
    "sde/Euler-sigma-Mean": {"sampler": "sde"},
    "sde/Euler-decreasing-Mean": {"sampler": "sde", "diffusion": "decreasing"},
    "sde/Euler-linear-Tweedie": {"sampler": "sde", "diffusion": "linear", "last_step": "tweedie"},
    "sde/Euler-linear-None": {"sampler": "sde", "diffusion": "linear", "last_step": "none"},
    "sde/Heun-sigma-Euler": {"sampler": "sde-heun", "last_step": "euler"},
}


PATHS = {"Linear": "flow", "GVP": "flow-gvp", "VP": "flow-vp"}


class RecordedUniform(SampleGenerator):
    """A generator whose uniform numbers are recorded."""

    def __init__(self, numbers: Tensor) -> None:
        super().__init__(range(len(numbers)))
        self.numbers = numbers

    def uniform(self, *_: int) -> Tensor:
        return self.numbers


class RecordedSteps(Recorded):
    """A generator whose noise is recorded: the initial one, and that of each step."""

    def __init__(self, noise: Tensor, steps: Tensor) -> None:
        super().__init__(noise)
        self.left = [noise, *steps]

    def normal(self, *shape: int) -> Tensor:
        noise = self.left.pop(0)
        assert noise.shape[1:] == shape
        return noise


def flow_model(golden: Golden, folder: Path) -> Model:
    return official_model(golden, folder, process="flow")


def test_forward_and_a_bare_state_dict(tmp_path: Path) -> None:
    golden = read_golden("sit-forward")
    path = tmp_path / "SiT-XL-2-256x256.pt"
    torch.save(golden.weights, path)
    model = import_model(tiny_card(golden.config["arch"], {"process": "flow"}), path)
    network = model.network.eval()
    x, t, y = (golden.inputs[key] for key in "xty")
    assert near(network(x, t, y)[:, :4], golden.outputs["out"], scaled=False)
    assert near(network.t_embedder(t), golden.outputs["t_emb"], scaled=False)
    settings = DiffusionSampler(guided_channels="dit-3ch")
    for scale in golden.config["cfg_scales"]:
        for row in range(2):
            steered = Steered(model, y[row : row + 1], ClassifierFree(scale))
            drawing = Drawing(model, PROCESSES["flow"], steered, settings, SampleGenerator([0]))
            output = drawing(x[row : row + 1], float(t[row]), 0.0, 0.0)
            assert near(output, golden.outputs[f"cfg/out_scale{scale}"][row : row + 1], scaled=False)


def problem_of(golden: Golden, process: str = "flow") -> DiffusionProblem:
    flow = PROCESSES[process]
    x_0, noise, uniform = (golden.inputs[key] for key in ("x1", "x0", "t_uniform"))
    t = flow.draw(RecordedUniform(uniform))
    return DiffusionProblem(flow.noised(x_0, t, noise), t, flow.target(x_0, noise, t), x_0)


@pytest.mark.parametrize("mode", read_golden("sit-loss").config["modes"])
def test_loss(mode: str, tmp_path: Path) -> None:
    golden = read_golden("sit-loss")
    path, predicted, weight = mode.split("-")
    process = PATHS[path] + ("" if predicted == "velocity" else f"-{predicted}")
    model = official_model(golden, tmp_path, process=process, loss_weight="one" if weight == "None" else weight)
    problem = problem_of(golden, process)
    assert near(problem.t, golden.outputs[f"{mode}/t"])
    assert near(problem.x_t, golden.outputs[f"{mode}/xt"])
    velocity = PROCESSES[PATHS[path]].target(golden.inputs["x1"], golden.inputs["x0"], problem.t)
    assert near(velocity, golden.outputs[f"{mode}/ut"])
    assert predicted != "velocity" or torch.equal(problem.target, velocity)
    output = model.family.predict(model, problem, golden.inputs["y"], None)
    assert near(model.family.loss_term(model, output, problem), golden.outputs[f"{mode}/loss"])


def test_training_step_with_dropped_labels(tmp_path: Path) -> None:
    golden = read_golden("sit-loss")
    model, problem = flow_model(golden, tmp_path), problem_of(golden)
    dropped = golden.inputs["drop_uniform"] < golden.config["arch"]["class_dropout_prob"]
    assert 0 < dropped.sum() < len(dropped)
    shown = model.family.condition_drop(model, golden.inputs["y"], dropped)
    loss = model.family.loss_term(model, model.family.predict(model, problem, shown, None), problem)
    assert near(loss, golden.outputs["train/loss"])
    loss.mean().backward()
    found = gradient_norms(model)
    for name, norm in golden.outputs.items():
        if name.startswith("train/gradnorm/"):
            assert abs(found[name.removeprefix("train/gradnorm/")] - float(norm)) <= 1e-4 * max(1.0, float(norm)), name


def draw(golden: Golden, model: Model, guidance: Guidance, steps: int, **settings: Any) -> Tensor:
    noise = golden.inputs["z"]
    generator = RecordedSteps(noise, golden.inputs["sde_noise"][:, : len(noise)])
    chosen = DiffusionSampler(steps=steps, guided_channels="dit-3ch", **settings)
    with torch.no_grad():
        return sample(model, golden.inputs["y"], guidance, chosen, generator)


@pytest.mark.parametrize("method", ["euler", "heun2", "midpoint", "rk4", "dopri5"])
def test_ordinary_equation(method: str, tmp_path: Path) -> None:
    golden = read_golden("sit-sample")
    model, guided = flow_model(golden, tmp_path), ClassifierFree(golden.config["cfg_scale"])
    steps = golden.config["num_steps"] - 1
    found = draw(golden, model, guided, steps, sampler=method.removesuffix("2"))
    assert near(found, golden.outputs[f"ode/{method}"], 1e-3 if method == "dopri5" else 1e-4)
    if method == "euler":
        assert near(draw(golden, model, Unguided(), steps, sampler="euler"), golden.outputs["ode/euler_nocfg"])
        assert not near(draw(golden, model, Unguided(), steps + 1, sampler="euler"), golden.outputs["ode/euler_nocfg"])


@pytest.mark.parametrize("case", SDE)
def test_stochastic_equation(case: str, tmp_path: Path) -> None:
    golden = read_golden("sit-sample")
    model, guided = flow_model(golden, tmp_path), ClassifierFree(golden.config["cfg_scale"])
    # an official last step comes after num_steps - 1 others
    steps = golden.config["num_steps"] - case.endswith("None")
    assert near(draw(golden, model, guided, steps, **SDE[case]), golden.outputs[case])


def test_other_paths_and_predictions(tmp_path: Path) -> None:
    golden = read_golden("sit-sample")
    guided, steps = ClassifierFree(golden.config["cfg_scale"]), golden.config["num_steps"]
    circular = official_model(golden, tmp_path, process="flow-gvp")
    assert near(draw(golden, circular, guided, steps - 1, sampler="euler"), golden.outputs["gvp/ode_euler"])
    score = official_model(golden, tmp_path, process="flow-score")
    found = draw(golden, score, guided, steps, sampler="sde", diffusion="sbdm")
    assert near(found, golden.outputs["score/sde_Euler-SBDM-Mean"])


@pytest.mark.parametrize("process", [name for name in PROCESSES if name.startswith("flow")])
def test_what_is_predicted_means_the_same_in_every_process(process: str) -> None:
    """Of the exact prediction for one x_0 follow the exact velocity and score."""
    flow, generator = PROCESSES[process], SampleGenerator(range(3))
    x_0, noise = generator.normal(2, 4, 4).double(), generator.normal(2, 4, 4).double()
    for time in (0.1, 0.5, 0.9):
        t = torch.full((3,), time, dtype=torch.float64)
        x_t, predicted = flow.noised(x_0, t, noise), flow.target(x_0, noise, t)
        sooner, later = (flow.noised(x_0, t + shift, noise) for shift in (-1e-5, 1e-5))
        torch.testing.assert_close(flow.velocity(predicted, x_t, time), (later - sooner) / 2e-5, rtol=1e-4, atol=1e-6)
        sigma = float(flow.path.sigma(t[0]))
        torch.testing.assert_close(flow.score(predicted, x_t, time), -noise / sigma)


@pytest.mark.parametrize(
    "settings", [{}, {"sampler": "sde"}, {"sampler": "sde", "diffusion": "sbdm", "last_step": "none"}]
)
@pytest.mark.parametrize("process", ["flow-vp", "flow-noise", "flow-vp-score"])
def test_samplers_stay_where_the_path_is_finite(process: str, settings: dict[str, Any], tmp_path: Path) -> None:
    golden = read_golden("sit-sample")
    found = draw(
        golden, official_model(golden, tmp_path, process=process), Unguided(), 4, **{"sampler": "heun", **settings}
    )
    assert found.isfinite().all()


def test_a_weight_that_a_process_has_not_is_refused() -> None:
    card = get_card("sit-nano")
    with pytest.raises(UsageError, match="loss_weight = 'min-snr' is not valid: process=flow has one"):
        card.change(network={**card.network, "loss_weight": "min-snr"}).network_options(NetworkOptions)
