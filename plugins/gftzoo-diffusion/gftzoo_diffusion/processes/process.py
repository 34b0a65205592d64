"""What noises the data, once for every network. Suffixes: B batch, X any dimensions behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from gftzoo.generator import SampleGenerator
from gftzoo.layers.diffusion import Diffusion


class Process(ABC):
    """A way from data to noise, and what a network has to predict on it.

    Attributes:
        samplers: names of those that draw from it.
    """

    samplers: ClassVar[tuple[str, ...]]

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the weights that the squared error may have, see `weight`."""
        return ("one", "min-snr")

    @abstractmethod
    def draw(self, generator: SampleGenerator) -> Tensor:
        """Times (B,) as they are trained on, in the units of the process."""

    @abstractmethod
    def noised(self, x_0: Tensor, t_B: Tensor, noise: Tensor) -> Tensor:
        """x_t (B, X), of data and standard normal noise (B, X)."""

    @abstractmethod
    def progress(self, t: float) -> float:
        """The share of the way from noise to data that lies behind a sampler at `t`, from 0 to 1."""

    def target(self, x_0: Tensor, noise: Tensor, t_B: Tensor) -> Tensor:
        """What the network is to predict: the noise."""
        return noise

    def weight(self, name: str, t_B: Tensor) -> Tensor | None:
        """The weight (B,) of that name of the squared error; None is one."""
        return None if name == "one" else min_snr(self.signal_to_noise(t_B))

    def shown(self, t_B: Tensor) -> Tensor:
        """What the network is told of the times."""
        return t_B

    def signal_to_noise(self, t_B: Tensor) -> Tensor:
        """The ratio of the variances of signal and noise (B,), float32, where `weights` has `min-snr`."""
        raise NotImplementedError

    def variances(self) -> Diffusion | None:
        """The tables of a reverse step whose variance can be learned, float64; None without."""
        return None


def min_snr(snr_B: Tensor, gamma: float = 5.0) -> Tensor:
    """Weights (B,) of the squared error of the noise, min(SNR, gamma) / SNR (arXiv 2303.09556)."""
    return snr_B.clamp(max=gamma) / snr_B
