"""Local tar files of webdataset samples, looked up by row, for `hf:`; `stream:` reads the same samples in order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from gftzoo.data.archive import Naming, Piece, naming_of, samples, text_of, why_incomplete
from gftzoo.data.decoding import VERSION, DecodingSource
from gftzoo.data.labels import caption_of, captions_in, classes_of
from gftzoo.data.picture import UnreadableError
from gftzoo.data.settings import Decoding, settings_of
from gftzoo.errors import GftzooError
from gftzoo.printing import plain

COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")  # how such files begin


class TarSource(DecodingSource):
    """Samples of tar files, whose pictures stay where they lie."""

    def __init__(self, name: str, files: list[Path], naming: Naming, decoding: Decoding) -> None:
        super().__init__(decoding)
        self.name, self.naming, self.condition = name, naming, naming.condition
        self.rows: list[tuple[Path, Piece]] = []
        self.texts: list[str] = []
        incomplete: list[str] = []
        content, state = hashlib.sha256(f"{VERSION} {settings_of(name)}".encode()), hashlib.sha256()
        for file in files:
            about = file.stat()
            content.update(f"\n{plain(file.name)} {about.st_size} {about.st_mtime_ns}".encode())
            state.update(f"\n{file} {about.st_size} {about.st_ctime_ns}".encode(errors="surrogatepass"))
            incomplete += self._index(file)
        self.fingerprint = content.hexdigest()[:16]
        if incomplete:
            self.left_out = [f"Left out: {len(incomplete):,} samples that are not complete, e.g. {incomplete[0]}"]
        if not self.rows:
            raise GftzooError(f"data {name!r} has no samples.")
        self.labels: list[int] = []
        if self.condition == "class":
            self._number_classes()
        self.leave_out_unreadable(state.hexdigest)

    def _index(self, file: Path) -> list[str]:
        """Takes the samples of a file in; what those lack that are left out."""
        incomplete: list[str] = []
        with file.open("rb") as raw:
            for key, sample in samples(str(file), self.naming):
                pair = self.naming.pair(sample)
                if pair is None:
                    incomplete.append(why_incomplete(self.naming, key, sample, str(file)))
                    continue
                picture, condition = pair
                raw.seek(condition.offset)
                text = text_of(raw.read(condition.size), condition.name)
                self.texts.append(text.strip() if self.condition == "class" else text)
                self.rows.append((file, picture))
        return incomplete

    def _number_classes(self) -> None:
        """Numbers in their order, names in theirs; every class has a sample."""
        try:
            values: list[int | str] = [int(text) for text in self.texts]
        except ValueError:
            names = sorted(set(self.texts))
            self.class_names = tuple(plain(name) for name in names)
            index: dict[int | str, int] = {name: number for number, name in enumerate(names)}
            values = list(self.texts)
        else:
            self.class_names, index = classes_of(self.name, set(values), None, ".cls members")
        self.labels = [index[value] for value in values]

    def __len__(self) -> int:
        return len(self.rows)

    def keep(self, rows: Sequence[int]) -> None:
        self.rows, self.texts = [self.rows[row] for row in rows], [self.texts[row] for row in rows]
        self.labels = [self.labels[row] for row in rows] if self.labels else []

    def stored(self, row: int) -> bytes:
        file, piece = self.rows[row]
        try:
            with file.open("rb") as raw:
                raw.seek(piece.offset)
                return raw.read(piece.size)
        except OSError as error:
            raise UnreadableError(str(error.strerror or error)) from error

    def place(self, row: int) -> str:
        file, piece = self.rows[row]
        return f"{plain(piece.name)} of {plain(file)}"

    def own_condition(self, row: int) -> int | str:
        return self.labels[row] if self.condition == "class" else caption_of(captions_in(self.texts[row]))

    def drawn_condition(self, row: int, number: int) -> int | str:
        if self.condition == "class":
            return self.condition_of(row)
        return caption_of(captions_in(self.texts[self.readable(row)]), number)

    @property
    def several(self) -> bool:
        return self.condition == "text" and any("\n" in text for text in self.texts)


def open_tars(name: str, files: list[Path], decoding: Decoding) -> TarSource:
    """The samples of tar files; GftzooError where one is compressed or damaged."""
    for file in files:
        with file.open("rb") as raw:
            begins = raw.read(6)
        if begins.startswith(COMPRESSED):
            raise GftzooError(f"{plain(file)!r} is compressed; unpack it to a plain .tar, or use stream:.")
    return TarSource(name, files, naming_of(name, str(files[0])), decoding)
