"""Nothing that comes with weights or data is executed: loaders are told so, and folders that ask for it are refused."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from gftzoo_llamagen.captions import text_encoder as t5
from transformers import CLIPTextModel

from gftzoo.errors import GftzooError
from gftzoo.foreign_folders import load_part, refuse_code
from gftzoo.tokenizers import build_core_tokenizer
from gftzoo.zoo import get_tokenizer_spec

ROOT = Path(__file__).parents[1]
SOURCES = [
    *sorted((ROOT / "gftzoo").rglob("*.py")),
    *sorted((ROOT / "tools").rglob("*.py")),
    *(path for path in sorted((ROOT / "plugins").glob("*/gftzoo_*/**/*.py"))),
]
LOADERS = {"from_pretrained", "from_single_file", "from_config", "load_dataset", "load_dataset_builder", "snapshot"}
RUNNERS = {"eval", "exec", "load_from_hub", "run_path", "get_class_from_dynamic_module", "execfile"}


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    found = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    return [(getattr(call.func, "attr", getattr(call.func, "id", "")), call) for call in found]


def says(call: ast.Call, keyword: str, value: object) -> bool:
    return any(k.arg == keyword and isinstance(k.value, ast.Constant) and k.value.value is value for k in call.keywords)


def test_every_loader_of_models_and_data_is_told_to_run_no_code() -> None:
    found = [(path, name, call) for path in SOURCES for name, call in calls(path) if name in LOADERS]
    readers = {path.stem for path, *_ in found}
    assert {"foreign_folders", "hub", "stream"} <= readers  # the search does find them
    loose = [
        f"{path.relative_to(ROOT)}:{call.lineno} {name}"
        for path, name, call in found
        if not says(call, "trust_remote_code", False)
    ]
    assert not loose


def test_nothing_is_evaluated_and_pickles_hold_tensors_only() -> None:
    loose = []
    for path in SOURCES:
        for name, call in calls(path):
            owner = getattr(getattr(call.func, "value", None), "id", "")
            is_builtin = isinstance(call.func, ast.Name) or name not in ("eval", "exec")  # network.eval() is no eval
            if (name in RUNNERS and is_builtin) or owner in ("pickle", "dill", "joblib", "marshal", "shelve"):
                loose.append(f"{path.relative_to(ROOT)}:{call.lineno} {name}")
            if owner == "torch" and name == "load" and not says(call, "weights_only", True):
                loose.append(f"{path.relative_to(ROOT)}:{call.lineno} torch.load")
            if owner in ("np", "numpy") and name == "load" and says(call, "allow_pickle", True):
                loose.append(f"{path.relative_to(ROOT)}:{call.lineno} np.load")
    assert not loose


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A text encoder that would write a file if its code were run."""
    trap = f"open({str(tmp_path / 'executed')!r}, 'w').close()\n"
    place = tmp_path / "encoder"
    place.mkdir()
    (place / "modeling.py").write_text(trap + "class Model: ...\nclass Config: ...\n")
    code = {"AutoConfig": "modeling.Config", "AutoModel": "modeling.Model", "AutoTokenizer": ["modeling.Model", None]}
    for name in ("config.json", "tokenizer_config.json"):
        (place / name).write_text(json.dumps({"model_type": "own", "auto_map": code}))
    return place


def test_a_folder_that_brings_code_is_refused(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    for load in (
        lambda: t5(str(folder)),
        lambda: load_part(CLIPTextModel, "text_encoder", str(folder)),
        lambda: build_core_tokenizer(get_tokenizer_spec("sd-vae-ema"), str(folder)),
        lambda: refuse_code(folder),
    ):
        with pytest.raises(GftzooError, match=r"config\.json' asks for code of its own \('auto_map'\)"):
            load()
    assert not (folder.parent / "executed").exists()
