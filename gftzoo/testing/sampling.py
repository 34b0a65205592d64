"""Checks of the sampler."""

from __future__ import annotations

import tempfile

import torch

from gftzoo.contract.guidance import ClassifierFree, Temperature, Unguided
from gftzoo.loading import load
from gftzoo.model import Model
from gftzoo.testing.compare import expect, other, same
from gftzoo.testing.contract import promises
from gftzoo.testing.subject import BATCH, SHUFFLED, Subject, disturb, isolated, no_global_randomness

FAR = 0.1  # deviation of noise on parameters that makes a network of its own
DRAWS = 2e-3  # rounding grows over the steps; another draw, or a flipped code, is far outside


def far(subject: Subject, *, temperature: bool) -> Model:
    """A network whose inputs have large effects: where samples are codes, a difference must be drawn to be seen."""
    model = subject.copy(temperature=temperature)
    disturb(model, FAR)
    return model


@promises("temperature_sampler", "They have the shape and dtype of what the tokenizer encodes to.")
def sample_shapes(subject: Subject) -> str:
    """Samples have the shape and dtype of encoded images, and decode to images in range."""
    model = subject.model(temperature=True)
    drawn, encoded = subject.sample(model, Temperature(0.6)), subject.latents
    expect(
        drawn.shape == encoded.shape and drawn.dtype == encoded.dtype,
        f"samples are {tuple(drawn.shape)} {drawn.dtype}, encoded images {tuple(encoded.shape)} {encoded.dtype}.",
    )
    expect(bool(drawn.isfinite().all()), f"{int((~drawn.isfinite()).sum())} numbers of the samples are not finite.")
    images, side = model.decode(drawn), model.card.resolution
    expect(images.shape == (BATCH, 3, side, side), f"images have shape {tuple(images.shape)} at {side} pixels.")
    return f"{tuple(drawn.shape)} {str(drawn.dtype).removeprefix('torch.')}"


@promises("temperature_sampler", "The global random state is neither read nor changed.")
def samples_follow_their_seeds(subject: Subject) -> str:
    """The same seed gives the same sample, another seed another, whatever the global random state."""
    model = subject.model(temperature=True)
    drawn = []
    for state in (0, 1):
        with isolated(state):
            drawn.append(subject.sample(model, Temperature(0.6)))
    found = same(drawn[1], drawn[0], "samples of the same seeds at two states of the global generator")
    with isolated(), no_global_randomness("temperature_sampler"):
        other(subject.sample(model, Temperature(0.6), seed=1), drawn[0], "samples of two seeds")
    return found


@promises("temperature_sampler", "on `settings` alone, not on its batch.")
def samples_independent_of_batch(subject: Subject) -> str:
    """A sample is the same in batches of 4, 2 and 1, in any order, with GFT and with CFG."""
    found = ""
    for guidance in (Temperature(0.6), ClassifierFree(2.0)):
        model = subject.model(temperature=isinstance(guidance, Temperature))
        whole = subject.sample(model, guidance)
        for rows in (SHUFFLED[:2], [3]):
            what = f"samples {rows} in a batch of {len(rows)} and of {BATCH}, {type(guidance).__name__}"
            found = same(subject.sample(model, guidance, rows), whole[rows], what, DRAWS)
    return found


@promises("temperature_sampler", "The network is given `guidance.beta`.")
def temperature_steers(subject: Subject) -> str:
    """Another temperature gives other samples."""
    model = far(subject, temperature=True)
    warm, cold = (subject.sample(model, Temperature(value)) for value in (1.0, 0.2))
    return other(cold, warm, "samples at beta 0.2 and 1")


@promises("temperature_sampler", "CFG at scale 1 is no guidance,")
def cfg_at_one_is_unguided(subject: Subject) -> str:
    """CFG at scale 1 draws what no guidance draws, and at scale 4 something else."""
    model = far(subject, temperature=False)
    unguided = subject.sample(model, Unguided())
    other(subject.sample(model, ClassifierFree(4.0)), unguided, "samples with CFG at scale 4 and unguided")
    return same(subject.sample(model, ClassifierFree(1.0)), unguided, "samples with CFG at scale 1 and unguided", DRAWS)


@promises("temperature_sampler", "and at scale 0 the unconditional model.")
def cfg_at_zero_is_unconditional(subject: Subject) -> str:
    """CFG at scale 0 draws what the null condition draws."""
    model = subject.model(temperature=False)
    unconditional = subject.sample(model, Unguided(), null=True)
    zero = subject.sample(model, ClassifierFree(0.0))
    return same(zero, unconditional, "samples with CFG at scale 0 and of the null condition", DRAWS)


@promises("temperature_sampler", "Row i depends on its condition,")
def conditions_steer(subject: Subject) -> str:
    """Another condition gives another sample."""
    model = far(subject, temperature=True)
    own = subject.sample(model, Temperature(0.6))
    null = subject.sample(model, Temperature(0.6), null=True)
    return other(null, own, "samples with their conditions and with the null condition")


@promises("build_network", "All that its predictions depend on is in its state dict.")
def save_and_load(subject: Subject) -> str:
    """A model that was saved and loaded again predicts the same, to the bit."""
    model = subject.model(temperature=True)
    with tempfile.TemporaryDirectory() as folder, isolated(7):
        model.save(folder)
        loaded = load(folder)
    loaded.network.eval()
    with torch.no_grad():
        before, after = (subject.batch(m).predict() for m in (model, loaded))
    return same(after, before, "predictions after and before saving")
