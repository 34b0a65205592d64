"""A model of the zoo in use: network, tokenizer and card together, with sampling and the loss."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import torch
from torch import Tensor, nn

from gftzoo import arguments
from gftzoo.adapters import merged
from gftzoo.arguments import path, real, shown, text, whole
from gftzoo.baking import bake
from gftzoo.catalogue.cards import ModelCard, Schedule
from gftzoo.compiling import Lowered, channels_last, compile_steps
from gftzoo.contract.guidance import Guidance
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.errors import UsageError
from gftzoo.families.family import Family
from gftzoo.families.finding import load_family
from gftzoo.generator import SampleGenerator
from gftzoo.objectives import build_objective
from gftzoo.pictures import to_pil
from gftzoo.precision import Precision, choose_dtype, computing_in, of_tokenizer
from gftzoo.printing import plain_lines
from gftzoo.sampling import image_seeds, sample_batches
from gftzoo.steering import steered_by, steered_by_classifier
from gftzoo.weights.saving import save_model

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image


@dataclass(repr=False)
class Model:
    """A network with everything it needs to be trained and sampled.

    Args:
        card: what the network is; `card.temperature` says whether it is steered by beta or by CFG.
        network: the bare module (wrappers for several GPUs or compilation stay outside or in place).
        tokenizer: between images and latents; None where only the network is needed.
        provenance: where the weights come from (file, hash, entry), recorded with everything made of them.
        placed: the device that computes, if `to` chose it; weights may wait elsewhere meanwhile.
        half: autocast's dtype in sampling and in the tokenizer; None computes in fp32. `to` sets it.
        compiler: torch.compile's backend in sampling; None computes step by step. `compile` sets it.
    """

    card: ModelCard
    network: nn.Module
    tokenizer: Tokenizer | None
    family: Family
    provenance: dict[str, Any] = field(default_factory=dict)
    placed: torch.device | None = None
    half: torch.dtype | None = None
    compiler: str | None = None

    def __post_init__(self) -> None:
        self._versions = self._count_versions()
        self._lowered: Lowered | None = None

    def _count_versions(self) -> int:
        """The changes in place that autograd has counted of all parameters; moves to other devices are none."""
        return sum(p._version for p in self.network.parameters() if not p.is_inference())

    @property
    def changed(self) -> bool:
        """Whether the weights have been changed, e.g. trained, since this object was made, and `provenance` is past."""
        return self._count_versions() != self._versions

    @classmethod
    def fresh(cls, card: ModelCard, tokenizer: Tokenizer | None = None, family: Family | None = None) -> Model:
        """The model of a card with newly initialised weights; `family` is the card's, where it is at hand."""
        family = family or load_family(card.family)
        return cls(card, family.build_network(card), tokenizer, family, {"weights": "random initialisation"})

    @property
    def device(self) -> torch.device:
        """Where the network computes: where it was placed, or where its parameters are."""
        return self.placed or next(self.network.parameters()).device

    @property
    def baked_beta(self) -> float | None:
        """The temperature in the weights of a plain network, folded (`bake`) or the one it was trained at, if any."""
        if self.provenance.get("one_beta") is not None:
            return float(self.provenance["one_beta"])
        baked = self.provenance.get("baked")
        return float(baked["beta"]) if isinstance(baked, dict) and "beta" in baked else None

    @property
    def weights_in_words(self) -> str:
        """Which weights these are, for people: `ema weights, beta 0.5 folded in`."""
        kind = self.provenance.get("entry", self.provenance.get("weights", ""))
        return f"{kind} weights" + ("" if self.baked_beta is None else f", beta {self.baked_beta:g} folded in")

    def __repr__(self) -> str:
        card, size = self.card, sum(p.numel() for p in self.network.parameters())
        steering = "beta" if card.temperature else "CFG"
        of = "prompts" if card.condition == "text" else f"{card.classes} classes"
        known = {key: self.provenance.get(key) for key in ("folder", "run", "step", "objective")}
        told = [self.weights_in_words, *(f"{key} {value}" for key, value in known.items() if value is not None)]
        told += ["changed since"] if self.changed else []
        first = f"Model {card.name}: {size:,} parameters, {card.resolution} px, {of}, steered by {steering}"
        return plain_lines(f"{first}, on {self.device}\n  {', '.join(map(str, told))}")

    def to(self, device: torch.device | str, precision: Precision | None = None) -> Model:
        """Moves network and tokenizer, and says in which precision they sample from now on.

        Args:
            device: of torch's; UsageError for one that is not there.
            precision: `auto` (bf16 on a GPU that has it, else fp32), `bf16`, `fp16` or `fp32`; None leaves it as it is,
                fp32 at first. Weights, and the state of a sampler, stay in float32.
        """
        try:
            self.placed = torch.device(device)
            torch.empty(1, device=self.placed)
        except (RuntimeError, AssertionError, TypeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise UsageError(
                f"device {shown(device)} is not available here; valid are cpu, cuda, cuda:1, ..."
            ) from error
        arguments.choice("precision", precision, get_args(Precision))
        self._lowered = None
        self.network.to(device)
        if self.tokenizer is not None:
            self.tokenizer.to(device)
        if precision is not None:
            self.half = choose_dtype(precision, self.placed)
            channels_last(self)
        return self

    def compile(self, backend: Any = "inductor") -> Model:
        """Samples through torch.compile from now on, in graphs of fixed shapes, so that batches should have one size.

        On a CPU the network's blocks are compiled, once for all that are alike. On a GPU a step of the sampler is one
        graph, recorded and replayed, where the family's steps have one shape. `backend` is torch.compile's, a name or a
        function.
        """
        compile_steps(self, backend if callable(backend) else text("backend", backend))
        self.compiler = backend
        return self

    def require_tokenizer(self) -> Tokenizer:
        """The tokenizer; UsageError where the model was built without one."""
        if self.tokenizer is None:
            raise UsageError(f"{self.card.name} was built without its tokenizer {self.card.tokenizer.id!r}.")
        return self.tokenizer

    def encode_condition(self, conditions: Sequence[int | str]) -> Tensor:
        """The condition tensor (B, ...) of class indices, class names or prompts."""
        return self.family.encode_condition(self, arguments.conditions(conditions))

    def null_condition(self, condition: Tensor) -> Tensor:
        """The null condition in the shape of `condition`."""
        everyone = torch.ones(len(condition), dtype=torch.bool, device=condition.device)
        return self.family.condition_drop(self, condition, everyone)

    def guidance(
        self,
        beta: float | None = None,
        cfg: float | None = None,
        schedule: Schedule | None = None,
        classifier: str | Path | None = None,
        classifier_scale: float | None = None,
    ) -> Guidance:
        """The guidance this model understands: beta for one trained with GFT, cfg for a plain one, or a classifier.

        `schedule` None takes the card's, `classifier_scale` None is 1. Raises UsageError for another kind of guidance
        or a value out of range, and GftzooError for a classifier that is damaged or none of this model's.
        """
        if classifier is not None or classifier_scale is not None:
            return steered_by_classifier(self, classifier, classifier_scale, beta=beta, cfg=cfg, schedule=schedule)
        return steered_by(self, beta, cfg, schedule)

    def _weights_of_graphs(self) -> AbstractContextManager[None]:
        """Compiled steps in lower precision read weights that are in it."""
        if self.compiler is None or self.half is None:
            return nullcontext()
        if self._lowered is None or self._lowered.half != self.half:
            self._lowered = Lowered(self.network, self.half)
        return self._lowered.in_place()

    @torch.no_grad()
    def sample_latents(
        self, conditions: Sequence[int | str], guidance: Guidance, seeds: Sequence[int], **settings: Any
    ) -> Tensor:
        """Latents of one batch: image i depends on its condition, `seeds[i]`, guidance and settings only."""
        if not isinstance(guidance, Guidance):
            raise UsageError(f"guidance is {shown(guidance)}; it is what `Model.guidance` gives.")
        wanted = arguments.conditions(conditions)
        if len(seeds := [whole("a seed", seed) for seed in seeds]) != len(wanted):
            raise UsageError(f"there are {len(wanted)} conditions and {len(seeds)} seeds; give one for each.")
        was_training = self.network.training
        self.network.eval()
        try:
            chosen = self.family.sampler_settings(self.card, **settings)
            generator = SampleGenerator(seeds, self.device)
            condition = self.encode_condition(conditions)
            with computing_in(self.half, self.device), self._weights_of_graphs():
                return self.family.temperature_sampler(self, condition, guidance, chosen, generator)
        finally:
            self.network.train(was_training)

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, 3, H, W) float32 in [0, 1]; UsageError for what are no latents."""
        if not isinstance(latents, Tensor) or latents.ndim < 2:
            raise UsageError(f"latents are {shown(latents)}; they are a tensor, as the tokenizer encodes it.")
        with computing_in(of_tokenizer(self.half), self.device):
            images_BCHW = (self.require_tokenizer().decode(latents).float() + 1) / 2
        return images_BCHW.clamp(0, 1).expand(-1, 3, -1, -1)

    @overload
    def sample(
        self, conditions: Sequence[int | str], *, as_pil: Literal[True], seed: int = 0, **steering: Any
    ) -> list[Image]: ...

    @overload
    def sample(self, conditions: Sequence[int | str], *, seed: int = 0, **steering: Any) -> Tensor: ...

    def sample(
        self,
        conditions: Sequence[int | str],
        *,
        beta: float | None = None,
        cfg: float | None = None,
        schedule: Schedule | None = None,
        seed: int = 0,
        batch_size: int = 64,
        as_pil: bool = False,
        **settings: Any,
    ) -> Tensor | list[Image]:
        """Images (B, 3, H, W) in [0, 1], one per condition; the image of a seed does not depend on `batch_size`.

        Args:
            conditions: class indices or names, or prompts.
            beta: temperature in (0, 1] of a GFT model; 1 (the default) is the plain conditional model.
            cfg: CFG scale >= 0 of a plain model; 1 (the default) is unguided.
            schedule: `linear` ramps the guidance over the sampling, `constant` does not; None is the card's.
            seed: image i is a function of (seed, i).
            batch_size: images of one forward pass, from 1.
            as_pil: the images as a list of Pillow's, in their own size.
            settings: of the family's sampler, see `gftzoo info MODEL`.

        Raises UsageError for an argument of another type or out of its range.
        """
        wanted, as_pil = arguments.conditions(conditions), arguments.flag("as_pil", as_pil)
        guidance = self.guidance(beta, cfg, schedule)
        seeds = image_seeds(whole("seed", seed), range(len(wanted)))
        batches = sample_batches(self, wanted, guidance, seeds, whole("batch_size", batch_size, least=1), **settings)
        images = torch.cat(list(batches))
        return to_pil(images) if as_pil else images

    def loss(
        self, latents: Tensor, conditions: Sequence[int | str] | Tensor, objective: str = "gft", seed: int = 0
    ) -> Tensor:
        """The scalar training loss of a batch of latents, differentiable; randomness is a function of `seed`.

        UsageError for what are no latents, or not as many conditions, or an objective that there is not.
        """
        spec = self.card.tokenizer  # one with codes may still give vectors
        arguments.latents(latents, spec.channels, self.card.grid, spec.codebook is not None)
        if not isinstance(conditions, Tensor) or (self.card.condition == "class" and conditions.is_floating_point()):
            conditions = self.encode_condition(arguments.conditions(conditions))
        if len(conditions) != len(latents):
            raise UsageError(f"there are {len(latents)} latents and {len(conditions)} conditions; give one for each.")
        generator = SampleGenerator.for_samples("loss", whole("seed", seed), range(len(latents)), self.device)
        problem = self.family.draw_problem(self, latents.to(self.device), generator)
        return (
            build_objective(text("objective", objective))
            .loss(self, problem, conditions.to(self.device), generator)
            .mean()
        )

    def bake(self, beta: float, schedule: Schedule | None = None) -> Model:
        """A plain model, sampled without beta in one pass, that draws what this one draws at `beta` in (0, 1].

        UsageError where that cannot be: a ramp over the sampling, a slope with blocks of its own (docs/temperature.md).
        """
        return bake(self, real("beta", beta), schedule)

    def save(self, folder: str | Path) -> None:
        """Writes safetensors, card and provenance; `gftzoo.load(folder)` reads them back. An adapter is merged.

        An average that was read is saved as one. Weights that were changed since are saved as raw ones, and their
        provenance says what they started from. Raises GftzooError where the folder cannot be written, and UsageError
        where it holds the other of raw and averaged weights.
        """
        save_model(merged(self), path("folder", folder))
