"""Which pictures of a source can be read: each is decoded once, and the answer is kept for the next start.

Nothing less tells: a file that is cut off has a whole header, and zipped data may be wrong in its last byte.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path

import PIL
from pydantic import ValidationError

from gftzoo.atomic import DiskError, written_whole
from gftzoo.catalogue.cards import Frozen
from gftzoo.data.locking import one_at_a_time
from gftzoo.data.picture import UnreadableError, read_whole, undisturbed
from gftzoo.data.settings import Decoding
from gftzoo.documents import DocumentError, read_json
from gftzoo.homes import cache_folder
from gftzoo.systems import processors

WORTH = 1_000  # pictures from which on the answer is kept on disk
LONG = 20_000  # pictures from which on a line says what takes so long
TOGETHER = 256  # pictures in memory at once
AT_ONCE = 8  # of these are handed to a thread: handing over takes longer than decoding a small one
QUICK = 2e-4  # seconds of a picture so small that threads would only wait for each other
THREADS = 16  # at most; decoding leaves Python's lock
# What the system says of a file as it lies there; other errors are of the moment, as too many open files.
LASTING = {None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
_log = logging.getLogger("gftzoo.data")
_known: dict[str, Verdict] = {}  # a command opens its data more than once


Stored = Path | bytes | UnreadableError  # a picture's file, its content, or why there is none
Pictures = Iterable[tuple[int, Stored]]  # with their rows


class Verdict(Frozen):
    """What is wrong with pictures, by their rows, of how many, and whether none of the others has a colour.

    It is `lasting` where all of that is of the pictures, and not of memory or permissions that were missing.
    """

    unreadable: dict[int, str]
    count: int
    grey: bool = False
    lasting: bool = True


def verdict_of(
    name: str, pictures: Callable[[], Pictures], count: int, decoding: Decoding, state: str | None
) -> Verdict:
    """Decodes pictures to their end, or remembers what came of it.

    Args:
        name: of the source.
        pictures: those to decode.
        count: about how many there are.
        decoding: how.
        state: changes whenever a picture does; None where that is not known, and nothing is kept.
    """
    if state is None:
        return _decoded(pictures(), decoding)
    key = _key(decoding, state)
    if key not in _known:
        if count < WORTH:
            _known[key] = _decoded(pictures(), decoding)
        else:
            _known[key] = _kept(name, key, lambda: _decoded(pictures(), decoding), count)
    return _known[key]


def remember(name: str, verdict: Verdict, decoding: Decoding, state: str) -> None:
    """Keeps what is known of pictures that were decoded for another reason."""
    key = _key(decoding, state)
    if key not in _known:
        _known[key] = verdict if verdict.count < WORTH else _kept(name, key, lambda: verdict, 0)


def _key(decoding: Decoding, state: str) -> str:
    how = decoding.model_dump(exclude={"check"})  # which pictures they are is in the state
    return hashlib.sha256(f"{PIL.__version__} {how} {state}".encode(errors="surrogatepass")).hexdigest()[:32]


def _kept(name: str, key: str, decide: Callable[[], Verdict], count: int) -> Verdict:
    """The verdict in the user's cache folder, made where there is none; of several processes one makes it."""
    path = cache_folder("pictures") / f"{key}.json"
    with one_at_a_time(path.with_suffix(".lock")):
        try:
            return Verdict.model_validate(read_json(path))
        except (OSError, DocumentError, ValidationError):  # there is none, or it is damaged
            pass
        if count >= LONG:
            _log.warning("Reading all %d pictures of %s once, to leave out what cannot be read.", count, name)
        verdict = decide()
        if not verdict.lasting:
            return verdict
        try:
            with written_whole(path) as partial:
                partial.write_text(verdict.model_dump_json() + "\n", encoding="utf-8")
        except DiskError as error:
            _log.warning("Which pictures of %s can be read is kept for this process only: %s", name, error)
        return verdict


def _decoded(pictures: Pictures, decoding: Decoding) -> Verdict:
    unreadable: dict[int, str] = {}
    grey, lasting, count, waiting = True, True, 0, iter(pictures)

    def read(some: Sequence[tuple[int, Stored]]) -> list[tuple[int, bool | UnreadableError]]:
        return [(row, _look_at(picture, decoding)) for row, picture in some]

    with undisturbed(decoding), ThreadPoolExecutor(min(THREADS, processors())) as pool:
        while part := list(islice(waiting, TOGETHER)):
            count += len(part)
            handed = [part[start : start + AT_ONCE] for start in range(0, len(part), AT_ONCE)]
            read_here, quick = [], True
            while quick and handed:
                begin = time.perf_counter()
                read_here.append(read(handed.pop(0)))
                quick = time.perf_counter() - begin < QUICK * AT_ONCE
            for row, found in chain.from_iterable([*read_here, *pool.map(read, handed)]):
                if isinstance(found, UnreadableError):
                    unreadable[row] = str(found)
                    lasting &= _is_lasting(found.__cause__)
                else:
                    grey &= found
    return Verdict(unreadable=unreadable, count=count, grey=grey, lasting=lasting)


def is_readable(picture: Stored, decoding: Decoding) -> bool:
    """Whether a picture can be decoded."""
    with undisturbed(decoding):
        return not isinstance(_look_at(picture, decoding), UnreadableError)


def _look_at(picture: Stored, decoding: Decoding) -> bool | UnreadableError:
    """Whether a picture is grey, or why it cannot be read."""
    try:
        return picture if isinstance(picture, UnreadableError) else read_whole(picture, decoding).grey
    except UnreadableError as error:
        error.__traceback__ = None  # which would hold the picture
        return error


def _is_lasting(cause: BaseException | None) -> bool:
    """Whether what is wrong with a picture stays until it is changed."""
    return not isinstance(cause, MemoryError) and getattr(cause, "errno", None) in LASTING
