"""Distances between sets of features: Frechet distance, kernel distance, precision and recall. No images here.

Suffixes: N samples, M samples of the other set, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gftzoo.errors import GftzooError, UsageError

_ROWS, _COLUMNS = 256, 2048  # block of a distance matrix made at a time, with float64 copies of its features


class Gaussian(NamedTuple):
    """Mean (D,) and unbiased covariance (D, D) of `samples` features, float64; 0 samples means that it is not known."""

    mean_D: Tensor
    covariance_DD: Tensor
    samples: int


def gaussian(features_ND: Tensor) -> Gaussian:
    """The statistics of features that are all in memory, computed in two passes."""
    features_ND = features_ND.double()
    mean_D = features_ND.mean(dim=0)
    centred_ND = features_ND - mean_D
    return Gaussian(mean_D, centred_ND.T @ centred_ND / (len(features_ND) - 1), len(features_ND))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Squared Frechet distance of two Gaussians (Heusel et al. 2017, eq. 6), computed without a matrix square root.

    tr (C_a C_b)^(1/2) is the sum of the singular values of A^T B for any factors C = A A^T. Unlike the root of the
    eigenvalues of C_a C_b this never leaves the real numbers, and rounding enters it linearly and not as a square
    root, so that singular covariances (fewer samples than dimensions) need no offset on the diagonal.

    Raises:
        GftzooError: the dimensions differ, or a statistic is not finite.
    """
    if a.mean_D.shape != b.mean_D.shape:
        raise GftzooError(
            f"features of {len(a.mean_D)} and of {len(b.mean_D)} dimensions have no Frechet distance; "
            "the reference was made with another feature network."
        )
    if not all(bool(t.isfinite().all()) for t in (a.mean_D, b.mean_D, a.covariance_DD, b.covariance_DD)):
        raise GftzooError("a feature statistic is not finite; the images or the reference file are damaged.")
    cross = torch.linalg.svdvals(_factor(a.covariance_DD).T @ _factor(b.covariance_DD)).sum()
    spread = a.covariance_DD.trace() + b.covariance_DD.trace() - 2 * cross
    return float((a.mean_D - b.mean_D).square().sum() + spread)


def _factor(covariance_DD: Tensor) -> Tensor:
    """A (D, rank) with A A^T = covariance; eigenvalues below rounding count as zero."""
    values_D, vectors_DD = torch.linalg.eigh(covariance_DD)
    floor = values_D.abs().max() * len(values_D) * torch.finfo(values_D.dtype).eps
    kept_D = values_D > floor
    return vectors_DD[:, kept_D] * values_D[kept_D].sqrt()


def kernel_distance(
    real_ND: Tensor, generated_MD: Tensor, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Unbiased squared MMD with the kernel (x.y / D + 1)^3 over random subsets: mean and standard deviation.

    Binkowski et al. 2018, "Demystifying MMD GANs". The estimator is torchmetrics'; the subsets are a function of
    `seed`. Sets smaller than `subset_size` use all their samples.
    """
    from torchmetrics.image.kid import poly_mmd  # slow to import, for this score alone

    size = min(subset_size, len(real_ND), len(generated_MD))
    if size < 2:
        raise UsageError(f"a kernel distance needs at least 2 images on both sides and got {size}.")
    stream = torch.Generator().manual_seed(seed)

    def subset(features_ND: Tensor) -> Tensor:
        return features_ND[torch.randperm(len(features_ND), generator=stream)[:size]].double()

    values = torch.stack([poly_mmd(subset(real_ND), subset(generated_MD)) for _ in range(subsets)])
    return float(values.mean()), float(values.std(unbiased=False))


def precision_recall(real_ND: Tensor, generated_MD: Tensor, neighbours: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al. 2019, eq. 1 and 2).

    Precision is the share of generated features inside the real manifold, recall the share of real features inside
    the generated one. A manifold is the union of the balls around its samples that reach to their k-th neighbour.
    """
    fewest = min(len(real_ND), len(generated_MD))
    if fewest <= neighbours:
        raise UsageError(f"precision and recall with {neighbours} neighbours need more images than that, not {fewest}.")
    return _coverage(generated_MD, real_ND, neighbours), _coverage(real_ND, generated_MD, neighbours)


def _coverage(features_ND: Tensor, manifold_MD: Tensor, neighbours: int) -> float:
    """The share of `features` inside the manifold of `manifold`."""
    # Results are written into one tensor: small tensors kept between large ones would keep the heap from shrinking.
    radii_M = torch.empty(len(manifold_MD), dtype=torch.float64)
    for rows, distances_RM in _distances(manifold_MD, manifold_MD):
        # The nearest of a sample is itself, at distance zero.
        radii_M[rows] = distances_RM.topk(neighbours + 1, dim=1, largest=False).values[:, -1]
    inside_N = torch.empty(len(features_ND), dtype=torch.bool)
    for rows, distances_RM in _distances(features_ND, manifold_MD):
        inside_N[rows] = (distances_RM <= radii_M).any(dim=1)
    return float(inside_N.double().mean())


def _distances(features_ND: Tensor, others_MD: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared Euclidean distances in float64, a block (<= _ROWS, M) of rows at a time, always in the same memory."""
    buffer_RM = torch.empty(_ROWS, len(others_MD), dtype=torch.float64)
    for start in range(0, len(features_ND), _ROWS):
        rows_RD = features_ND[start : start + _ROWS].double()
        distances_RM = buffer_RM[: len(rows_RD)]
        for column in range(0, len(others_MD), _COLUMNS):
            block_CD = others_MD[column : column + _COLUMNS].double()
            distances_RM[:, column : column + _COLUMNS] = _distance_block(rows_RD, block_CD)
        yield slice(start, start + len(rows_RD)), distances_RM


def _distance_block(rows_RD: Tensor, columns_CD: Tensor) -> Tensor:
    squares_R1 = rows_RD.square().sum(dim=1, keepdim=True)
    return squares_R1 + columns_CD.square().sum(dim=1) - 2 * rows_RD @ columns_CD.T
