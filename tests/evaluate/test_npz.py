"""Npz files that are scored: what their headers claim is refused before memory is taken."""

from __future__ import annotations

import io
import resource
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from gftzoo.errors import GftzooError
from gftzoo.evaluate.images import image_count
from gftzoo.evaluate.npz import npz_batches, npz_statistics


def member(shape: tuple[int, ...], dtype: str = "|u1", data: bytes = b"") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + data


def npz(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


CLAIMS = {
    "one huge image": ({"arr_0": member((1, 2**20, 2**20, 3))}, "1 images of 1,048,576 x 1,048,576"),
    "too many images": ({"arr_0": member((2**40, 8, 8, 3))}, "at most 10,000,000 are scored"),
    "no pixels": ({"arr_0": member((4, 0, 8, 3))}, "4 images of 0 x 8"),
    "truncated": ({"arr_0": member((4, 8, 8, 3), data=b"x" * 500)}, "is truncated at image 2 of 4"),
    "objects": ({"arr_0": member((4, 8, 8, 3), "|O")}, "arr_0 is object of shape"),
    "huge statistics": ({"mu": member((2**40,), "<f8"), "sigma": member((1, 1), "<f8")}, "mu of .* it may be floats"),
    "statistics of integers": ({"mu": member((1,), "<i8", b"12345678")}, "mu of .* is int64 of shape"),
    "unlike statistics": (
        {"mu": member((2,), "<f8", bytes(16)), "sigma": member((3, 3), "<f8", bytes(72))},
        r"mu of shape \(2,\) and sigma of \(3, 3\)",
    ),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_a_header_claims_is_refused_before_memory_is_taken(claim: str, tmp_path: Path) -> None:
    members, sentence = CLAIMS[claim]
    path = npz(tmp_path / "x.npz", members)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(GftzooError, match=sentence):
        npz_statistics(path)
        image_count(path)
        list(npz_batches(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_what_unpacks_to_much_is_read_a_batch_at_a_time(tmp_path: Path) -> None:
    images = 400 * 512
    path = npz(tmp_path / "x.npz", {"arr_0": member((images, 32, 32, 3), data=bytes(images * 32 * 32 * 3 // 8))})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(GftzooError, match="is truncated at image 25600 of 204800"):
        for batch in npz_batches(path):
            assert batch.shape == (64, 3, 32, 32)
    assert path.stat().st_size < 2**20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
