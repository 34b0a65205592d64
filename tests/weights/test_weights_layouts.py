"""Checkpoints as training codes write them: the average is taken, prefixes and containers are not in the way.

Values tell what was read: the raw weights are RAW, their average is EMA.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file
from torch import Tensor, nn

from gftzoo.errors import GftzooError
from gftzoo.weights import Tensors, check_fit, load_weights, read_tensors

SHAPES = {"pos": (2,), "blocks.0.proj.weight": (3, 2), "blocks.0.proj.bias": (3,), "net_in.weight": (2, 2)}
RAW, EMA = 1.0, 2.0
Layout = dict[str, Any]


def weights(value: float, prefix: str = "") -> dict[str, Tensor]:
    return {f"{prefix}{name}": torch.full(shape, value) for name, shape in SHAPES.items()}


def undotted(value: float) -> dict[str, Tensor]:
    """As latent-diffusion's LitEma names its buffers."""
    return {name.replace(".", ""): tensor for name, tensor in weights(value).items()}


def written(folder: Path, file: Mapping[str, Any], name: str = "file.pt") -> Path:
    path = folder / name
    save_file(dict(file), path) if path.suffix == ".safetensors" else torch.save(file, path)
    return path


def value_of(found: Tensors) -> float:
    """RAW or EMA, of what holds exactly the tensors of SHAPES."""
    assert {name: tuple(tensor.shape) for name, tensor in found.tensors.items()} == SHAPES
    (value,) = {float(number) for tensor in found.tensors.values() for number in tensor.detach().flatten()}
    return value


raw, ema = weights(RAW), weights(EMA)
counter = torch.tensor(7)
ONE = {
    "bare": raw,
    "ordered": OrderedDict(raw),
    "parameters": {name: nn.Parameter(tensor) for name, tensor in raw.items()},
    "module": weights(RAW, "module."),
    "ddp of compiled": weights(RAW, "module._orig_mod."),
    "compiled ddp": weights(RAW, "_orig_mod.module."),
    "twice": weights(RAW, "module.module."),
    "fsdp of ddp": weights(RAW, "_fsdp_wrapped_module.module."),
    "compiled blocks": {name.replace("blocks.0.", "blocks.0._orig_mod."): tensor for name, tensor in raw.items()},
    "checkpointed blocks": {
        name.replace("blocks.0.", "blocks.0._checkpoint_wrapped_module."): tensor for name, tensor in raw.items()
    },
    "lightning": {"state_dict": weights(RAW, "model._orig_mod."), "epoch": 3, "global_step": 10},
    "lightning net": {"state_dict": weights(RAW, "net.")},
    "joined by dots": {"trainer.var_wo_ddp": raw},
    "var": {"epoch": 1, "trainer": {"config": {}, "var_wo_ddp": raw, "vae_local": {"q.ema_hit": torch.ones(3)}}},
    "counters": {"model": {**weights(RAW, "module."), "num_updates": counter}, "iteration": 3},
    "random states": {"model": raw, "rng_state": torch.ones(5, dtype=torch.uint8), "numpy": np.random.get_state()},
    "plain values": {"model": raw, "fid": np.float64(2.5), "args": Namespace(lr=np.float32(1)), "out": Path("a")},
    "optimizer": {"model": raw, "opt": {"state": {0: {"exp_avg": torch.ones(3)}}, "ema_decay": 0.9}},
    "no average": {"model": raw, "ema": None},
    "an empty average": {"model": raw, "ema": {}, "ema_config": {"decay": 0.9}},
    "mmengine": {"meta": {"iter": 3}, "state_dict": raw, "message_hub": {"loss": HistoryBuffer([1.0], [1])}},
    "dates": {"model": raw, "start": datetime(2024, 1, 1), "took": timedelta(hours=1)},
    "letters of ema": {"model": raw, "schema": {"table": torch.ones(3)}},
    "one by half": {"model": {name: tensor.half() for name, tensor in raw.items()}},
}  # fmt: skip
BOTH = {
    "ema": {"model": raw, "ema": ema},
    "model_ema": {"model": raw, "model_ema": ema},
    "ema_model": {"model": raw, "ema_model": weights(EMA, "module.")},
    "timm": {"state_dict": raw, "state_dict_ema": weights(EMA, "module.")},
    "ema_state_dict": {"model": raw, "ema_state_dict": ema},
    "named alike": {"model_state_dict": raw, "ema_model_state_dict": ema},
    "basicsr": {"params": raw, "params_ema": ema},
    "camel": {"model": raw, "modelEMA": ema},
    "shadow": {"model": raw, "ema": {"decay": 0.999, "num_updates": 7, "shadow": ema}},
    "shadow alone": {"model": raw, "shadow": ema},
    "shadow_params": {"model": raw, "ema": {"shadow_params": ema, "decay": counter}},
    "deeper": {"model": raw, "ema": {"module": weights(EMA, "_orig_mod."), "decay": 0.99}},
    "ema_pytorch": {
        "model": raw,
        "ema": {**weights(EMA, "ema_model."), **weights(RAW, "online_model."), "initted": counter, "step": counter},
    },
    "flat": {**weights(RAW, "model."), **weights(EMA, "ema_model.")},
    "flat in a container": {"state_dict": {**weights(RAW, "net."), **weights(EMA, "net_ema.")}},
    "litema": {
        "state_dict": {
            **weights(RAW, "model."), **{f"model_ema.{name}": tensor for name, tensor in undotted(EMA).items()},
            "model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": counter,
        }
    },
    "meta of others": {"meta": {"lr": 3}, "state_dict": raw, "ema_state_dict": ema},
    "averaged model": {"model": raw, "ema_model": {"n_averaged": counter, **weights(EMA, "module.")}},
    "mmengine's hook": {
        "meta": {"iter": 3}, "state_dict": ema, "ema_state_dict": {**weights(RAW, "module."), "steps": counter},
    },
}  # fmt: skip
REFUSED: dict[str, tuple[Layout, str]] = {
    "g_ema": ({"generator": raw, "g_ema": ema}, r"has 'g_ema', which may be an average.*holds 'generator', 'g_ema'"),
    "a list": ({"model": raw, "ema": list(ema.values())}, r"has 'ema', which may be.*--entry raw takes 'model'"),
    "swa": ({"model": raw, "swa_model": ema}, "has 'swa_model', which may be"),
    "a callback": ({"state_dict": raw, "callbacks": {"EMA": {"weights": ema}}}, r"has 'callbacks\.EMA', which may be"),
    "an optimizer": ({"model": raw, "optimizer": [{"ema": tuple(ema.values())}]}, r"has 'optimizer\.0\.ema', which"),
    "flat": ({**raw, **weights(EMA, "ema_generator.")}, "has 'ema_generator', which may be"),
    "two": ({"model": raw, "net": ema}, "holds raw weights more than once, as 'model', 'net'"),
    "two averages": ({"ema": ema, "ema_model": ema}, "holds EMA weights more than once, as 'ema', 'ema_model'"),
    "unknown": ({"generator": raw, "discriminator": ema}, "holds 'generator', 'discriminator', and no state dict"),
    "not flat": ({"params": {"blocks": {"0": {"w": torch.ones(2)}}}}, "holds 'params', and no state dict"),
    "avg": ({"model": raw, "model_avg": ema}, r"has 'model_avg', which may be.*--entry raw takes 'model'"),
    "in one word": ({"model": raw, "unetema": ema}, r"has 'unetema', which may be.*--entry raw takes 'model'"),
    "nothing": ({"epoch": 3, "model": {"lr": 1.0}}, "holds no tensors"),
    "collision": ({**raw, **weights(EMA, "module.")}, r"holds tensor '\w.*' twice"),
}


@pytest.mark.parametrize("name", ONE)
def test_one_state_dict(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, ONE[name])
    assert value_of(read_tensors(path)) == RAW
    assert value_of(read_tensors(path, "raw")) == RAW
    with pytest.raises(GftzooError, match="has no EMA weights"):
        read_tensors(path, "ema")


@pytest.mark.parametrize("name", BOTH)
def test_raw_weights_and_their_average(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, BOTH[name])
    for entry, value in ((None, EMA), ("ema", EMA), ("raw", RAW)):
        found = read_tensors(path, entry)  # type: ignore[arg-type]
        assert value_of(found) == value and found.entry == (entry or "ema")


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused_with_its_names(tmp_path: Path, name: str) -> None:
    layout, match = REFUSED[name]
    with pytest.raises(GftzooError, match=match) as refusal:
        read_tensors(written(tmp_path, layout))
    assert str(refusal.value).isprintable()
    if "--entry raw" in match:
        assert value_of(read_tensors(tmp_path / "file.pt", "raw")) == RAW


@pytest.mark.parametrize(
    ("name", "entry"),
    [("ema.pt", "ema"), ("v1-5-emaonly.safetensors", "ema"), ("x.non_ema.safetensors", "raw"), ("raw.pt", "raw"),
     ("ema_0.9999_400000.pt", "ema"), ("semantic.pt", "bare"), ("ema-trials/best.pt", "bare"),
     ("ema_unet/m.pt", "ema")],
)  # fmt: skip
def test_a_file_with_one_state_dict_is_what_its_name_says(tmp_path: Path, name: str, entry: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    assert read_tensors(written(tmp_path, raw, name)).entry == entry
    if not name.endswith(".safetensors"):
        told = read_tensors(written(tmp_path, {"state_dict": raw}, name)).entry
        assert told == ("raw" if entry == "bare" else entry)


def test_a_file_beside_one_without_average_is_the_average(tmp_path: Path) -> None:
    written(tmp_path, raw, "unet.non_ema.safetensors")
    path = written(tmp_path, ema, "unet.safetensors")
    assert value_of(read_tensors(path, "ema")) == EMA and read_tensors(path).entry == "ema"
    assert read_tensors(tmp_path / "unet.non_ema.safetensors").entry == "raw"


def test_raw_weights_are_not_promised_where_there_are_none(tmp_path: Path) -> None:
    path = written(tmp_path, {"unet": raw, "ema_unet": ema})
    for entry in (None, "raw"):
        with pytest.raises(GftzooError, match=r"has 'ema_unet', which may be.*holds 'unet', 'ema_unet'"):
            read_tensors(path, entry)  # type: ignore[arg-type]


@pytest.mark.parametrize(("odd", "match"), [("sparse", "layout torch.sparse_coo"), ("meta", "no numbers")])
def test_tensors_of_other_kinds_are_refused_by_name(odd: str, match: str) -> None:
    network = nn.Linear(2, 2)
    tensors = network.state_dict()
    tensors["weight"] = tensors["weight"].to_sparse() if odd == "sparse" else tensors["weight"].to("meta")
    with pytest.raises(GftzooError, match=rf"tensor 'weight' has .*{match}"):
        load_weights(network, tensors, "x.pt")


def test_a_callback_as_a_key_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stable Diffusion's first files have the class of a callback that is not installed here."""
    module = ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})  # type: ignore[attr-defined]
    with monkeypatch.context() as installed:
        for name in ("pytorch_lightning", "pytorch_lightning.callbacks", module.__name__):
            installed.setitem(sys.modules, name, module)
        path = written(tmp_path, {"state_dict": raw, "callbacks": {module.ModelCheckpoint: {"best": "x"}}})
    assert value_of(read_tensors(path)) == RAW


def test_names_of_the_network_are_no_wrappers(tmp_path: Path) -> None:
    own = {"net.weight": torch.ones(2), "module.ema.weight": torch.ones(2), "step": torch.tensor(3.0)}
    path = written(tmp_path, {"model": {f"_orig_mod.{name}": tensor for name, tensor in own.items()}})
    assert read_tensors(path, expected=own).tensors.keys() == own.keys()


def test_other_modules_beside_the_network_are_left_alone(tmp_path: Path) -> None:
    beside = {"loss.weight": torch.ones(3), "text.blocks.0.proj.bias": torch.ones(3)}
    path = written(tmp_path, {"state_dict": {**weights(RAW, "model."), **weights(EMA, "model_ema."), **beside}})
    for entry, value in ((None, EMA), ("raw", RAW)):
        assert value_of(read_tensors(path, entry, SHAPES)) == value  # type: ignore[arg-type]


def test_an_unknown_prefix_is_named() -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    tensors = {f"student.{name}": tensor for name, tensor in network.state_dict().items()}
    with pytest.raises(GftzooError, match=r"begin with 'student\.', which is no wrapper that is known"):
        check_fit(network, tensors, "x.pt")


class Weights(nn.Module):
    """A class that is not allowed in a file."""


def named(name: str) -> type:
    """A class whose name is not plain text."""
    return type(name, (), {"__module__": __name__, "__reduce__": lambda self: (globals()[name], ())})


def test_a_class_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GftzooError, match=r"an object of class '.*\.Weights'.*save the state dict alone") as refusal:
        read_tensors(written(tmp_path, {"model": Weights()}))
    assert str(refusal.value).isprintable()
    monkeypatch.setitem(globals(), "red\x1b[31m", named("red\x1b[31m"))
    with pytest.raises(GftzooError, match=r"red\\+x1b") as refusal:
        read_tensors(written(tmp_path, {"model": raw, "x": globals()["red\x1b[31m"]()}))
    assert str(refusal.value).isprintable()


def shards(folder: Path, stem: str = "diffusion_pytorch_model", suffix: str = "safetensors") -> Path:
    places = {}
    for i, (name, tensor) in enumerate(raw.items(), 1):
        places[name] = f"{stem}-{i:05d}-of-{len(raw):05d}.{suffix}"
        written(folder, {name: tensor, "left over": tensor + 1}, places[name])
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards(tmp_path: Path, suffix: str) -> None:
    index = shards(tmp_path, suffix=suffix)
    one = next(tmp_path.glob(f"*-00002-*.{suffix}"))
    assert value_of(read_tensors(index)) == value_of(read_tensors(one)) == RAW
    one.unlink()
    with pytest.raises(GftzooError, match=r"names the shard '.*-00002-of-.*', which is not beside it"):
        read_tensors(index)


def test_an_index_reads_nothing_elsewhere(tmp_path: Path) -> None:
    index = shards(tmp_path)
    for place in ("/etc/passwd", "../x.safetensors", "", 3):
        index.write_text(json.dumps({"weight_map": {"w": place}}))
        with pytest.raises(GftzooError, match=r"not beside it|no weight_map"):
            read_tensors(index)


def test_containers_without_end_are_refused(tmp_path: Path) -> None:
    loop: Layout = {"w": torch.ones(2)}
    loop |= {"model": loop, "module": loop, "net": loop, "params": loop}
    with pytest.raises(GftzooError):
        read_tensors(written(tmp_path, loop))
    deep: Layout = dict(raw)
    for _ in range(400):
        deep = {"model": deep}
    with pytest.raises(GftzooError):
        read_tensors(written(tmp_path, deep))


WRAPPERS = ["module.", "_orig_mod.", "_fsdp_wrapped_module.", "model.", "net.", "network.", "state_dict."]
PLAIN = ["model", "state_dict", "module", "params", "net", "model_state_dict", "network"]
AVERAGE = ["ema", "model_ema", "ema_model", "ema_state_dict", "state_dict_ema", "params_ema", "EMAModel", "shadow"]
EXTRAS: Layout = {"epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.ones(4)}}}, "lr": np.float32(0.1)}


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Layout, bool]:
    """A checkpoint of random containers, prefixes, counters and extras; and whether it holds an average."""

    def part(value: float, containers: list[str]) -> Layout:
        prefix = "".join(draw(st.lists(st.sampled_from(WRAPPERS), max_size=3)))
        found: Layout = weights(value, prefix)
        if draw(st.booleans()):
            found["num_updates"] = counter
        for container in draw(st.lists(st.sampled_from(containers), max_size=2)):
            found = {container: found}
        return found

    both = draw(st.booleans())
    file = part(RAW, PLAIN)
    if both:
        file = {draw(st.sampled_from(PLAIN)): file, draw(st.sampled_from(AVERAGE)): part(EMA, PLAIN)}
    extras = draw(st.lists(st.sampled_from(sorted(EXTRAS)), unique=True)) if len(file) < len(raw) else []
    file |= {name: EXTRAS[name] for name in extras}
    return {name: file[name] for name in draw(st.permutations(sorted(file)))}, both


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(layout=layouts(), entry=st.sampled_from([None, "raw", "ema"]))
def test_any_layout_arrives_equal_or_the_cause_is_named(
    tmp_path: Path, layout: tuple[Layout, bool], entry: Any
) -> None:
    file, both = layout
    path = written(tmp_path, file)
    if entry == "ema" and not both:
        with pytest.raises(GftzooError, match="has no EMA weights"):
            read_tensors(path, entry)
    else:
        assert value_of(read_tensors(path, entry)) == (EMA if both and entry != "raw" else RAW)


def test_a_name_does_not_make_raw_weights_the_average_beside_them(tmp_path: Path) -> None:
    raw = {"weight": torch.ones(2, 2), "bias": torch.ones(2)}
    path = tmp_path / "ema_as_list.pt"
    torch.save({"model": raw, "ema": [torch.zeros(2, 2), torch.zeros(2)]}, path)
    with pytest.raises(GftzooError, match="'ema', which may be an average of the weights and is not understood"):
        read_tensors(path)
    assert read_tensors(path, "raw").entry == "raw"
