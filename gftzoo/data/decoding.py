"""Pictures that are decoded when they are needed; those that cannot be read are no part of the data."""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from gftzoo.data.picture import UnreadableError, pixels_of
from gftzoo.data.readable import verdict_of
from gftzoo.data.settings import Decoding
from gftzoo.data.sources import Source, Split
from gftzoo.errors import GftzooError
from gftzoo.printing import plain

LARGE = 10_000  # pictures, of which only a sample is decoded at the start
SAMPLE = 512  # pictures of it at most
FEW, ONE_IN = 128, 80  # at least so many, and one in so many: looking takes about as long as listing
VERSION = 3  # of how files become pixels; part of fingerprints


class DecodingSource(Source):
    """Pictures of files. Those that cannot be read have no row: they are found at the start, and named in `problems`.

    One that is found later, while it is in use, is replaced by the next readable one, with its condition: a file that
    was damaged meanwhile, or that was not looked at, because of a large source only some are (`#check=`).

    Attributes:
        numbered: classes have their numbers from the pictures that there are, and not from a list of names.
    """

    numbered = True
    decodes = True

    def __init__(self, decoding: Decoding | None = None) -> None:
        super().__init__()
        self.decoding = decoding or Decoding()

    def leave_out_unreadable(self, state: Callable[[], str | None], known: Mapping[int, str] | None = None) -> bool:
        """Gives up the rows of pictures that cannot be read; whether no other has a colour. Called once, at the start.

        Args:
            state: what changes whenever a picture does; None where that is not known.
            known: what is known to be wrong with some rows.

        Raises GftzooError where no picture is left, or none of a class that would give its number to the next one.
        """
        known, count = known or {}, len(self)
        rows = self._looked_at(count)
        pictures = ((row, attempted(self.stored, row)) for row in rows if row not in known)
        # What is known of a sample is not kept: to know that no file has changed takes longer than to look again.
        now = state() if len(rows) == count else None
        # Rows known to be wrong are not looked at; those of a caption that is mended later have to be.
        versioned = None if now is None else f"{VERSION} {now}{f' without {sorted(known)}' if known else ''}"
        found = verdict_of(self.name, lambda: pictures, len(rows), self.decoding, versioned)
        wrong = {**known, **{row: self.sentence(row, why) for row, why in found.unreadable.items()}}
        self.problems = [wrong[row] for row in sorted(wrong)]
        if all(row in wrong for row in rows):
            raise self.nothing_readable()
        if wrong:
            good = [row for row in range(count) if row not in wrong]
            if self.condition == "class" and self.numbered:
                self._refuse_lost_class(good, wrong)
            self.keep(good)
        return found.grey

    def _looked_at(self, count: int) -> Sequence[int]:
        """The rows of pictures that are decoded at the start: all, or some, evenly spaced."""
        check = self.decoding.check
        size = min(SAMPLE, max(FEW, count // ONE_IN))
        if check == "full" or count <= size or (check == "auto" and count < LARGE):
            return range(count)
        self.looked_at = (
            f"{size:,} of its pictures were looked at; a damaged one among the others is replaced by the next when "
            "it is met, and #check=full behind the data's name finds all of them now"
        )
        return [index * count // size for index in range(size)]

    def _refuse_lost_class(self, good: Sequence[int], wrong: Mapping[int, str]) -> None:
        left = {self.own_condition(row) for row in good}
        lost = min((row for row in wrong if self.own_condition(row) not in left), default=None)
        if lost is not None:
            raise GftzooError(
                f"no picture of class {self.class_names[int(self.own_condition(lost))]!r} in {self.name} can be read "
                f"(e.g. {wrong[lost]}); mend its pictures or take the class away."
            )

    def take_part(self, split: Split) -> None:
        """Keeps what belongs to a split where the settings say that there is a held-out part; called once, at the end.

        A picture's part follows from its name and class alone: others that come or go do not move many of them.
        Raises GftzooError where a class is too small to be in both parts.
        """
        share = self.decoding.validation
        if share is None or split == "all":
            return
        held_out = self._held_out(share)
        self.keep([row for row in range(len(self)) if (row in held_out) == (split == "held-out")])
        for name in ("fingerprint", "listing"):
            told = getattr(self, name)
            setattr(self, name, hashlib.sha256(f"{told} {split}".encode()).hexdigest()[: len(told) or 16])

    def _held_out(self, share: float) -> set[int]:
        """Of every class the rows whose hash comes first, one at least; captions are one class."""
        classes: dict[int | str, list[int]] = {}
        for row in range(len(self)):
            what = self.own_condition(row)
            classes.setdefault(what if self.condition == "class" else 0, []).append(row)
        small = next((what for what, rows in classes.items() if len(rows) < 2), None)
        if small is not None:
            name = self.class_names[int(small)] if self.condition == "class" else "captions"
            raise GftzooError(
                f"class {name!r} of {self.name} has one picture, which cannot be held out and trained on; add another."
            )
        order = {row: hashlib.sha256(self.key(row).encode(errors="surrogatepass")).digest() for row in range(len(self))}
        return {
            row
            for rows in classes.values()
            for row in sorted(rows, key=order.__getitem__)[: max(1, round(share * len(rows)))]
        }

    def key(self, row: int) -> str:
        """What names a picture wherever the data lies."""
        return self.place(row)

    @abstractmethod
    def keep(self, rows: Sequence[int]) -> None:
        """Gives up all rows but these."""

    @abstractmethod
    def stored(self, row: int) -> Path | bytes:
        """The picture's file or what is in it; UnreadableError if there is none."""

    @abstractmethod
    def place(self, row: int) -> str:
        """Where the picture comes from, for a person."""

    @abstractmethod
    def own_condition(self, row: int) -> int | str:
        """The class index or caption of the picture itself."""

    def condition_of(self, row: int) -> int | str:
        return self.own_condition(self.readable(row))

    def image(self, row: int, resolution: int, channels: int) -> Tensor:
        for _ in range(len(self)):
            row = self.readable(row)
            try:
                return pixels_of(self.stored(row), resolution, channels, self.decoding)
            except UnreadableError as error:
                self.refuse(row, error)
        raise self.nothing_readable()

    def readable(self, row: int) -> int:
        """The row itself, or the next one that could be read so far."""
        if row not in self.unreadable:
            return row
        for offset in range(len(self)):
            if (row + offset) % len(self) not in self.unreadable:
                return (row + offset) % len(self)
        raise self.nothing_readable()

    def nothing_readable(self) -> GftzooError:
        """What to say where no picture is left."""
        first = next(iter(self.problems), "it is empty")
        return GftzooError(
            f"data {self.name!r} has no readable image, e.g. {first}; check that its files are pictures."
        )

    def sentence(self, row: int, why: object) -> str:
        """What is wrong with a picture."""
        return f"{self.place(row)} cannot be read ({why})"

    def refuse(self, row: int, error: Exception) -> None:
        """Counts the picture as unreadable."""
        if row not in self.unreadable:
            self.unreadable[row] = self.sentence(row, error)
            self.problems.append(self.unreadable[row])


def attempted(stored: Callable[..., Path | bytes], *of: Any) -> Path | bytes | UnreadableError:
    """A picture, or what is said in its place."""
    try:
        return stored(*of)
    except UnreadableError as error:
        return error


def file_below(named: Any, folders: Sequence[Path], outside: bool) -> Path:
    """The file that data names, relative to the first of its folders; UnreadableError for one that lies in none.

    Links are followed: they were made by who made the folder.
    """
    try:
        os.fsencode(named)
    except (UnicodeEncodeError, TypeError):
        raise UnreadableError("its name is no file name") from None
    if "\0" in named or not folders:
        raise UnreadableError("its name is no file name")
    path = Path(os.path.normpath(folders[0] / named))
    if not outside and not any(path.is_relative_to(os.path.normpath(folder)) for folder in folders):
        raise UnreadableError(f"{plain(named)} lies outside {plain(folders[0])}; --allow-outside reads it")
    return path


def cell_content(value: Any, folders: Sequence[Path], outside: bool) -> Path | bytes:
    """What a table's cell has of a picture: the bytes of an image file, or a mapping with them or with a path."""
    content = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(content, bytes):
        return content
    named = value.get("path") if isinstance(value, dict) else None
    if not isinstance(named, str):
        raise UnreadableError("there is no picture in its row")
    if "://" in named or "::" in named or not folders:
        raise UnreadableError("its row names a place in place of a picture")
    return file_below(named, folders, outside)
