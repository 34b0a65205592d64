"""What a data source is, and how a name on the command line becomes one."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.hookspecs import PROJECT
from gftzoo.contract.model import Model
from gftzoo.data.settings import Decoding, settings_of, split_settings
from gftzoo.errors import PluginError, UsageError, nearest
from gftzoo.plugins.discovery import SOURCES, active
from gftzoo.plugins.loading import load_object

Split = Literal["train", "held-out", "all"]


class Source(ABC):
    """Images with a class or a caption each, in a fixed order.

    Attributes:
        name: as given on the command line.
        channels: 1 (grey) or 3.
        size: native side of the square images; None where sizes differ.
        condition: what comes with an image, a class index or a caption.
        class_names: one per class; of captions, the groups they fall into, where there are such groups.
        named: captions are names: one that training has not seen says nothing about its picture.
        mirrorable: whether a horizontal flip of an image is still such an image.
        holds: what it holds where that is not images.
        is_encoded: whether it holds what a tokenizer made of images.
        streamed: whether it is read in order and has no length.
        decodes: whether its pictures are decoded when they are needed, which takes a processor's time.
        problems: sentences about what cannot be read.
        left_out: sentences about what is there and is no part of the data.
        looked_at: a sentence where not all pictures were decoded to find those that cannot be read.
        unreadable: those of `problems` about rows that could be read at the start, by row.
        fingerprint: changes when the content does.
        listing: of files, a hash of all their names and sizes and what comes with them.
        times: of files, a hash of all their change times.
    """

    name: str
    channels: Literal[1, 3] = 3
    size: int | None = None
    condition: Literal["class", "text"] = "class"
    class_names: tuple[str, ...] = ()
    named: bool = False
    mirrorable: bool = True
    holds: str = ""
    looked_at: str = ""
    is_encoded: bool = False
    streamed: bool = False
    decodes: bool = False
    fingerprint: str = ""
    listing: str = ""
    times: str = ""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.left_out: list[str] = []
        self.unreadable: dict[int, str] = {}

    @property
    def origin(self) -> str:
        """The data source that has the images, as it is named on the command line."""
        return self.name

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def condition_of(self, row: int) -> int | str:
        """The class index or the caption of an image."""

    def drawn_condition(self, row: int, number: int) -> int | str:
        """What a training step takes: of several captions of an image the one at `number`, counted round."""
        return self.condition_of(row)

    @property
    def several(self) -> bool:
        """Whether an image may have several captions, of which `condition_of` is the first."""
        return False

    def class_of(self, row: int) -> int:
        """The class index of an image, also where what comes with it is a caption; only with `class_names`."""
        return int(self.condition_of(row))

    @abstractmethod
    def image(self, row: int, resolution: int, channels: int) -> Tensor:
        """One image, uint8, (channels, resolution, resolution)."""

    def images(self, rows: Sequence[int], resolution: int, channels: int) -> Tensor:
        """Images at `rows`, uint8, (B, channels, resolution, resolution)."""
        return torch.stack([self.image(row, resolution, channels) for row in rows])

    def stored(self, row: int) -> Path | bytes:
        """The file that an image is in, or the bytes that it is made from; here its pixels."""
        return self.image(row, self.size or 64, self.channels).numpy().tobytes()

    def first_conditions(self, count: int) -> list[int | str]:
        """What comes with the first images, at most `count`."""
        return [self.condition_of(row) for row in range(min(count, len(self)))]

    def check(self, card: ModelCard) -> None:
        """UsageError where a model of this card cannot be trained on the source. Images are for every model."""

    def check_processes(self, world: int, workers: int) -> None:
        """UsageError where so many ranks with so many workers cannot share the source."""

    def check_model(self, model: Model) -> None:
        """The same, of what shows only in the model itself."""


@dataclass(frozen=True)
class Opener:
    """How a kind of data source is opened; what an entry point of the group `gftzoo.sources` names.

    A function (argument, split) does as well, for a source whose argument is its own matter.

    Args:
        open: (argument, split), and with `decodes` the decoding of pictures and the source's full name.
        argument: what stands behind the colon, in capitals; None where nothing may.
        decodes: whether it decodes the pictures of files, as their settings say.
    """

    open: Callable[..., Source]
    argument: str | None = None
    decodes: bool = False

    def form(self, kind: str) -> str:
        """How it is written, e.g. `imagefolder:PATH`."""
        return kind if self.argument is None else f"{kind}:{self.argument}"


def open_source(spec: str, split: Split = "train") -> Source:
    """The source of a name such as `digits` or `imagefolder:PATH`; settings may follow it (`#background=black`).

    Sources that are embedded have a fixed held-out part, which training never sees; others have none, and `train` and
    `all` are the same.

    Raises:
        UsageError: an unknown name, a split the source does not have, a setting that there is not.
        GftzooError: nothing readable there.
    """
    plain, decoding = split_settings(spec)
    kind, colon, argument = plain.partition(":")
    found = _find(kind)
    if found is None:
        raise UsageError(f"unknown data {spec!r}{nearest(kind, kinds())}; valid are {', '.join(_forms())}.")
    if not isinstance(found, Opener):
        return found(argument, split)
    if (found.argument is not None) != bool(colon and argument):
        raise UsageError(f"data {spec!r} is not complete or has too much; write {found.form(kind)}.")
    argument = _absolute(kind, argument)
    if found.decodes:
        return found.open(argument, split, decoding, f"{kind}:{argument}{settings_of(spec)}")
    if decoding != Decoding():
        decoders = ", ".join(name for name in kinds() if getattr(_find(name), "decodes", False))
        raise UsageError(f"data {kind!r} is decoded already and takes no {settings_of(spec)}; {decoders} do.")
    return found.open(argument, split)


def kinds() -> list[str]:
    """The names of all data sources, gftzoo's own first, from metadata alone."""
    own = [plugin.name for plugin in active(SOURCES) if plugin.distribution == PROJECT]
    return [*own, *sorted({plugin.name for plugin in active(SOURCES)} - set(own))]


def _find(kind: str) -> Opener | Callable[[str, Split], Source] | None:
    """What an entry point of that name holds, gftzoo's own before another's; PluginError if it does not load."""
    found = [plugin for plugin in active(SOURCES) if plugin.name == kind]
    found.sort(key=lambda plugin: plugin.distribution != PROJECT)
    return load_object(found[0]) if found else None


def _forms() -> list[str]:
    """How each source is named, e.g. `imagefolder:PATH`; of a plugin that does not load, its name."""
    forms = []
    for kind in kinds():
        try:
            found = _find(kind)
        except PluginError:
            found = None
        forms.append(found.form(kind) if isinstance(found, Opener) else kind)
    return forms


def full_name(spec: str) -> str:
    """The name of a source as it is recorded: a path in it holds whatever the working directory."""
    plain, _ = split_settings(spec)
    kind, colon, argument = plain.partition(":")
    return f"{kind}{colon}{_absolute(kind, argument)}{settings_of(spec)}" if argument else spec


def _absolute(kind: str, argument: str) -> str:
    """What stands behind the colon, a local path in full."""
    if not isinstance(_find(kind), Opener) or "://" in argument or "::" in argument:
        return argument
    path = Path(argument)
    if argument.startswith("~"):  # which a shell leaves alone behind a colon
        path = path.expanduser()
    place = argument.partition("#")[0]
    if kind == "hf" and not argument.startswith("~") and not os.path.exists(place):  # noqa: PTH110 (names that are too long)
        return argument  # a name of the hub
    return str(path.absolute())


def without_held_out(spec: str, split: Split, decoding: Decoding | None = None) -> None:
    """UsageError where a source without a held-out part is asked for it."""
    if split == "held-out" and (decoding is None or decoding.validation is None):
        raise UsageError(
            f"data {spec!r} has no held-out part; train with --validation 5%, or name other images, e.g. --reference "
            "FOLDER to score a model with."
        )
