"""Encoder, decoder, head and loss equal the official code's, through the import of an official file."""

from __future__ import annotations

import pytest
import torch
from gftzoo_mar.family import MARProblem, pose
from gftzoo_mar.head import HeadMLP
from gftzoo_mar.network import patchify, unpatchify
from gftzoo_mar.schedule import Schedule, sampling_tables, training_schedule, training_tables
from golden import Golden, near
from mar_golden import official_model, read_golden
from torch import Tensor

from gftzoo.contract.guidance import ClassifierFree
from gftzoo.model import Model


@pytest.fixture
def train() -> Golden:
    return read_golden("mar-train")


@pytest.fixture
def model(train: Golden, tmp_path) -> Model:
    return official_model(train, tmp_path)


def given_problem(golden: Golden) -> MARProblem:
    """The golden's mask, timesteps and noise; its rows are the batch, repeated."""
    i, repeats = golden.inputs, golden.config["arch"]["diffusion_batch_mul"]
    mask_BL = i["mask"].bool()
    t_BLK = i["loss/t"].view(repeats, *mask_BL.shape).permute(1, 2, 0)
    noise_BLKC = i["loss/noise"].view(repeats, *mask_BL.shape, -1).permute(1, 2, 0, 3)
    return pose(i["patches"], mask_BL, t_BLK, noise_BLKC, mask_BL.sum(1))


def test_patches(train: Golden) -> None:
    latents = train.inputs["latents"]
    assert torch.equal(patchify(latents, 1), train.inputs["patches"])
    wide = torch.randn(2, 3, 8, 8)
    assert torch.equal(unpatchify(patchify(wide, 2), 2, 8), wide)
    token = patchify(wide, 2)[1, 5]  # row 1, column 1 of a 4 by 4 grid, channel-major
    assert torch.equal(token, wide[1, :, 2:4, 2:4].flatten())


def test_encoder_and_decoder(train: Golden, model: Model) -> None:
    network, problem, labels = model.network, given_problem(train), train.inputs["labels"]
    null = torch.full_like(labels, model.card.classes)
    condition = network.embed_condition(labels, None)
    encoded = network.encode(problem.tokens_BVC, problem.visible_BV, condition)
    assert near(encoded, train.outputs["encoder"])
    fake = network.encode(problem.tokens_BVC, problem.visible_BV, network.embed_condition(null, None))
    assert near(fake, train.outputs["encoder_fake_latent"])
    everything = torch.arange(network.tokens).expand(len(labels), -1)
    assert near(network.decode(encoded, problem.visible_BV, everything), train.outputs["z"])
    z = network(problem.tokens_BVC, problem.visible_BV, problem.masked_BM, labels)
    rows = torch.arange(len(labels))[:, None]
    assert near(z, train.outputs["z"][rows, problem.masked_BM])


def test_loss_terms(train: Golden, model: Model) -> None:
    i, repeats = train.inputs, train.config["arch"]["diffusion_batch_mul"]
    schedule, head = training_schedule(torch.device("cpu")), model.network.diffloss.net
    x0, z = (t.flatten(0, 1).repeat(repeats, 1) for t in (i["patches"], train.outputs["z"]))
    noisy = schedule.noised(x0, i["loss/t"], i["loss/noise"])
    eps, share = head(noisy, i["loss/t"], z).chunk(2, -1)
    mse = (eps - i["loss/noise"]).square().mean(-1)
    bound = schedule.variational_bound(x0, noisy, i["loss/t"], eps, share)
    assert near(mse, train.outputs["terms/mse"])
    assert near(bound, train.outputs["terms/vb"], 1e-5)  # at the first step noise is 0.006, and float32 tells it badly
    assert near(mse + bound, train.outputs["terms/loss"])


def test_loss_and_every_gradient(train: Golden, model: Model) -> None:
    problem, labels = given_problem(train), train.inputs["labels"]
    family = model.family
    plain = family.loss_term(model, family.predict(model, problem, labels, None), problem)
    assert near(plain.mean(), train.outputs["loss_eval"])
    dropped = train.inputs["loss/drop_uniform"] < 0.1
    condition = family.condition_drop(model, labels, dropped)
    model.network.train()
    loss = family.loss_term(model, family.predict(model, problem, condition, None), problem).mean()
    assert near(loss, train.outputs["loss_train"])
    loss.backward()
    for name, parameter in model.network.named_parameters():
        assert near(parameter.grad.norm(), train.outputs[f"gradnorm/{name}"]), name


@pytest.fixture
def diffloss() -> tuple[Golden, HeadMLP]:
    golden = read_golden("mar-diffloss")
    sizes = golden.config["diffloss"]
    head = HeadMLP(sizes["target_channels"], sizes["z_channels"], sizes["width"], sizes["depth"], temperature=False)
    head.load_state_dict({key.removeprefix("net."): value for key, value in golden.weights.items()})
    return golden, head.eval()


@torch.no_grad()
def test_head(diffloss: tuple[Golden, HeadMLP]) -> None:
    golden, head = diffloss
    i, o = golden.inputs, golden.outputs
    out = head(i["x"], i["t"], i["z"])
    assert near(out, o["net"]) and near(out[:, :4], o["net_eps"]) and near(out[:, 4:], o["net_var"])
    many = head(i["x"].repeat(300, 1), i["t"].repeat(300), i["z"].repeat(300, 1))  # embeds each timestep once
    assert near(many[-6:], o["net"])
    both = head(torch.cat([i["x"], i["x"]]), i["t"].repeat(2), torch.cat([i["z"], i["z_null"]]))
    eps = ClassifierFree(golden.config["cfg"]).combine(both[:, :4])
    assert near(eps, o["net_cfg"][:6, :4]) and near(both[:, 4:], o["net_cfg"][:, 4:])


@torch.no_grad()
def test_head_loss(diffloss: tuple[Golden, HeadMLP]) -> None:
    golden, head = diffloss
    i, schedule = golden.inputs, training_schedule(torch.device("cpu"))
    noisy = schedule.noised(i["target"], i["t"], i["noise"])
    eps, share = head(noisy, i["t"], i["z"]).chunk(2, -1)
    loss = (eps - i["noise"]).square().mean(-1) + schedule.variational_bound(i["target"], noisy, i["t"], eps, share)
    assert near(loss.mean(), golden.outputs["loss"])
    assert near((loss * i["mask"]).sum() / i["mask"].sum(), golden.outputs["loss_masked"])


def test_schedules(diffloss: tuple[Golden, HeadMLP]) -> None:
    o = diffloss[0].outputs

    def check(schedule: Schedule, name: str) -> None:
        torch.testing.assert_close(schedule.beta_K, o[f"table/{name}/betas"], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(schedule.alpha_bar_K, o[f"table/{name}/alphas_cumprod"], rtol=1e-9, atol=1e-15)
        assert torch.equal(schedule.timestep_K, o[f"table/{name}/timestep_map"])

    check(training_tables(), "train")
    check(sampling_tables(10, "even"), "gen")
    assert torch.equal(sampling_tables(10, "stride").timestep_K, o["ddim/timestep_map"])
    assert sampling_tables(100, "even").timestep_K.tolist()[-5:] == [959, 969, 979, 989, 999]


@torch.no_grad()
def test_reverse_steps(diffloss: tuple[Golden, HeadMLP]) -> None:
    golden, head = diffloss
    i, schedule = golden.inputs, sampling_tables(10, "even").to(torch.device("cpu"))
    for k in range(10):
        t: Tensor = schedule.timestep_K[k].expand(6)
        eps, share = head(i["x"], t, i["z"]).chunk(2, -1)
        assert near(schedule.step(i["x"], k, eps, share, i["noise"]), golden.outputs[f"p_sample/{k}"]), k
