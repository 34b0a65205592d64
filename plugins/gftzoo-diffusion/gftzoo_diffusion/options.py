"""What every network of the shelf has among its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from gftzoo.catalogue.frozen import Choice
from gftzoo.errors import nearest
from gftzoo.layers.temperature import ScaledTemperatureOptions
from gftzoo_diffusion.processes import PROCESSES
from gftzoo_diffusion.processes.process import Process

BetaEmbedding = Literal["linear", "mlp", "3-layer"]
BETA_LAYERS: Mapping[BetaEmbedding, int] = {"linear": 1, "mlp": 2, "3-layer": 3}


class NetworkOptions(ScaledTemperatureOptions, Choice):
    """Hyperparameters of a network and its process; sides, channels and classes follow from the card's other fields."""

    choose: ClassVar[Callable[[Mapping[str, Any]], type[NetworkOptions]]]  # set by the shelf

    kind: str = Field("dit", description="the network: dit, uvit, uvit-text, mdt, adm or ldm")
    process: str = Field("linear", description=f"what noises the data: {', '.join(PROCESSES)}")
    loss_weight: Literal["one", "min-snr", "velocity", "likelihood"] = Field(
        "one",
        description="of the squared error: one; min-snr is min(SNR, 5) / SNR (arXiv 2303.09556); velocity and "
        "likelihood are SiT's, of a flow that predicts noise or score",
    )
    beta_embedding: BetaEmbedding = Field(
        "linear", description="temperature input: a projection of its sinusoid, or an MLP of 2 or 3 layers"
    )

    @classmethod
    def chosen(cls, settings: Mapping[str, Any]) -> type[NetworkOptions]:
        return NetworkOptions.choose(settings)

    @field_validator("process")
    @classmethod
    def _is_on_the_shelf(cls, process: str) -> str:
        if process not in PROCESSES:
            raise ValueError(f"it must be one of {', '.join(PROCESSES)}{nearest(process, list(PROCESSES))}")
        return process

    @field_validator("loss_weight")
    @classmethod
    def _is_of_the_process(cls, weight: str, info: ValidationInfo) -> str:
        valid = PROCESSES[info.data.get("process", "linear")].weights
        if weight not in valid:
            raise ValueError(f"process={info.data.get('process')} has {', '.join(valid)}")
        return weight

    @property
    def way(self) -> Process:
        """The process itself."""
        return PROCESSES[self.process]

    @property
    def side_multiple(self) -> int:
        """What the side of a latent must be a multiple of."""
        raise NotImplementedError

    @property
    def cut(self) -> str:
        """Why, in words that follow `divide`."""
        raise NotImplementedError

    @property
    def has_variance(self) -> bool:
        """Whether there are channels for the variance of a reverse step."""
        return False

    @property
    def gft_trains_variance(self) -> bool:
        """Whether they are trained, or were and stay as they are, under GFT."""
        return False


class LearnedVariance(NetworkOptions):
    """Options of a network that may have channels for the variance of a reverse step, behind the others."""

    learn_sigma: bool = Field(True, description="twice the output channels, the second half for the variance")
    gft_variance: Literal["learned", "fixed"] = Field(
        "fixed", description="under GFT: whether the variance channels are trained, or were and stay as they are"
    )

    @property
    def has_variance(self) -> bool:
        return self.learn_sigma and self.way.variances() is not None

    @property
    def gft_trains_variance(self) -> bool:
        return self.gft_variance == "learned"


class TransformerOptions(NetworkOptions):
    """Options of a network on the patches of a latent."""

    depth: int = Field(gt=0, description="transformer blocks")
    width: int = Field(gt=0, description="hidden size, a multiple of 4 and of the heads")
    heads: int = Field(gt=0, description="attention heads")
    patch: int = Field(2, gt=0, description="side of a patch in latent pixels")
    mlp_ratio: float = Field(4.0, gt=0, description="hidden size of the MLP over the width")

    @field_validator("heads")
    @classmethod
    def _heads_divide_the_width(cls, heads: int, info: ValidationInfo) -> int:
        width = info.data.get("width", heads)
        if width % heads or width % 4:
            raise ValueError(f"the width, {width}, must be a multiple of the heads and of 4")
        return heads

    @property
    def side_multiple(self) -> int:
        return self.patch

    @property
    def cut(self) -> str:
        return f"into patches of {self.patch}"
