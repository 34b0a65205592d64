"""Statistics of features that arrive in batches, in float64 and in memory that does not grow with the images.

torchmetrics' own image metrics are not used for this: its KID and Inception Score keep every feature and shuffle with
the global random generator, its FID takes no precomputed reference, and it rounds the result to the features' dtype.
Its `Metric` does the part that is hard, states that are reduced over ranks, so each statistic here is one.
A sample is known by its position in the whole job; nothing depends on batches or on the number of ranks. Without
`over_ranks` a statistic is of this rank's samples alone, as for a reference that every rank reads whole.
Suffixes: B batch, D feature dimensions, K classes, S splits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from gftzoo.errors import GftzooError
from gftzoo.evaluate.metrics import Gaussian
from gftzoo.generator import seed_for

_EMPTY = torch.iinfo(torch.int64).max  # key of a slot without a feature; real keys have 63 bits and lie below


class StreamedGaussian(Metric):
    """Mean and covariance of D-dimensional features."""

    full_state_update = False
    count: Tensor
    sum_D: Tensor
    product_DD: Tensor

    def __init__(self, dimensions: int, over_ranks: bool = True) -> None:
        super().__init__(sync_on_compute=over_ranks)
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("sum_D", torch.zeros(dimensions, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("product_DD", torch.zeros(dimensions, dimensions, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, features_BD: Tensor) -> None:
        features_BD = features_BD.double()
        self.count += len(features_BD)
        self.sum_D += features_BD.sum(dim=0)
        self.product_DD += features_BD.T @ features_BD

    def compute(self) -> Gaussian:
        count = int(self.count)
        if count < 2:
            raise GftzooError(f"feature statistics need at least 2 images and got {count}.")
        mean_D = self.sum_D / count
        covariance_DD = (self.product_DD - count * torch.outer(mean_D, mean_D)) / (count - 1)
        return Gaussian(mean_D.cpu(), covariance_DD.cpu(), count)


class StreamedInceptionScore(Metric):
    """exp E KL(p(y|x) || p(y)) over consecutive splits (Salimans et al. 2016), from a classifier's logits.

    Args:
        classes: K.
        total: number of samples of the job, which fixes the borders of the splits.
        splits: number of splits; their mean and standard deviation are reported.
        shuffle: seed of a permutation of the positions before splitting; None keeps the order, as ADM does.
    """

    full_state_update = False
    count_S: Tensor
    probability_SK: Tensor
    negentropy_S: Tensor

    def __init__(
        self, classes: int, total: int, splits: int = 10, shuffle: int | None = None, over_ranks: bool = True
    ) -> None:
        super().__init__(sync_on_compute=over_ranks)
        self.borders = torch.tensor([split * total // splits for split in range(1, splits)])
        self.places = torch.arange(total)
        if shuffle is not None:
            order = torch.randperm(total, generator=torch.Generator().manual_seed(shuffle))
            self.places[order] = torch.arange(total)
        self.add_state("count_S", torch.zeros(splits, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("probability_SK", torch.zeros(splits, classes, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("negentropy_S", torch.zeros(splits, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits_BK: Tensor, positions: Sequence[int]) -> None:
        log_BK = logits_BK.double().log_softmax(dim=1)
        places = self.places[torch.as_tensor(positions)]
        split_B = torch.searchsorted(self.borders, places, right=True).to(log_BK.device)
        self.count_S.index_add_(0, split_B, torch.ones_like(log_BK[:, 0]))
        self.probability_SK.index_add_(0, split_B, log_BK.exp())
        self.negentropy_S.index_add_(0, split_B, (log_BK.exp() * log_BK).sum(dim=1))

    def compute(self) -> tuple[float, float]:
        """Mean and standard deviation over the splits that hold samples."""
        filled = self.count_S > 0
        count_S = self.count_S[filled]
        marginal_SK = self.probability_SK[filled] / count_S[:, None]
        # E KL(p || q) = E sum p log p - sum q log q, because E p = q
        scores_S = (self.negentropy_S[filled] / count_S - torch.xlogy(marginal_SK, marginal_SK).sum(dim=1)).exp()
        return float(scores_S.mean()), float(scores_S.std(unbiased=False))


def _one_after_another(ranks_RMX: Tensor) -> Tensor:
    """The ranks' states, stacked by torchmetrics, as one."""
    return ranks_RMX.flatten(0, 1)


class FeatureSample(Metric):
    """At most `size` features, a uniform random subset that depends on the positions only (the smallest keys win)."""

    full_state_update = False
    keys: Tensor
    features: Tensor

    def __init__(self, dimensions: int, size: int = 10_000, over_ranks: bool = True) -> None:
        super().__init__(sync_on_compute=over_ranks)
        self.size = size
        self.add_state("keys", torch.full((size,), _EMPTY), dist_reduce_fx=_one_after_another)
        self.add_state("features", torch.zeros(0, dimensions), dist_reduce_fx=_one_after_another)
        # one buffer that is never copied; its pages cost nothing until they are written
        self.features = torch.empty(size, dimensions)

    def update(self, features_BD: Tensor, positions: Sequence[int]) -> None:
        keys_B = torch.tensor([seed_for("feature sample", int(position)) for position in positions])
        keys = torch.cat([self.keys, keys_B.to(self.keys.device)])
        stays = torch.zeros_like(keys, dtype=torch.bool)
        stays[keys.argsort()[: self.size]] = True
        slots, entering = (~stays[: self.size]).nonzero().squeeze(1), stays[self.size :].nonzero().squeeze(1)
        self.keys[slots] = keys[self.size :][entering]
        self.features[slots] = features_BD[entering].float()

    def compute(self) -> Tensor:
        """The features (<= size, D) float32, ordered by key."""
        order = self.keys.argsort()[: self.size]
        return self.features[order[self.keys[order] != _EMPTY]].cpu()


class Accuracy(Metric):
    """The share of samples that a classifier gives the class they were made for."""

    full_state_update = False
    right: Tensor
    count: Tensor

    def __init__(self, over_ranks: bool = True) -> None:
        super().__init__(sync_on_compute=over_ranks)
        self.add_state("right", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits_BK: Tensor, labels: Sequence[int] | None) -> None:
        if labels is None:
            return
        labels_B = torch.as_tensor(labels, device=logits_BK.device)
        self.right += (logits_BK.argmax(dim=1) == labels_B).sum()
        self.count += len(labels_B)

    def compute(self) -> float | None:
        """None where no sample had a label. Every rank calls it, also one that had no images."""
        return float(self.right / self.count) if self.count else None
