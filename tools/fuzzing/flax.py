"""Files of Flax, through the import of MaskGIT's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import torch
from torch import Tensor

from fuzzing.target import SilentChangeError, Target
from gftzoo.loading.files import import_model
from gftzoo.zoo import get_card

WIDTH, HEADS, CODES, ROWS = 16, 2, 64, 27  # rows: 16 grey levels, 10 classes and the mask


class FlaxTarget(Target):
    """A MaskGIT of one layer as its authors save theirs; what is read of it is finite and fits, or refused."""

    def prepare(self, folder: Path) -> None:
        size = {"width": WIDTH, "depth": 1, "heads": HEADS, "mlp_ratio": 2, "tied": True}
        self.card = get_card("maskgit-nano").change(network=size)

    def seeds(self) -> list[tuple[str, bytes]]:
        tree = official_tree()
        whole = tree["Embed_0"]["word_embeddings"]["embedding"]
        pieces = {"0": whole.flatten()[:100], "1": whole.flatten()[100:]}
        shape = {"0": ROWS, "1": WIDTH}
        chunked = {"embedding": {"__msgpack_chunked_array__": True, "shape": shape, "chunks": pieces}}
        embedded = {**tree["Embed_0"], "word_embeddings": chunked}
        files: list[Any] = [tree, {"params": tree}, {"params": {**tree, "Embed_0": embedded}}]
        return [("", msgpack.packb(packed(file))) for file in files]

    def read(self, path: Path) -> None:
        model = import_model(self.card, path)
        if not all(parameter.isfinite().all() for parameter in model.network.parameters()):
            raise SilentChangeError("weights that are not finite were read")


def official_tree() -> dict[str, Any]:
    """The tree of google-research/maskgit's transformer."""
    torch.manual_seed(0)
    heads = (WIDTH, HEADS, WIDTH // HEADS)

    def norm() -> dict[str, Tensor]:
        return {"scale": torch.ones(WIDTH), "bias": torch.zeros(WIDTH)}

    def dense(*shape: int, out: tuple[int, ...]) -> dict[str, Tensor]:
        return {"kernel": torch.randn(shape), "bias": torch.randn(out)}

    attention = {name: dense(*heads, out=heads[1:]) for name in ("query", "key", "value")}
    attention["out"] = dense(*heads[1:], WIDTH, out=(WIDTH,))
    mlp = {"intermediate_output": dense(WIDTH, 2 * WIDTH, out=(2 * WIDTH,))}
    mlp |= {"layer_output": dense(2 * WIDTH, WIDTH, out=(WIDTH,)), "layer_output_ln": norm()}
    tables = {"word_embeddings": torch.randn(ROWS, WIDTH), "position_embeddings": torch.randn(1 + CODES, WIDTH)}
    return {
        "Embed_0": {**{name: {"embedding": table} for name, table in tables.items()}, "embeddings_ln": norm()},
        "TransformerLayer_0": {
            "Attention_0": {"self_attention": attention, "attention_output_ln": norm()},
            "Mlp_0": mlp,
        },
        "MlmLayer_0": {
            "mlm_dense": dense(WIDTH, WIDTH, out=(WIDTH,)),
            "mlm_ln": norm(),
            "mlm_bias": {"bias": torch.randn(ROWS)},
        },
    }


def packed(node: Any) -> Any:
    """The tree as Flax serialises it: an array is its shape, the name of its type and its bytes."""
    if isinstance(node, dict):
        return {key: packed(value) for key, value in node.items()}
    if isinstance(node, Tensor):
        return msgpack.ExtType(1, msgpack.packb((list(node.shape), "float32", node.numpy().tobytes())))
    return node
