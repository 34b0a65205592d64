"""A feature network for small data sets: a classifier trained on the source's own train split, in seconds.

Training is a pure function of the data, the constants below and the arithmetic of the machine; the weights are cached
and their hash is part of every score, so that scores of two different classifiers are never compared.
Suffixes: B batch, K classes; images are uint8 RGB.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.data import Source, open_source
from gftzoo.data.fingerprint import fingerprint_of
from gftzoo.errors import UsageError
from gftzoo.evaluate.features import FeatureNetwork, Features
from gftzoo.evaluate.keeping import kept_weights
from gftzoo.generator import seed_for

VERSION = 1  # of the recipe below; a new one makes new networks
FEWEST_STEPS, MOST_STEPS, EPOCHS = 500, 4000, 4
BATCH, RATE = 128, 3e-3
DIMENSIONS = 64
LARGEST_SIDE = 32  # of larger images or such that differ in size: what it costs goes with the square


class EmbeddedClassifier(FeatureNetwork):
    """A small convolutional classifier; the features are its last hidden layer, the logits its classes."""

    dimensions = DIMENSIONS
    knows_labels = True

    def __init__(self, source: str, classes: int, side: int) -> None:
        super().__init__()
        self.name, self.classes, self.side = f"{source.replace(':', '-')}-classifier", classes, side
        halvings = max(0, (side // 4).bit_length() - 1)  # down to maps of 4 to 7 pixels
        widths = [32, *(min(64 * 2**i, 128) for i in range(halvings))]
        layers = [_block(3, widths[0], 1), *(_block(before, after, 2) for before, after in pairwise(widths))]
        self.trunk = nn.Sequential(*layers, _block(widths[-1], widths[-1], 1), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.hidden = nn.Linear(widths[-1] * 16, DIMENSIONS)
        self.head = nn.Linear(DIMENSIONS, classes)

    def extract(self, images_BCHW: Tensor) -> Features:
        x_BCHW = images_BCHW.float() / 127.5 - 1
        if x_BCHW.shape[-1] != self.side:
            x_BCHW = F.interpolate(x_BCHW, (self.side, self.side), mode="bilinear", antialias=True)
        pooled_BD = F.gelu(self.hidden(self.trunk(x_BCHW)))
        return Features(pooled_BD, self.head(pooled_BD))


def _block(before: int, after: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.GELU())


def embedded_classifier(spec: str) -> EmbeddedClassifier:
    """The classifier of a data source's classes (of captions: their groups), from the cache or trained now.

    That takes seconds for `digits` and minutes for 32x32 pictures.

    Raises:
        UsageError: no such source, or one without classes.
    """
    source = open_source(spec, "train")
    classes = len(source.class_names)
    if classes < 2:
        raise UsageError(f"data {spec!r} has no classes to train a classifier on; score with --features efflite0.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("embedded classifier", VERSION))
        network = EmbeddedClassifier(spec.replace("/", "-"), classes, min(source.size or LARGEST_SIDE, LARGEST_SIDE))
    name = re.sub(r"[^\w.-]", "_", network.name, flags=re.ASCII)[:80]
    key = f"{name}-{seed_for(fingerprint_of(source).key, spec):016x}-v{VERSION}"

    def trained() -> bytes:
        _train(network, source)
        return save({name: value.contiguous() for name, value in network.state_dict().items()})

    weights = kept_weights(key, trained)
    network.load_state_dict(load(weights))
    network.weights_sha256 = hashlib.sha256(weights).hexdigest()
    network.eval().requires_grad_(False)
    return network


def _train(network: EmbeddedClassifier, source: Source) -> None:
    """AdamW with a one-cycle rate on shifted and slightly noisy images."""
    with _one_thread(), torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed_for("training of the embedded classifier", VERSION))
        steps = min(max(EPOCHS * len(source) // BATCH, FEWEST_STEPS), MOST_STEPS)
        optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
        network.train()
        for _ in range(steps):
            rows = torch.randint(len(source), (BATCH,)).tolist()
            labels_B = torch.tensor([source.class_of(row) for row in rows])
            logits_BK = network.extract(_augment(source.images(rows, network.side, 3).float())).logits_BK
            assert logits_BK is not None
            loss = F.cross_entropy(logits_BK, labels_B, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def _augment(images_BCHW: Tensor) -> Tensor:
    """Shifted by up to an eighth of the side, with noise: features that see strokes and not single pixels."""
    side = images_BCHW.shape[-1]
    reach = max(1, side // 8)
    padded_BCHW = F.pad(images_BCHW, [reach] * 4, mode="replicate")
    top, left = (int(torch.randint(2 * reach + 1, ())) for _ in range(2))
    shifted_BCHW = padded_BCHW[..., top : top + side, left : left + side]
    return (shifted_BCHW + 12 * torch.randn_like(shifted_BCHW)).clamp(0, 255)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread, so that the order of additions does not depend on the machine's cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
