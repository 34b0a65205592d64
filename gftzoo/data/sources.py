"""What a data source is, and how a name on the command line becomes one."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor

from gftzoo.data.settings import Decoding, settings_of, split_settings
from gftzoo.errors import UsageError, nearest

if TYPE_CHECKING:
    from gftzoo.model import Model
    from gftzoo.zoo import ModelCard

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
        problems: sentences about what could not be read and was replaced.
        left_out: sentences about what is there and is no part of the data.
        unreadable: the same by row.
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
    is_encoded: bool = False
    streamed: bool = False
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
    openers, readers = _openers(), _readers()
    known = kind in openers or kind in readers
    if not known and (found := _of_a_plugin(kind)) is not None:
        return found(argument, split)
    if not known:
        others = _plugin_names()
        hint, forms = nearest(kind, [*openers, *readers, *others]), ", ".join([*_forms(), *others])
        raise UsageError(f"unknown data {spec!r}{hint}; valid are {forms}.")
    takes_argument = kind in _WITH_ARGUMENT
    if takes_argument != bool(colon and argument):
        form = f"{kind}:{_WITH_ARGUMENT[kind]}" if takes_argument else kind
        raise UsageError(f"data {spec!r} is not complete or has too much; write {form}.")
    argument = _absolute(kind, argument)
    if kind in readers:
        return readers[kind](argument, split, decoding, f"{kind}:{argument}{settings_of(spec)}")
    if decoding != Decoding():
        raise UsageError(f"data {kind!r} is decoded already and takes no {settings_of(spec)}; {', '.join(readers)} do.")
    return openers[kind](argument, split)


def full_name(spec: str) -> str:
    """The name of a source as it is recorded: a path in it holds whatever the working directory."""
    plain, _ = split_settings(spec)
    kind, colon, argument = plain.partition(":")
    return f"{kind}{colon}{_absolute(kind, argument)}{settings_of(spec)}" if argument else spec


def _absolute(kind: str, argument: str) -> str:
    """What stands behind the colon, a local path in full."""
    if kind not in _WITH_ARGUMENT or "://" in argument or "::" in argument:
        return argument
    path = Path(argument)
    if argument.startswith("~"):  # which a shell leaves alone behind a colon
        path = path.expanduser()
    place = argument.partition("#")[0]
    if kind == "hf" and not argument.startswith("~") and not os.path.exists(place):  # noqa: PTH110 (names that are too long)
        return argument  # a name of the hub
    return str(path.absolute())


def _of_a_plugin(kind: str) -> Callable[[str, Split], Source] | None:
    """The opener behind an entry point of that name; PluginError if it does not load."""
    from gftzoo.plugins import SOURCES, active, load_object

    found = next((plugin for plugin in active(SOURCES) if plugin.name == kind), None)
    return None if found is None else cast("Callable[[str, Split], Source]", load_object(found))


def _plugin_names() -> list[str]:
    from gftzoo.plugins import SOURCES, active

    return sorted(plugin.name for plugin in active(SOURCES))


_WITH_ARGUMENT = {"imagefolder": "PATH", "hf": "NAME", "jsonl": "PATH", "cache": "PATH", "stream": "URL"}


def _forms() -> list[str]:
    kinds = [*_openers(), *_readers()]
    return [f"{kind}:{_WITH_ARGUMENT[kind]}" if kind in _WITH_ARGUMENT else kind for kind in kinds]


def _openers() -> dict[str, Callable[[str, Split], Source]]:
    """Sources that have pixels, or what was made of them."""
    from gftzoo.data.cache import open_cache
    from gftzoo.data.digits import open_digits
    from gftzoo.data.emoji import open_emoji, open_emoji_captions, open_emoji_nature
    from gftzoo.data.fashion import open_fashion

    return {
        "digits": open_digits,
        "fashion-mnist": open_fashion,
        "emoji": open_emoji,
        "emoji-captions": open_emoji_captions,
        "emoji-nature": open_emoji_nature,
        "cache": open_cache,
    }


def _readers() -> dict[str, Callable[[str, Split, Decoding, str], Source]]:
    """Sources that decode the pictures of files, as their settings say; they get their full name."""
    from gftzoo.data.folder import open_captions, open_folder
    from gftzoo.data.hub import open_hub
    from gftzoo.data.stream import open_stream

    return {"imagefolder": open_folder, "jsonl": open_captions, "hf": open_hub, "stream": open_stream}


def without_held_out(spec: str, split: Split) -> None:
    """UsageError where a source without a held-out part is asked for it."""
    if split == "held-out":
        raise UsageError(
            f"data {spec!r} has no held-out part; name other images, e.g. --reference FOLDER to score a model with."
        )
