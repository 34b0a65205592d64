"""Scores against second implementations: straight ones written here, and torch-fidelity's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from gftzoo.errors import GftzooError, UsageError
from gftzoo.evaluate.metrics import Gaussian, frechet_distance, gaussian, kernel_distance, precision_recall
from gftzoo.evaluate.streaming import Accuracy, FeatureSample, StreamedGaussian, StreamedInceptionScore

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torchmetrics")


def features(seed: int, count: int = 400, dimensions: int = 24) -> torch.Tensor:
    """Correlated, shifted float64 features."""
    stream = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=stream).double() / dimensions**0.5
    noise = torch.randn(count, dimensions, generator=stream).double()
    return noise @ mixing + torch.randn(dimensions, generator=stream).double()


def streamed(features_ND: torch.Tensor, size: int) -> Gaussian:
    metric = StreamedGaussian(features_ND.shape[1])
    for batch in features_ND.split(size):
        metric.update(batch)
    return metric.compute()


def test_frechet_distance_equals_the_textbook_formula() -> None:
    a, b = features(0), features(1)
    mean_a, mean_b = a.mean(0).numpy(), b.mean(0).numpy()
    cov_a, cov_b = np.cov(a.numpy(), rowvar=False), np.cov(b.numpy(), rowvar=False)
    values, vectors = np.linalg.eig(cov_a @ cov_b)
    root = (vectors @ np.diag(np.sqrt(values)) @ np.linalg.inv(vectors)).real
    expected = np.sum((mean_a - mean_b) ** 2) + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(gaussian(a), gaussian(b)) == pytest.approx(expected, abs=1e-6)
    assert frechet_distance(streamed(a, 33), streamed(b, 7)) == pytest.approx(expected, abs=1e-6)


def test_frechet_distance_equals_torch_fidelity_and_torchmetrics() -> None:
    a, b = features(2), features(3)
    theirs = fid_statistics_to_metric(fid_features_to_statistics(a), fid_features_to_statistics(b), verbose=False)
    ours = frechet_distance(streamed(a, 64), streamed(b, 64))
    assert ours == pytest.approx(theirs["frechet_inception_distance"], abs=1e-6)
    network = torch.nn.Identity()
    network.num_features = a.shape[1]
    metric = FrechetInceptionDistance(feature=network, normalize=True).set_dtype(torch.float64)
    metric.update(a, real=True)
    metric.update(b, real=False)
    assert ours == pytest.approx(float(metric.compute()), abs=1e-6)


def test_frechet_distance_of_a_set_with_itself_is_zero_even_with_fewer_samples_than_dimensions() -> None:
    few = features(4, count=10, dimensions=64)
    assert frechet_distance(gaussian(few), gaussian(few)) == pytest.approx(0, abs=1e-8)


def test_frechet_distance_of_singular_covariances_is_exact() -> None:
    # x along one axis with variances 4 and 9, the same axis: (2 - 3)^2
    a = Gaussian(torch.zeros(3).double(), torch.diag(torch.tensor([4.0, 0, 0]).double()), 0)
    b = Gaussian(torch.zeros(3).double(), torch.diag(torch.tensor([9.0, 0, 0]).double()), 0)
    assert frechet_distance(a, b) == pytest.approx(1, abs=1e-12)


def test_frechet_distance_refuses_what_has_none() -> None:
    with pytest.raises(GftzooError, match="another feature network"):
        frechet_distance(gaussian(features(0, dimensions=4)), gaussian(features(0, dimensions=5)))
    with pytest.raises(GftzooError, match="not finite"):
        frechet_distance(gaussian(features(0) / 0), gaussian(features(0)))


@pytest.mark.parametrize("batch", [1, 7, 400])
def test_streamed_statistics_do_not_depend_on_batches(batch: int) -> None:
    all_at_once, in_batches = gaussian(features(5) + 1000), streamed(features(5) + 1000, batch)
    assert in_batches.samples == 400
    torch.testing.assert_close(in_batches.mean_D, all_at_once.mean_D, atol=1e-9, rtol=0)
    torch.testing.assert_close(in_batches.covariance_DD, all_at_once.covariance_DD, atol=1e-6, rtol=0)


def straight_inception_score(logits: np.ndarray, splits: int) -> float:
    scores = []
    for part in np.array_split(logits, splits):
        p = np.exp(part - part.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        scores.append(np.exp(np.mean(np.sum(p * (np.log(p) - np.log(p.mean(0))), axis=1))))
    return float(np.mean(scores))


@pytest.mark.parametrize("batch", [1, 37, 400])
def test_inception_score_equals_straight_implementation_and_torch_fidelity(batch: int) -> None:
    logits = 3 * features(6, dimensions=11)
    metric = StreamedInceptionScore(11, 400)
    for rows in torch.arange(400).split(batch):
        metric.update(logits[rows], rows.tolist())
    mean, std = metric.compute()
    assert mean == pytest.approx(straight_inception_score(logits.numpy(), 10), abs=1e-6)
    theirs = isc_features_to_metric(logits, splits=10, shuffle=False)
    assert mean == pytest.approx(theirs["inception_score_mean"], abs=1e-6)
    assert std == pytest.approx(theirs["inception_score_std"], abs=1e-6)


def test_inception_score_of_one_split_equals_torchmetrics_and_ignores_the_order_of_arrival() -> None:
    logits = 2 * features(7, count=100, dimensions=5)
    ours, theirs = StreamedInceptionScore(5, 100, splits=1, shuffle=3), InceptionScore(torch.nn.Identity(), splits=1)
    for row in reversed(range(100)):
        ours.update(logits[row : row + 1], [row])
    theirs.update(logits)
    assert ours.compute()[0] == pytest.approx(float(theirs.compute()[0]), abs=1e-6)


def test_inception_score_borders_equal_torch_fidelity_when_splits_do_not_divide() -> None:
    logits = features(8, count=103, dimensions=6)
    metric = StreamedInceptionScore(6, 103, splits=10)
    metric.update(logits, range(103))
    expected = isc_features_to_metric(logits, splits=10, shuffle=False)["inception_score_mean"]
    assert metric.compute()[0] == pytest.approx(expected, abs=1e-6)


def test_shuffled_inception_score_undoes_an_order_by_class() -> None:
    logits = 20 * torch.eye(10).repeat_interleave(40, 0)
    ordered, shuffled = StreamedInceptionScore(10, 400), StreamedInceptionScore(10, 400, shuffle=2020)
    for metric in (ordered, shuffled):
        metric.update(logits, range(400))
    assert ordered.compute()[0] == pytest.approx(1, abs=1e-3)
    assert shuffled.compute()[0] > 8


def test_kernel_distance_equals_torch_fidelity_and_torchmetrics() -> None:
    a, b = features(9, count=200), features(10, count=200)
    ours = kernel_distance(a, b, subsets=1, subset_size=200)[0]
    options = {"kid_subsets": 1, "kid_subset_size": 200, "verbose": False, "rng_seed": 0}
    theirs = kid_features_to_metric(a, b, **options)["kernel_inception_distance_mean"]
    assert ours == pytest.approx(theirs, abs=1e-6)
    metric = KernelInceptionDistance(torch.nn.Identity(), subsets=1, subset_size=200)
    metric.update(a, real=True)
    metric.update(b, real=False)
    assert ours == pytest.approx(float(metric.compute()[0]), abs=1e-6)


def test_kernel_distance_equals_double_sums_and_is_unbiased() -> None:
    a, b = features(11, count=20, dimensions=3), features(11, count=20, dimensions=3) + 0.3

    def kernel(x: torch.Tensor, y: torch.Tensor) -> float:
        return (float(x @ y) / 3 + 1) ** 3

    within = sum(kernel(s[i], s[j]) for s in (a, b) for i in range(20) for j in range(20) if i != j) / (20 * 19)
    across = sum(kernel(x, y) for x in a for y in b) / 400
    assert kernel_distance(a, b, subsets=1, subset_size=20)[0] == pytest.approx(within - 2 * across, abs=1e-6)
    same = kernel_distance(features(12, 4000)[:2000], features(12, 4000)[2000:], subset_size=500)[0]
    assert abs(same) < 0.05 < kernel_distance(features(12, 2000), features(12, 2000) + 1)[0]


def straight_precision(real: torch.Tensor, generated: torch.Tensor, neighbours: int) -> float:
    inside = 0
    for point in generated:
        for centre in real:
            radius = sorted(float((centre - other).norm()) for other in real)[neighbours]
            if float((point - centre).norm()) <= radius:
                inside += 1
                break
    return inside / len(generated)


def test_precision_and_recall_equal_the_definition_and_torch_fidelity() -> None:
    real = features(13, count=60, dimensions=4)
    generated = 1.2 * features(13, count=110, dimensions=4)[60:]
    generated = generated - generated.mean(0) + real.mean(0)
    precision, recall = precision_recall(real, generated)
    assert precision == pytest.approx(straight_precision(real, generated, 3), abs=1e-6)
    assert recall == pytest.approx(straight_precision(generated, real, 3), abs=1e-6)
    assert 0 < precision < 1
    assert 0 < recall < 1
    theirs = prc_features_to_metric(generated, real, prc_neighborhood=3, verbose=False)
    assert (precision, recall) == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-6)


def test_precision_recall_in_blocks_equals_one_matrix() -> None:
    real, generated = features(14, count=2500, dimensions=4), features(15, count=700, dimensions=4)
    theirs = prc_features_to_metric(generated, real, prc_neighborhood=3, verbose=False)
    assert precision_recall(real, generated) == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-6)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(UsageError, match="3 neighbours"):
        precision_recall(features(0, count=3), features(1))
    with pytest.raises(UsageError, match="at least 2"):
        kernel_distance(features(0, count=1), features(1))
    with pytest.raises(GftzooError, match="at least 2"):
        streamed(features(0, count=1), 1)


def sample(features_ND: torch.Tensor, batch: int, order: torch.Tensor, size: int = 50) -> torch.Tensor:
    metric = FeatureSample(features_ND.shape[1], size)
    for rows in order.split(batch):
        metric.update(features_ND[rows], rows.tolist())
    return metric.compute()


def test_feature_sample_is_bounded_and_a_function_of_positions() -> None:
    features_ND = features(16).float()
    first = sample(features_ND, 400, torch.arange(400))
    assert first.shape == (50, 24)
    for batch, order in ((1, torch.arange(400)), (33, torch.arange(399, -1, -1)), (64, torch.randperm(400))):
        torch.testing.assert_close(sample(features_ND, batch, order), first, atol=0, rtol=0)
    rows = {tuple(row.tolist()) for row in features_ND}
    assert all(tuple(row.tolist()) in rows for row in first)


def test_feature_sample_keeps_everything_below_its_size() -> None:
    features_ND = features(17, count=30).float()
    kept = sample(features_ND, 7, torch.arange(30))
    torch.testing.assert_close(kept.sum(0), features_ND.sum(0))
    assert len(kept) == 30


def test_feature_sample_is_uniform() -> None:
    positions = sample(torch.arange(4000.0)[:, None], 500, torch.arange(4000), size=1000)[:, 0]
    counts = torch.histc(positions, 4, 0, 4000)
    assert all(abs(float(count) - 250) < 60 for count in counts)


def test_accuracy() -> None:
    metric = Accuracy()
    metric.update(torch.eye(4), [0, 1, 2, 0])
    metric.update(torch.eye(4)[:1], [0])
    assert metric.compute() == pytest.approx(0.8)
