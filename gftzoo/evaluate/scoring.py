"""From images to scores: a stream of features on one side, a reference on the other.

Suffixes: B batch, M kept features, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from gftzoo.catalogue.cards import Frozen
from gftzoo.evaluate.features import FeatureNetwork
from gftzoo.evaluate.metrics import Gaussian, frechet_distance, kernel_distance, precision_recall
from gftzoo.evaluate.streaming import Accuracy, FeatureSample, StreamedGaussian, StreamedInceptionScore


@dataclass(frozen=True)
class FeatureSummary:
    """What is kept of a set of images, of bounded size."""

    pooled: Gaussian
    spatial: Gaussian | None
    sample_MD: Tensor | None
    inception_score: tuple[float, float] | None = None
    accuracy: float | None = None


class Scores(Frozen):
    """The scores of one set of images; what `frechet` and `inception_score` may be called is in the record."""

    frechet: float
    frechet_spatial: float | None = None
    kernel: float | None = None
    kernel_std: float | None = None
    inception_score: float | None = None
    inception_score_std: float | None = None
    precision: float | None = None
    recall: float | None = None
    accuracy: float | None = None
    clip_score: float | None = None
    prompt_agreement: float | None = None


class FeatureStream:
    """Collects the features of images that arrive in any order of batches, over any number of ranks.

    Args:
        network: where the features come from; its device is where images are moved.
        total: number of images of the whole job, over all ranks.
        splits, shuffle: of the Inception Score, see `StreamedInceptionScore`.
        keep: number of features kept for kernel distance, precision and recall.
        over_ranks: whether every rank adds a part; else each has the whole, and nothing is exchanged.
    """

    def __init__(
        self,
        network: FeatureNetwork,
        total: int,
        splits: int = 10,
        shuffle: int | None = None,
        keep: int = 10_000,
        over_ranks: bool = True,
    ) -> None:
        self.network = network
        device = next(network.parameters()).device
        self._pooled = StreamedGaussian(network.dimensions, over_ranks).to(device)
        self._spatial = StreamedGaussian(network.spatial, over_ranks).to(device) if network.spatial else None
        self._sample = FeatureSample(network.dimensions, min(keep, total), over_ranks).to(device)
        self._score, self._accuracy = None, None
        if network.classes:
            self._score = StreamedInceptionScore(network.classes, total, splits, shuffle, over_ranks).to(device)
        if network.knows_labels:
            self._accuracy = Accuracy(over_ranks).to(device)

    def add(self, images_BCHW: Tensor, positions: Sequence[int], labels: Sequence[int] | None = None) -> None:
        """Takes uint8 images (B, 3, H, W) that have these positions in the job, and their classes where known."""
        device = next(self.network.parameters()).device
        features = self.network(images_BCHW.to(device))
        self._pooled.update(features.pooled_BD)
        self._sample.update(features.pooled_BD, positions)
        if self._spatial is not None and features.spatial_BS is not None:
            self._spatial.update(features.spatial_BS)
        if self._score is not None and features.logits_BK is not None:
            self._score.update(features.logits_BK, positions)
        if self._accuracy is not None and features.logits_BK is not None:
            self._accuracy.update(features.logits_BK, labels)

    def summary(self) -> FeatureSummary:
        """The statistics of everything added, over all ranks; GftzooError below two images."""
        return FeatureSummary(
            pooled=self._pooled.compute(),
            spatial=None if self._spatial is None else self._spatial.compute(),
            sample_MD=self._sample.compute(),
            inception_score=None if self._score is None else self._score.compute(),
            accuracy=None if self._accuracy is None else self._accuracy.compute(),
        )


def summarize(
    network: FeatureNetwork,
    batches: Iterable[tuple[Tensor, Sequence[int] | None]],
    total: int,
    splits: int = 10,
    shuffle: int | None = None,
    keep: int = 10_000,
) -> FeatureSummary:
    """The summary of batches of (uint8 images, labels or None), all of them on every rank."""
    stream = FeatureStream(network, total, splits, shuffle, keep, over_ranks=False)
    start = 0
    for images_BCHW, labels in batches:
        stream.add(images_BCHW, range(start, start + len(images_BCHW)), labels)
        start += len(images_BCHW)
    return stream.summary()


def score(generated: FeatureSummary, reference: FeatureSummary, neighbours: int = 3) -> Scores:
    """The scores of generated images against a reference; None where the reference holds too little for one."""
    kernel: tuple[float | None, float | None] = (None, None)
    manifold: tuple[float | None, float | None] = (None, None)
    if generated.sample_MD is not None and reference.sample_MD is not None:
        kernel = kernel_distance(reference.sample_MD, generated.sample_MD)
        manifold = precision_recall(reference.sample_MD, generated.sample_MD, neighbours)
    spatial = None
    if generated.spatial is not None and reference.spatial is not None:
        spatial = frechet_distance(generated.spatial, reference.spatial)
    inception_score, inception_score_std = generated.inception_score or (None, None)
    return Scores(
        frechet=frechet_distance(generated.pooled, reference.pooled),
        frechet_spatial=spatial,
        kernel=kernel[0],
        kernel_std=kernel[1],
        inception_score=inception_score,
        inception_score_std=inception_score_std,
        precision=manifold[0],
        recall=manifold[1],
        accuracy=generated.accuracy,
    )
