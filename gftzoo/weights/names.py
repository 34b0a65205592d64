"""The names under which training codes keep weights: containers, wrappers' prefixes, averages, counters."""

from __future__ import annotations

import re
from typing import Literal

Entry = Literal["raw", "ema"]
Role = Literal["plain", "raw", "ema", "suspect"]

# Words of which the names of containers are made: model_state_dict, params, nnet, ...
WORDS = {"model", "module", "net", "network", "nnet", "state", "dict", "param", "params", "weights"}
ONLINE = {"online", "online_model", "model_online"}  # ema_pytorch keeps raw weights beside the average by this name
HOLDERS = {"trainer", "var_wo_ddp"}  # VAR's training checkpoints: trainer.var_wo_ddp
AVERAGES = {"ema", "shadow", "swa", "polyak", "averaged", "average"}
UNDERSTOOD = {"ema", "shadow"}
UNAVERAGED = "cond_stage_model."  # latent-diffusion averages its U-Net, and not what is trained beside it
NO_AVERAGES = {"schema", "cinema", "email"}  # words with the letters of ema at an end
# torch.compile, FSDP and activation checkpointing write these at any depth.
INSIDE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
COUNTERS = {
    "n_averaged", "num_updates", "decay", "step", "steps", "initted", "initialized", "global_step", "iter", "iters",
    "iteration", "epoch", "optimization_step", "collected_params",
}  # fmt: skip
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def words(name: str) -> list[str]:
    """`ema_model`, `EMAModel` and `emaModel` are the words ema and model."""
    return [word.lower() for word in _WORD.findall(name)]


def role(name: str) -> Role | None:
    """What a container or a prefix of that name holds.

    `plain` weights of what is around it, `raw` ones also inside an average, the average (`ema`), an average of a name
    that is not understood (`suspect`), or None for anything else.
    """
    found = words(name)
    if name in ONLINE:
        return "raw"
    if name in HOLDERS or (found and set(found) <= WORDS):
        return "plain"
    if "avg" in found and set(found) <= {*WORDS, "avg"}:  # and not an optimizer's exp_avg
        return "suspect"
    if not any(_averaged(word) for word in found):
        return None
    others = [word for word in found if word not in UNDERSTOOD]
    return "ema" if set(others) <= WORDS and len(others) < len(found) else "suspect"


def _averaged(word: str) -> bool:
    joined = word.startswith("ema") or word.endswith("ema")
    return word in AVERAGES or (joined and word not in NO_AVERAGES)


def file_entry(name: str) -> Entry | None:
    """What a file's name says of the weights in it: `raw`, `ema_0.9999_400000`, `v1-5-emaonly`, `x.non_ema`."""
    found = words(name)
    if any(word.startswith("ema") for word in found):
        return "raw" if {"non", "no", "without"} & set(found) else "ema"
    return "raw" if name == "raw" else None


def folder_entry(name: str) -> Entry | None:
    """What a folder's name says of the weights in it: `ema_unet`, and not `ema-experiments`."""
    return "ema" if "ema" in words(name) and set(words(name)) <= WORDS | {"ema", "unet", "transformer"} else None


def without_inside(key: str) -> str:
    """The key of the bare network's tensor, where wrappers inside it have added to it."""
    for part in INSIDE:
        key = key.removeprefix(part).replace(f".{part}", ".")
    return key
