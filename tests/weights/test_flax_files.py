"""Files of Flax: arrays come out as they went in; damage and lies are sentences, and no name in a file is obeyed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from gftzoo.errors import GftzooError
from gftzoo.weights import read_tensors
from gftzoo.weights.flax import is_flax, read_flax

TREE: dict[str, Any] = {
    "params": {
        "Dense_0": {"kernel": torch.arange(6.0).view(2, 3), "bias": torch.tensor([1, 2, 3])},
        "scale": torch.tensor([0.5, -2.0], dtype=torch.bfloat16),
        "empty": torch.empty(0, 4),
        "single": torch.tensor(2.5, dtype=torch.float64),
    }
}


def packed(array: Tensor, kind: str | None = None, shape: Any = None) -> msgpack.ExtType:
    kind = kind or str(array.dtype).removeprefix("torch.")
    numbers = array.contiguous().view(torch.uint8).numpy().tobytes() if array.ndim else array[None].numpy().tobytes()
    return msgpack.ExtType(1, msgpack.packb((list(array.shape) if shape is None else shape, kind, numbers)))


def written(tree: Any, path: Path) -> Path:
    def pack(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: pack(value) for key, value in node.items()}
        return packed(node) if isinstance(node, Tensor) else node

    path.write_bytes(msgpack.packb(pack(tree)))
    return path


def test_arrays_come_out_as_they_went_in(tmp_path: Path) -> None:
    found = read_tensors(written({**TREE, "step": 3, "note": "x"}, tmp_path / "checkpoint")).tensors
    expected = {
        "Dense_0.kernel": TREE["params"]["Dense_0"]["kernel"],
        "Dense_0.bias": TREE["params"]["Dense_0"]["bias"],
    }
    expected |= {name: TREE["params"][name] for name in ("scale", "empty", "single")}
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)
    found["scale"].add_(1)  # what is read can be written to


def test_an_array_in_pieces(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    pieces = {"0": whole.flatten()[:5], "1": whole.flatten()[5:]}
    chunked = {"__msgpack_chunked_array__": True, "shape": {"0": 3, "1": 4}, "chunks": pieces}
    assert torch.equal(read_flax(written({"w": chunked}, tmp_path / "file"))["w"], whole)
    chunked["shape"] = {"0": 3, "1": 5}
    with pytest.raises(GftzooError, match="pieces that do not fit"):
        read_flax(written({"w": chunked}, tmp_path / "file"))


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (packed(torch.ones(3), shape=[4]), "shape .* has 12 bytes"),
        (packed(torch.ones(3), shape=[-3]), "no shape"),
        (packed(torch.ones(3), shape="3"), "no shape"),
        (packed(torch.ones(3), shape=[1] * 17 + [3]), "no shape"),
        (packed(torch.ones(3), kind="object"), "type 'object'"),
        (packed(torch.ones(3), kind="os.system"), "type 'os.system'"),
        (msgpack.ExtType(1, b"\x93"), "truncated"),
        (msgpack.ExtType(77, b"x"), "extension type 77"),
    ],
)
def test_a_lie_is_one_sentence(tmp_path: Path, node: Any, words: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(msgpack.packb({"params": {"w": node}}))
    with pytest.raises(GftzooError, match=words) as caught:
        read_tensors(path)
    assert str(path) in str(caught.value)


def test_branches_without_end_and_names_that_meet(tmp_path: Path) -> None:
    tree: Any = torch.ones(1)
    for _ in range(40):
        tree = {"a": tree}
    with pytest.raises(GftzooError, match="branches inside each other"):
        read_flax(written(tree, tmp_path / "deep"))
    with pytest.raises(GftzooError, match="twice"):
        read_flax(written({"a": {"b": torch.ones(1)}, "a.b": torch.ones(1)}, tmp_path / "twice"))


def test_torch_files_are_not_taken_for_flax(tmp_path: Path) -> None:
    for zipped in (True, False):
        torch.save({"w": torch.ones(2)}, tmp_path / "w", _use_new_zipfile_serialization=zipped)
        assert not is_flax(tmp_path / "w") and torch.equal(read_tensors(tmp_path / "w").tensors["w"], torch.ones(2))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut=st.floats(0, 1, exclude_max=True),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=3),
)
def test_damage_is_an_error_or_an_array(tmp_path: Path, cut: float, flips: list[tuple[float, int]]) -> None:
    path = written(TREE, tmp_path / "file")
    content = bytearray(path.read_bytes())
    for place, change in flips:
        content[int(place * len(content))] ^= change
    path.write_bytes(bytes(content) if flips else bytes(content[: 1 + int(cut * (len(content) - 1))]))
    try:
        found = read_flax(path)
    except GftzooError:
        return
    assert flips and all(isinstance(tensor, Tensor) for tensor in found.values())
