"""Checks of the hooks that training calls. Suffixes: B batch, X everything else."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gftzoo.generator import SampleGenerator
from gftzoo.gft import GFT
from gftzoo.model import Model
from gftzoo.testing.broken import Broken
from gftzoo.testing.compare import ROUNDING, cosine, expect, other, same
from gftzoo.testing.contract import promises
from gftzoo.testing.subject import (
    BATCH,
    SHUFFLED,
    Batch,
    Subject,
    isolated,
    no_global_randomness,
    tensor_fields,
)

NONE_DROPPED = torch.zeros(BATCH, dtype=torch.bool)
UPDATES = 5  # enough for zero-initialised layers, behind each other, to open
GRADIENTS = 1e-3  # as a share of the largest gradient: sums of many float32 terms


@promises("build_network", "with a beta input iff `card.temperature`")
def parameter_counts(subject: Subject) -> str:
    """The networks have as many parameters as the card says, without and with a temperature input."""
    counts = {
        temperature: sum(p.numel() for p in subject.model(temperature=temperature).network.parameters())
        for temperature in (False, True)
    }
    expect(
        counts[False] == subject.card.parameters,
        f"the plain network has {counts[False]:,} parameters and the card says {subject.card.parameters:,}.",
    )
    stated = counts[True] if subject.card.parameters_gft is None else subject.card.parameters_gft
    expect(
        stated == counts[True],
        f"with a temperature input the network has {counts[True]:,} parameters and the card says {stated:,}.",
    )
    expect(
        counts[True] > counts[False],
        f"with and without a temperature input the network has {counts[True]:,} parameters: there is no such input.",
    )
    return f"{counts[False]:,} and {counts[True]:,}"


@promises("draw_problem", "Every tensor field has the batch as its first dimension.")
def problem_shapes(subject: Subject) -> str:
    """Problems are made of tensors with the batch first."""
    found = tensor_fields(subject.batch().problem)
    expect(bool(found), "the problem has no tensor field; make it a dataclass that inherits Problem.")
    for name, tensor in found.items():
        expect(tensor.shape[:1] == (BATCH,), f"{name} has shape {tuple(tensor.shape)} for a batch of {BATCH}.")
    return ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in found.items())


@promises("draw_problem", "Row i comes from row i of `latents` and stream i of `generator` alone,")
@torch.no_grad()
def problems_per_sample(subject: Subject) -> str:
    """The problem of a sample, seen through its loss, does not depend on the other samples but the first."""
    whole, part = (subject.batch(rows=rows) for rows in (range(BATCH), [0, 3, 1]))
    expected_B = whole.loss(whole.predict())
    what = "losses of samples 0, 3 and 1, whose problems were drawn apart from sample 2"
    return same(part.loss(part.predict()), expected_B[[0, 3, 1]], what, ROUNDING)


@promises("draw_problem", "The global random state is neither read nor changed.")
@torch.no_grad()
def problems_follow_their_streams(subject: Subject) -> str:
    """Problems are the same whatever the global random state, and leave it alone."""
    drawn = []
    for state in (0, 1):
        with isolated(state):
            drawn.append(subject.batch())
    for name, tensor in tensor_fields(drawn[0].problem).items():
        same(tensor_fields(drawn[1].problem)[name], tensor, f"field {name} at two states of the global generator")
    with isolated(), no_global_randomness("draw_problem"):
        subject.batch()
    return "equal to the bit"


@promises("predict", "it is finite")
@torch.no_grad()
def predictions_finite(subject: Subject) -> str:
    """Predictions are finite floating-point numbers with the batch first, the same in a second call."""
    batch = subject.batch()
    first = batch.predict()
    expect(first.is_floating_point(), f"the prediction is of dtype {first.dtype}.")
    expect(first.shape[:1] == (BATCH,), f"the prediction has shape {tuple(first.shape)} for a batch of {BATCH}.")
    bad = int((~first.isfinite()).sum())
    expect(bad == 0, f"{bad} of {first.numel()} numbers of the prediction are not finite.")
    with isolated(1), no_global_randomness("predict, in evaluation mode,"):
        same(batch.predict(), first, "two calls with the same arguments")
    return f"{tuple(first.shape)} {str(first.dtype).removeprefix('torch.')}"


@promises("predict", "Row i depends on row i of `problem`, `condition` and `beta` alone, in training mode too.")
@torch.no_grad()
def predictions_per_sample(subject: Subject) -> str:
    """The prediction of a sample does not depend on the batch it is in, in evaluation and in training mode."""
    whole, part = subject.batch(), subject.batch().select(SHUFFLED[:3])
    found = same(part.predict(), whole.predict()[SHUFFLED[:3]], "3 samples predicted apart from the 4th", ROUNDING)
    model = subject.copy(temperature=True)
    model.network.train()
    mixed = [0, *SHUFFLED[1:2] * (BATCH - 1)]  # sample 0, and strangers in the place of the others
    outputs: list[Tensor] = []
    for rows in (list(range(BATCH)), mixed):
        with isolated(3):  # the same dropout
            outputs.append(subject.batch(model).select(rows).predict()[:1])
    same(outputs[1], outputs[0], "sample 0 beside other samples, in training mode", ROUNDING)
    return found


@promises("predict", "Another `beta` gives another prediction.")
def temperature_matters(subject: Subject) -> str:
    """After a few updates from the family's own initialisation, beta changes the prediction."""
    model = trained(subject, updates=UPDATES)
    batch = subject.batch(model)
    with torch.no_grad():
        warm, cold = (batch.predict(beta=torch.full((BATCH,), value)) for value in (1.0, 0.2))
    return other(warm, cold, f"predictions at beta 1 and 0.2 after {UPDATES} updates")


@promises("predict", "So does the null condition")
@torch.no_grad()
def null_condition_matters(subject: Subject) -> str:
    """The null condition is another one than each of the model's own, for the prediction too."""
    batch = subject.batch()
    null = batch.model.null_condition(batch.condition)
    unconditional = batch.predict(null)
    smallest = ""
    for conditions in some_conditions(subject):
        condition = batch.model.encode_condition([conditions] * BATCH)
        what = f"predictions with the null condition and with condition {conditions!r}"
        smallest = other(batch.predict(condition), unconditional, what)
    return smallest


def some_conditions(subject: Subject) -> list[int | str]:
    """Every class of a small model, or what the batch has."""
    few = subject.card.condition == "class" and subject.card.classes <= 16
    return list(range(subject.card.classes)) if few else subject.conditions


def trained(subject: Subject, updates: int) -> Model:
    """A freshly initialised model after a few updates of GFT (of fixed size, as Adam's first is)."""
    model = subject.fresh(temperature=True)
    model.network.train()
    batch = subject.batch(model)
    for update in range(updates):
        generator = SampleGenerator.for_samples("check training", update, range(BATCH))
        with isolated(update):
            loss = GFT().loss(model, batch.problem, batch.condition, generator).mean()
        if not loss.isfinite():
            raise Broken(f"the loss of update {update + 1} is {loss.item()}.")
        with torch.no_grad():
            for name, gradient in gradients(model.network, loss).items():
                model.network.get_parameter(name).sub_(gradient.sign(), alpha=1e-3)
    model.network.eval()
    return model


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


def gradients(network: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of every parameter that has one."""
    network.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def equal_gradients(a: dict[str, Tensor], b: dict[str, Tensor], what: str) -> str:
    """The numbers, if two sets of gradients are equal; Broken with the worst parameter if not."""
    expect(a.keys() == b.keys(), f"{what}: parameters with a gradient in one only: {sorted(a.keys() ^ b.keys())[:3]}.")
    expect(bool(a), f"{what}: no parameter has a gradient.")
    size = max(float(gradient.abs().max()) for gradient in b.values())
    gaps = {name: float((a[name] - b[name]).abs().max()) / max(size, 1e-12) for name in a}
    worst = max(gaps, key=lambda name: gaps[name])
    expect(
        gaps[worst] <= GRADIENTS,
        f"{what}: {worst} differs by {gaps[worst]:.2g} of the largest gradient, allowed {GRADIENTS:g}.",
    )
    return f"difference {gaps[worst]:.1g}"


@promises("condition_drop", "`condition` with the null condition where the boolean `dropped` (B,) is true.")
def dropped_conditions_are_null(subject: Subject) -> str:
    """Dropped rows hold the null condition."""
    batch = subject.batch()
    dropped = torch.tensor([True, False, True, False])
    null = batch.model.null_condition(batch.condition)
    expect(
        null.shape == batch.condition.shape and null.dtype == batch.condition.dtype,
        f"the null condition is {tuple(null.shape)} {null.dtype}, "
        f"the condition {tuple(batch.condition.shape)} {batch.condition.dtype}.",
    )
    found = batch.family.condition_drop(batch.model, batch.condition, dropped)
    return same(found[dropped], null[dropped], "rows 0 and 2, dropped, and the null condition")


@promises("condition_drop", "The null condition is the same whatever it replaces.")
def null_condition_is_constant(subject: Subject) -> str:
    """The null condition does not depend on the condition in its place."""
    batch = subject.batch()
    null = batch.model.null_condition(batch.condition)
    return same(
        batch.model.null_condition(batch.condition[SHUFFLED]), null, "null conditions of two orders of the batch"
    )


@promises("condition_drop", "The other rows stay as they are, and the argument itself is not changed.")
def other_conditions_stay(subject: Subject) -> str:
    """Rows that are not dropped stay, and nothing is edited in place."""
    batch = subject.batch()
    condition, dropped = batch.condition.clone(), torch.tensor([True, False, True, False])
    found = batch.family.condition_drop(batch.model, condition, dropped)
    same(condition, batch.condition, "the argument after and before the call")
    return same(found[~dropped], batch.condition[~dropped], "rows 1 and 3, not dropped, after and before the call")


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
