"""What decides a training run, as one flat record with the bounds of every field."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from gftzoo.atomic import written_whole
from gftzoo.catalogue.cards import Frozen, LearningRate, ModelCard, validation_sentence
from gftzoo.documents import read_yaml
from gftzoo.errors import GftzooError
from gftzoo.layers.lora_options import LoraOptions

CONFIG_FILE = "config.yaml"
Momentum = Annotated[float, Field(ge=0, lt=1)]
Steps = Annotated[int, Field(gt=0, le=10**9)]
Samples = Annotated[int, Field(gt=0, le=10**6)]
Tracker = Literal["tensorboard", "wandb", "mlflow", "clearml", "neptune", "dvclive", "aim"]
Side = Annotated[int, Field(gt=0, le=100)]  # of a grid of pictures, which is drawn at once


class OptimizerOptions(Frozen):
    """What moves the weights; rate, decay, `betas` and `eps` are settings of the run."""

    kind: Literal["adamw", "adamw-8bit", "muon", "schedule-free", "prodigy"] = Field(
        "adamw", description="muon: of the blocks' matrices, with AdamW for the rest"
    )
    momentum: Momentum = Field(0.95, description="of muon")


class ScoreOptions(Frozen):
    """A score of the run's samples while it trains, in the features of `gftzoo evaluate`."""

    every: Steps | None = Field(None, description="steps between scores, each with a checkpoint; none without")
    images: int = Field(1000, gt=3, le=10**6, description="that are drawn for one")
    features: str | None = Field(None, description="feature network, as --features of `gftzoo evaluate`")
    reference: str | None = Field(None, description="what they are compared with, as --reference")
    strength: float | None = Field(None, gt=0, le=1000, description="beta, or the CFG scale; that of the sample grids")


class TrainConfig(Frozen):
    """Everything that decides a run; written to its folder and read back on resume."""

    model: str = Field(description="name of the model in the catalogue")
    card: ModelCard = Field(description="the card, adapted to the data and the objective")
    data: str = Field(description="data source: digits, imagefolder:PATH, cache:PATH, ...")
    objective: str = "gft"
    objective_options: dict[str, Any] = {}
    weights: str | None = Field(None, description="checkpoint name or file to start from")
    entry: Literal["raw", "ema"] | None = None
    train: Literal["all", "lora", "temperature"] = Field("all", description="what trains; the rest stays as it is")
    lora: LoraOptions = LoraOptions()
    tokenizer_path: str | None = Field(None, description="local folder or file of the tokenizer's weights")
    steps: Steps
    batch_size: Samples = Field(256, description="samples per optimizer step, over ranks and micro-batches")
    accumulate: Samples = Field(1, description="micro-batches per optimizer step")
    fits: tuple[Literal["accumulate", "activation_checkpointing"], ...] = Field(
        ("accumulate", "activation_checkpointing"),
        description="what of these is raised where the batch does not fit the device's free memory",
    )
    optimizer: OptimizerOptions = OptimizerOptions()
    lr: float = Field(1e-4, gt=0)
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    weight_decay_end: float | None = Field(None, ge=0)
    clip_norm: float | None = Field(None, gt=0)
    learning_rate: LearningRate = LearningRate()
    horizon_is_length: bool = Field(False, description="learning_rate.horizon is the steps that the run began with")
    ema_decay: float | None = Field(0.9999, ge=0, lt=1)
    ema_warmup: bool = False
    hflip: bool = True
    balance: bool = Field(False, description="every class as often, however many images it has")
    validation: str | None = Field(
        None, description="what the loss is measured on at every checkpoint: `held-out`, or a data source of its own"
    )
    validation_images: Samples = Field(256, description="of them at most, evenly spread")
    score: ScoreOptions = ScoreOptions()
    patience: Steps | None = Field(None, description="checkpoints without a better score, or validation, to the end")
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    seed: int = Field(0, ge=0, lt=2**32)
    workers: int = Field(0, ge=0, le=512, description="data loading processes per rank; a new run's follow its data")
    compile: bool = Field(False, description="torch.compile the network's blocks")
    activation_checkpointing: bool = False
    parallel: Literal["ddp", "fsdp"] = Field("ddp", description="how several ranks share the work")
    offload: bool = Field(False, description="fsdp: weights, gradients and optimizer wait in the CPU's memory")
    sharded_checkpoints: bool = Field(False, description="every rank writes its own part of a checkpoint")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")
    log_every: Steps = 20
    checkpoint_every: Steps = 1000
    keep_last: Steps = Field(2, description="newest checkpoints kept")
    keep_every: Steps | None = Field(None, description="checkpoints at multiples of this are kept for good")
    save_on_signal: bool = Field(True, description="SIGTERM and SIGINT end the step, save, and exit with 0")
    sample_every: Steps = 1000
    sample_grid: tuple[Side, Side] = Field((5, 10), description="rows and columns of the sample grids")
    trackers: tuple[Tracker, ...] = ()

    @field_validator("sample_grid", "betas", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and any(isinstance(part, bool) for part in value):
            raise ValueError("input should be numbers and not true or false")
        return value

    @model_validator(mode="after")
    def _divides(self) -> TrainConfig:
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}")
        if self.train != "all" and self.sharded_checkpoints:
            raise ValueError("an adapter is small and not written in parts; leave sharded_checkpoints out")
        if self.patience is not None and self.validation is None and self.score.every is None:
            raise ValueError("patience waits for a better validation or score; give --validation or score.every")
        self._suits_optimizer()
        if self.offload and self.parallel != "fsdp":
            raise ValueError("offload needs parallel=fsdp")
        return self

    def _suits_optimizer(self) -> None:
        """ValueError for what an optimizer cannot do."""
        kind = self.optimizer.kind
        if kind != "adamw" and self.parallel == "fsdp":
            raise ValueError(f"{kind} needs whole parameters, which parallel=fsdp has not; use parallel=ddp")
        if kind == "schedule-free" and self.ema_decay is not None:
            raise ValueError("schedule-free is an average of its own, and needs ema_decay=null")
        if kind in ("schedule-free", "prodigy") and not self.betas[0]:
            raise ValueError(f"{kind} needs a first of betas above 0")

    def scores_at(self, step: int) -> bool:
        """Whether samples are scored after so many steps."""
        every = self.score.every
        return every is not None and (step % every == 0 or step == self.steps)

    def saves_at(self, step: int) -> bool:
        """Whether there is a checkpoint after so many steps: each that is scored has one."""
        return step % self.checkpoint_every == 0 or step == self.steps or self.scores_at(step)

    @property
    def halves_base(self) -> bool:
        """Whether frozen weights are kept in the precision that a step computes in."""
        return self.train == "lora" and self.lora.base != "full"

    @property
    def quantises_base(self) -> bool:
        """Whether those of blocks are kept in fewer bits still."""
        return self.halves_base and self.lora.base != "half"

    @property
    def average_horizon(self) -> float:
        """Steps over which the average reaches back, 1 / (1 - decay)."""
        return 1.0 / (1.0 - (self.ema_decay or 0.0))

    def average_counts(self, step: int) -> bool:
        """Whether there is an average that reaches back no further than `step` steps, and is not mostly the start."""
        return self.ema_decay is not None and self.average_horizon <= step

    def write(self, folder: Path) -> None:
        """Writes `config.yaml` into a run's folder."""
        self.write_to(folder / CONFIG_FILE)

    def write_to(self, path: Path) -> None:
        """Writes everything as YAML, whole or not at all; DiskError where the disk does not take it."""
        with written_whole(path) as partial:
            partial.write_text(self.as_yaml(), encoding="utf-8")

    def as_yaml(self) -> str:
        """Everything as YAML, as `gftzoo train --config` takes it."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    @classmethod
    def read(cls, folder: Path) -> TrainConfig:
        """The configuration of a run; GftzooError if there is none, or names what is not valid in it."""
        path = folder / CONFIG_FILE
        if not path.is_file():
            raise GftzooError(f"{str(folder)!r} is not a run (it has no {CONFIG_FILE}); runs lie under runs/.")
        return cls.read_file(path)

    @classmethod
    def read_file(cls, path: Path) -> TrainConfig:
        """A whole configuration; GftzooError names what is not valid in it."""
        try:
            return cls.model_validate(read_yaml(path))
        except ValidationError as error:
            raise GftzooError(validation_sentence(repr(str(path)), error, cls)) from error
