"""Checks of losses and their gradients. Suffixes: B batch, X everything else."""

from __future__ import annotations

import torch
from torch import Tensor

from gftzoo.gft import GFT
from gftzoo.testing.compare import ROUNDING, cosine, equal_gradients, expect, gradients, same
from gftzoo.testing.contract import promises
from gftzoo.testing.subject import (
    BATCH,
    NONE_DROPPED,
    SHUFFLED,
    Batch,
    Subject,
)


@promises("loss_term", "The per-sample loss (B,), float32, of a (possibly mixed) `prediction`.")
def loss_shape(subject: Subject) -> str:
    """The loss is one finite float32 number per sample, for plain and for temperature models."""
    for temperature in (False, True):
        batch = subject.batch(temperature=temperature)
        loss_B = batch.loss(batch.predict())
        expect(loss_B.shape == (BATCH,), f"the loss has shape {tuple(loss_B.shape)} for a batch of {BATCH}.")
        expect(loss_B.dtype == torch.float32, f"the loss is of dtype {loss_B.dtype}.")
        expect(bool(loss_B.isfinite().all()), f"the losses are {loss_B.tolist()}.")
    return "losses " + ", ".join(f"{value:.3g}" for value in loss_B.tolist())


@promises("loss_term", "Row i depends on row i of `prediction` and `problem` alone")
def losses_per_sample(subject: Subject) -> str:
    """The loss of a sample depends neither on the others nor on their order, and teaches its own prediction alone."""
    batch = subject.batch()
    prediction = batch.predict().detach().requires_grad_()
    loss_B = batch.loss(prediction)
    (gradient,) = torch.autograd.grad(loss_B[0], prediction, allow_unused=True)
    sizes = [0.0] * BATCH if gradient is None else gradient.abs().reshape(BATCH, -1).amax(1).tolist()
    expect(sizes[0] > 0, "the loss of sample 0 has no gradient with respect to its prediction.")
    expect(max(sizes[1:]) == 0, f"the loss of sample 0 has gradients {sizes} with respect to samples 0 to {BATCH - 1}.")
    shuffled = batch.select(SHUFFLED)
    found = same(
        shuffled.loss(prediction[SHUFFLED]), loss_B[SHUFFLED], "losses of the batch in another order", ROUNDING
    )
    apart = batch.select([0]).loss(prediction[:1])
    same(apart, loss_B[:1], "the loss of sample 0 in a batch of its own", ROUNDING)
    return found


@promises("predict", "the same whenever its arguments are")
@torch.no_grad()
def beta_one_is_conditional(subject: Subject) -> str:
    """GFT's loss at beta = 1 is the conditional loss."""
    batch = subject.batch()
    dropped, ones = torch.tensor([False, True, False, False]), torch.ones(BATCH)
    mixed = GFT().loss_at(batch.model, batch.problem, batch.condition, ones, dropped)
    condition = batch.family.condition_drop(batch.model, batch.condition, dropped)
    return same(mixed, batch.loss(batch.predict(condition, ones)), "GFT's loss at beta 1 and the conditional loss")


@promises("predict", "Under `torch.no_grad` it keeps no graph, so that the unconditional pass trains nothing.")
def unconditional_pass_trains_nothing(subject: Subject) -> str:
    """The gradient of GFT's loss is that with the unconditional prediction as a constant."""
    batch = subject.batch(subject.copy(temperature=True))
    network, beta_B = batch.model.network, batch.beta_B
    loss = GFT().loss_at(batch.model, batch.problem, batch.condition, beta_B, NONE_DROPPED)
    actual = gradients(network, loss.sum())
    with torch.no_grad():
        u_BX = batch.predict(batch.model.null_condition(batch.condition), torch.ones(BATCH)).float().detach()
    s_BX = batch.predict().float()
    weight_BX = beta_B.view(-1, *[1] * (s_BX.ndim - 1))
    expected = gradients(network, batch.loss(weight_BX * s_BX + (1 - weight_BX) * u_BX).sum())
    return equal_gradients(actual, expected, "gradients with f_u as computed and with f_u as a constant")


@promises("log_likelihood", "log p(x | c) in nats, (B,) float32: the sum over all that `prediction` (logits) predicts.")
@torch.no_grad()
def likelihoods_per_sample(subject: Subject) -> str:
    """Where the family has likelihoods, they are one per sample, at most those of certainty."""
    if not subject.family.offers("log_likelihood"):
        return "not offered"
    batch = subject.batch(temperature=False)
    prediction = batch.predict().float()
    value_B = batch.family.log_likelihood(batch.model, prediction, batch.problem)
    expect(value_B.shape == (BATCH,) and value_B.dtype == torch.float32, f"{tuple(value_B.shape)} {value_B.dtype}.")
    expect(bool((value_B <= 1e-4).all()), f"log-likelihoods {value_B.tolist()} of discrete data above 0.")
    part = batch.select(SHUFFLED)
    shuffled = batch.family.log_likelihood(batch.model, prediction[SHUFFLED], part.problem)
    return same(shuffled, value_B[SHUFFLED], "likelihoods of the batch in another order", ROUNDING)


@promises("prediction_distance", "The squared distance (B,) of two predictions of noise or velocity,")
@torch.no_grad()
def distances_per_sample(subject: Subject) -> str:
    """Where the family has distances of predictions, they are per sample, quadratic, and 0 for equal ones."""
    if not subject.family.offers("prediction_distance"):
        return "not offered"
    batch = subject.batch()
    first, second = batch.predict().float(), batch.predict(beta=torch.ones(BATCH)).float()

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return batch.family.prediction_distance(batch.model, a, b, batch.problem)

    once_B, twice_B = distance(first, second), distance(first, first + 2 * (second - first))
    expect(once_B.shape == (BATCH,), f"the distance has shape {tuple(once_B.shape)} for a batch of {BATCH}.")
    same(distance(first, first), torch.zeros(BATCH), "the distance of equal predictions and 0")
    return same(twice_B, 4 * once_B, "the distance of predictions twice as far apart and 4 times theirs", ROUNDING)


@promises("predict", "Under bfloat16 autocast it is the same up to rounding, gradients included.")
def bf16_autocast(subject: Subject) -> str:
    """Under bfloat16 autocast the loss stays float32 and the gradients point the same way."""
    batch: Batch = subject.batch(subject.copy(temperature=True))

    def loss() -> Tensor:
        return GFT().loss_at(batch.model, batch.problem, batch.condition, batch.beta_B, NONE_DROPPED).mean()

    exact = gradients(batch.model.network, loss())
    with torch.autocast("cpu", torch.bfloat16):
        reduced_loss = loss()
    reduced = gradients(batch.model.network, reduced_loss)
    expect(reduced_loss.dtype == torch.float32, f"the loss is of dtype {reduced_loss.dtype}.")
    missing = sorted(exact.keys() ^ reduced.keys())
    expect(not missing, f"parameters with a gradient in one precision only: {missing[:3]}.")
    similarity = cosine(exact, reduced)
    expect(
        similarity > 0.98, f"the cosine of bf16 and float32 gradients is {similarity:.3f}, at least 0.98 is expected."
    )
    return f"cosine {similarity:.4f}"


@promises("parameter_groups", "Every trainable parameter is in one of them, once.")
def parameters_are_grouped(subject: Subject) -> str:
    """The optimizer gets every trainable parameter, once."""
    network = subject.model(temperature=True).network
    groups = subject.family.parameter_groups(network, 0.05)
    given = [id(parameter) for group in groups for parameter in group["params"]]
    names = {id(parameter): name for name, parameter in network.named_parameters() if parameter.requires_grad}
    missing = [name for key, name in names.items() if key not in given]
    expect(not missing, f"{len(missing)} parameters are in no group, e.g. {missing[:1]}.")
    expect(len(given) == len(set(given)), f"{len(given) - len(set(given))} parameters are in two groups.")
    return f"{len(given)} tensors in {len(groups)} group{'s' * (len(groups) != 1)}"
