"""Checks of the problems that a family draws, and of its predictions. Suffix B: batch."""

from __future__ import annotations

import torch
from torch import Tensor

from gftzoo.generator import SampleGenerator
from gftzoo.gft import GFT
from gftzoo.model import Model
from gftzoo.testing.broken import Broken
from gftzoo.testing.compare import ROUNDING, expect, gradients, other, same
from gftzoo.testing.contract import promises
from gftzoo.testing.subject import (
    BATCH,
    SHUFFLED,
    Subject,
    isolated,
    no_global_randomness,
    tensor_fields,
)

UPDATES = 5  # enough for zero-initialised layers, behind each other, to open


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
