"""The contract: everything a family of visual generators implements, on one page.

`gftzoo check-plugin` tests a family against the sentences of these docstrings and quotes the one that it breaks.

Suffixes: B batch; `latents` is what the model's tokenizer encodes to, (B, C, h, w) float32 or int64 codes (B, N);
`condition` is a tensor with leading B: class indices (B,), or text features (B, T, D). Hooks are called through
pluggy, so a plugin that is no family can wrap one of them for every family (`@hookimpl(wrapper=True)`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from gftzoo.catalogue.cards import ModelCard, TokenizerSpec
    from gftzoo.contract.guidance import Guidance
    from gftzoo.contract.model import Model
    from gftzoo.contract.options import FamilyOptions
    from gftzoo.contract.problem import Problem
    from gftzoo.contract.tokenizer import Tokenizer
    from gftzoo.generator import SampleGenerator
    from gftzoo.layers.temperature import Prediction

PROJECT: Final = "gftzoo"
CONTRACT_VERSION: Final = 2
OLDEST_CONTRACT: Final = 1  # plugins of these versions are taken too: see docs/contract.md
hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)


class GenerativeFamily:
    """One family of generators. The first six hooks are required.

    `log_likelihood` and `prediction_distance` open a family to more objectives where it has such a thing, and
    `build_classifier` to another guidance; all others have defaults in `gftzoo.families.defaults`.
    """

    @hookspec(firstresult=True)
    def build_network(self, card: ModelCard) -> nn.Module:
        """The network of `card`, freshly initialised as its paper says; with a beta input iff `card.temperature`.

        All that its predictions depend on is in its state dict.
        """

    @hookspec(firstresult=True)
    def draw_problem(self, model: Model, latents: Tensor, generator: SampleGenerator) -> Problem:
        """The corrupted input and what is to be predicted (noise and timestep; shifted codes; mask) for `latents`.

        Every tensor field has the batch as its first dimension. Row i comes from row i of `latents` and stream i of
        `generator` alone, but for what a batch must share (MAR's share of masked tokens), which comes from stream 0.
        The global random state is neither read nor changed.
        """

    @hookspec(firstresult=True)
    def predict(self, model: Model, problem: Problem, condition: Tensor, beta: Tensor | None) -> Prediction:
        """The prediction where guidance is linear: noise or velocity (B, ...), or logits (B, L, V).

        `beta` (B,) in [0, 1] is the temperature input; None means that the network runs without one. A network with an
        affine temperature gives `Affine(c, d)`, of which the prediction at beta is c + (1/beta - 1) d. Row i depends on
        row i of `problem`, `condition` and `beta` alone, in training mode too. Dropout aside, it is finite and the same
        whenever its arguments are. Under `torch.no_grad` it keeps no graph, so that the unconditional pass trains
        nothing. Another `beta` gives another prediction. So does the null condition in place of any other. Under
        bfloat16 autocast it is the same up to rounding, gradients included.
        """

    @hookspec(firstresult=True)
    def loss_term(self, model: Model, prediction: Tensor, problem: Problem) -> Tensor:
        """The per-sample loss (B,), float32, of a (possibly mixed) `prediction`.

        Row i depends on row i of `prediction` and `problem` alone, and its gradient reaches `prediction`.
        """

    @hookspec(firstresult=True)
    def condition_drop(self, model: Model, condition: Tensor, dropped: Tensor) -> Tensor:
        """`condition` with the null condition where the boolean `dropped` (B,) is true.

        The null condition is the same whatever it replaces. The other rows stay as they are, and the argument itself
        is not changed.
        """

    @hookspec(firstresult=True)
    def temperature_sampler(
        self, model: Model, condition: Tensor, guidance: Guidance, settings: Any, generator: SampleGenerator
    ) -> Tensor:
        """Latents drawn with the family's own procedure; `settings` is an instance of `options().sampler`.

        They have the shape and dtype of what the tokenizer encodes to. Row i depends on its condition, on stream i of
        `generator`, on `guidance` and on `settings` alone, not on its batch. The global random state is neither read
        nor changed. The network is given `guidance.beta`. Its predictions go through `guidance.combine`: CFG at scale
        1 is no guidance, and at scale 0 the unconditional model.
        """

    @hookspec(firstresult=True)
    def log_likelihood(self, model: Model, prediction: Tensor, problem: Problem) -> Tensor:
        """log p(x | c) in nats, (B,) float32: the sum over all that `prediction` (logits) predicts.

        Without it, objectives that compare likelihoods (`cca`) are refused: a likelihood cannot be made up.
        """

    @hookspec(firstresult=True)
    def prediction_distance(self, model: Model, prediction: Tensor, target: Tensor, problem: Problem) -> Tensor:
        """The squared distance (B,) of two predictions of noise or velocity, averaged as `loss_term` averages.

        Only what guidance acts on counts, no learned variance. Without it, `distill` is refused.
        """

    @hookspec(firstresult=True)
    def options(self) -> FamilyOptions:
        """The pydantic models of `card.network` and of the sampler's settings. Default: free form, none."""

    @hookspec(firstresult=True)
    def encode_condition(self, model: Model, conditions: Sequence[int | str]) -> Tensor:
        """The condition tensor of class indices or prompts. Default: int64 class indices (B,)."""

    @hookspec(firstresult=True)
    def build_tokenizer(self, spec: TokenizerSpec, weights: str | None) -> Tokenizer:
        """The tokenizer of `spec`, with weights from a local path. Default: gftzoo's own (pixels, AutoencoderKL)."""

    @hookspec(firstresult=True)
    def import_weights(self, card: ModelCard, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Official state-dict keys renamed to this network's. Default: unchanged."""

    @hookspec(firstresult=True)
    def weights_file(self, card: ModelCard, folder: Path, entry: Literal["raw", "ema"] | None) -> Path:
        """The file with the network's weights, or the index of its shards, in a folder of others, e.g. a pipeline's.

        `entry` says which, where there are both; None takes the average. Default: the names that diffusers and
        transformers give to files.
        """

    @hookspec(firstresult=True)
    def export(self, model: Model, to: str, folder: Path) -> Path | None:
        """Writes `model` into `folder` in the foreign format `to`, one of `options().exports`, and returns the folder.

        None for another format. Default: `safetensors` with the card, and for another UsageError with those there are.
        """

    @hookspec(firstresult=True)
    def fold_temperature(self, model: Model, beta: float) -> Mapping[str, Tensor]:
        """The state dict of the plain network that predicts without beta what this one predicts at `beta` in (0, 1].

        Keys and shapes are those of `build_network` without a temperature. A learned variance that GFT leaves untrained
        becomes the constant that the sampler takes instead. UsageError where no such network exists. Without it,
        `Model.bake` and `gftzoo export --beta` are refused.
        """

    @hookspec(firstresult=True)
    def build_classifier(self, card: ModelCard, path: Path) -> nn.Module:
        """The classifier of noisy samples in a file, that guides `card`: (x_t, t) to logits (B, `card.classes`).

        The samplers of the family then add what `guidance.push` gives, and refuse it where they cannot. Without it,
        classifier guidance is refused.
        """

    @hookspec(firstresult=True)
    def parameter_groups(self, network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        """The optimizer's parameter groups. Default: weight decay on every trainable parameter.

        Every trainable parameter is in one of them, once.
        """

    @hookspec(firstresult=True)
    def blocks(self, network: nn.Module) -> list[nn.Module]:
        """The repeated blocks, for sharding, checkpointing and compilation. Default: the trunk's longest ModuleList.

        Compiled, they compute what they compute otherwise. A run on two ranks trains to the weights of one rank.
        """
