"""JSON Lines of captions, and tar files of samples."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from PIL import Image

from fuzzing.pictures import colours, encoded
from fuzzing.target import SilentChangeError, Target
from gftzoo.data import open_source
from gftzoo.data.decoding import cell_content
from gftzoo.data.labels import captions_in
from gftzoo.data.readable import is_readable
from gftzoo.data.stream import StreamSource
from gftzoo.errors import GftzooError

SIDE = 8
CAPTIONS = ("a cat", "a dog\u2028on a mat", "caf\u00e9 \U0001f600", "two\\nlines")


class LinesTarget(Target):
    """`jsonl:` files beside their pictures."""

    def prepare(self, folder: Path) -> None:
        for number in range(len(CAPTIONS)):
            (folder / f"{number}.png").write_bytes(encoded(Image.fromarray(colours(number)), "PNG", {}))

    def seeds(self) -> list[tuple[str, bytes]]:
        rows = [{"image": f"{n}.png", "caption": caption} for n, caption in enumerate(CAPTIONS)]
        found = []
        for ascii_only, end, begin in ((True, "\n", ""), (False, "\n", "\ufeff"), (False, "\r\n", "")):
            lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
            found.append((".jsonl", (begin + end.join(lines) + end).encode()))
        return found

    def read(self, path: Path) -> None:
        source = open_source(f"jsonl:{path}")
        for row in range(len(source)):
            str(source.condition_of(row)).encode()  # every caption is text
            source.image(row, SIDE, 3)
            str(source.condition_of(row)).encode()


class TarTarget(Target):
    """Tar files, looked up by row and streamed: both give the same."""

    def seeds(self) -> list[tuple[str, bytes]]:
        return [
            (".tar", packed([("png", ".cls"), ("png", ".cls"), ("jpeg", ".cls")], "part.0/{}")),
            (".tar", packed([("PNG", ".txt"), ("PNG", ".txt")], "img_v1.{}")),
        ]

    def read(self, path: Path) -> None:
        looked_up, streamed = self.attempt(self.by_row, path), self.attempt(self.in_order, path)
        if isinstance(looked_up, list) and isinstance(streamed, list) and looked_up != streamed:
            raise SilentChangeError(f"hf: reads {len(looked_up)} samples that differ from stream:'s {len(streamed)}")
        for found in (looked_up, streamed):
            if isinstance(found, GftzooError):
                raise found

    def attempt(self, read, path: Path):
        try:
            return read(path)
        except GftzooError as error:
            return error

    def by_row(self, path: Path) -> list[tuple[bytes, list[str]]]:
        source = open_source(f"hf:{path}")
        rows = range(len(source))
        for row in rows:
            source.image(row, SIDE, 3)
        if source.unreadable:
            raise SilentChangeError("a picture that could be read at the start cannot be later")
        texts = [captions_in(source.texts[row]) if source.condition == "text" else source.texts[row] for row in rows]
        return [(source.stored(row), said(text)) for row, text in zip(rows, texts, strict=True)]

    def in_order(self, path: Path) -> list[tuple[bytes, list[str]]]:
        source = open_source(f"stream:{path}")
        assert isinstance(source, StreamSource)
        read = list(source.read(source.shards[0], 0))
        if source.rows(source.shards[0]) != len(read):
            raise SilentChangeError(f"{source.rows(source.shards[0])} rows are counted and {len(read)} read")
        found = [(cell_content(picture, [], False), said(text)) for picture, text in read]
        found = [pair for pair in found if is_readable(pair[0], source.decoding)]
        if not found:
            raise GftzooError("no picture can be read")
        return found


def said(condition: str | list[str]) -> list[str]:
    """A class's name, a caption or captions, without the space around them."""
    return [text.strip() for text in ([condition] if isinstance(condition, str) else condition)]


def packed(samples: list[tuple[str, str]], name: str) -> bytes:
    """A tar file with a picture and a condition in each sample."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for number, (kind, condition) in enumerate(samples):
            picture = encoded(Image.fromarray(colours(number)), kind.upper(), {})
            for suffix, content in ((f".{kind}", picture), (condition, str(number).encode())):
                member = tarfile.TarInfo(name.format(number) + suffix)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return file.getvalue()
