"""A model pushed to the hub, loaded from it by name, and trained on; and all that can be wrong, in sentences.

The hub is a stand-in of its HTTP interface on loopback: what speaks to it is the hub's own library.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml
from command import call
from hub_stand_in import TOKEN, USER, Repository, StandIn, hub_stand_in
from nano import nano_model
from PIL import Image

import gftzoo
from gftzoo.cli.evaluate import is_images
from gftzoo.engine import TrainConfig
from gftzoo.errors import GftzooError, UsageError
from gftzoo.evaluate.records import Measure, ScoreRecord
from gftzoo.evaluate.scoring import Scores
from gftzoo.evaluate.subjects import subject_of
from gftzoo.hub import HubAddress, address_of, local_copy
from gftzoo.publishing.places import without_places
from gftzoo.weights import save_model

REPO = f"{USER}/digits"
TINY = ["--steps", "1", "-o", "batch_size=4", "-o", "sample_grid=[1, 2]", "-o", "ema_decay=0.5"]


@pytest.fixture(scope="module")
def hub() -> Iterator[StandIn]:
    with hub_stand_in() as state:
        yield state


@pytest.fixture(autouse=True)
def pointed_there(hub: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The hub's library asks the stand-in, as someone known there, and keeps what it fetches in a folder of ours."""
    constants = huggingface_hub.constants
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    for name, value in {"ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": True, "HF_HUB_OFFLINE": False}.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights, that came from a place on this machine."""
    place = tmp_path_factory.mktemp("model")
    model = nano_model("dit-nano", temperature=True)
    model.card = model.card.change(data="imagefolder:/home/me/secret/photos")
    model.provenance = {"weights": "/home/me/secret/start.pt", "entry": "ema"}
    save_model(model, place, "ema")
    return place


@pytest.fixture(scope="module")
def score(folder: Path) -> Path:
    model = gftzoo.load(folder)
    names = ("protocol", "distance_name", "features", "features_sha256", "reference", "reference_sha256", "class_plan")
    measure = Measure(images=100, kept_features=100, **dict.fromkeys(names, "embedded"))
    record = ScoreRecord(
        measure=measure,
        subject=subject_of(model, model.guidance(beta=0.5), {}, 0),
        scores=Scores(frechet=2.875, accuracy=96.25),
    )
    path = folder / "score.json"
    record.write(path)
    return path


def metadata(hub: StandIn, repo: str = REPO) -> dict[str, object]:
    text = hub.files(repo)["README.md"].decode()
    return dict(yaml.safe_load(text.split("---\n")[1]))


def test_a_pushed_model_is_loaded_by_name_and_draws_the_same(hub: StandIn, folder: Path, score: Path) -> None:
    assert call("push", str(folder), REPO, "--scores", str(score), "--bake", "0.5") == 0
    files = hub.files(REPO)
    assert {"README.md", "card.json", "ema.safetensors", "samples.png", "beta-0.5/ema.safetensors"} <= files.keys()
    told = metadata(hub)
    assert told["license"] == "apache-2.0" and told["library_name"] == "gftzoo"
    (entry,) = told["model-index"]
    assert [(m["type"], m["value"]) for r in entry["results"] for m in r["metrics"]] == [
        ("fid", 2.875),
        ("accuracy", 96.25),
    ]
    assert not [name for name, content in files.items() if b"secret" in content]  # where it was made is nobody's
    assert json.loads(files["scores/embedded-beta-0.5-100-seed0.json"])["scores"]["frechet"] == 2.875

    own, loaded = gftzoo.load(folder), gftzoo.load(f"hub:{REPO}")
    assert torch.equal(own.sample([3], beta=0.5, steps=2), loaded.sample([3], beta=0.5, steps=2))
    commit = hub.repositories[REPO].head
    assert (loaded.provenance["hub"], loaded.provenance["revision"]) == (REPO, commit)
    baked = gftzoo.load(f"hub:{REPO}/beta-0.5@{commit}")
    torch.testing.assert_close(baked.sample([3], steps=2), own.sample([3], beta=0.5, steps=2), rtol=1e-3, atol=1e-3)
    assert baked.baked_beta == 0.5 and baked.provenance["hub_folder"] == "beta-0.5"


def test_a_run_starts_from_the_hub_and_keeps_the_commit(hub: StandIn, folder: Path, tmp_path: Path) -> None:
    assert call("push", str(folder), REPO) == 0
    commit = hub.repositories[REPO].head
    address = f"hub:{REPO}"
    assert call("train", "dit-nano", "--gft", "--weights", address, *TINY, "--runs", str(tmp_path), "--name", "r") == 0
    run = tmp_path / "r"
    assert TrainConfig.read(run).weights == f"{address}@{commit}"
    start = gftzoo.load(run).provenance["started_from"]
    assert (start["hub"], start["revision"]) == (REPO, commit)
    assert call("sample", address, "--beta", "0.5", "-n", "1", "--steps", "1", "--out", str(tmp_path / "a.png")) == 0

    out = tmp_path / "out"  # the model that a run made of it says so; nothing is pushed
    before = len(hub.asked)
    assert call("push", str(run), f"{USER}/second", "--out", str(out)) == 0
    assert not [each for each in hub.asked[before:] if each.startswith("POST")]
    text = (out / "README.md").read_text(encoding="utf-8")
    assert f"base_model: {REPO}" in text and "## Recipe" in text and "objective: gft" not in text.split("---\n")[1]
    with Image.open(out / "samples.png") as sheet, Image.open(run / "samples" / "beta-strip.png") as strip:
        assert sheet.tobytes() == strip.tobytes() and not sheet.text


def test_a_second_push_leaves_no_weights_of_the_first(hub: StandIn, folder: Path, tmp_path: Path) -> None:
    assert call("push", str(folder), REPO) == 0
    hub.repositories[REPO].commit({**hub.files(REPO), "notes.md": b"of the owner"})
    raw = nano_model("dit-nano", temperature=True, seed=1)
    raw.save(tmp_path)
    assert call("push", str(tmp_path), REPO) == 0
    assert "raw.safetensors" in hub.files(REPO) and "ema.safetensors" not in hub.files(REPO)
    assert hub.files(REPO)["notes.md"] == b"of the owner"


def test_what_was_fetched_is_there_without_a_network(
    hub: StandIn, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("push", str(folder), REPO) == 0
    fetched = local_copy(HubAddress(REPO))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert local_copy(HubAddress(REPO)).folder == fetched.folder
    with pytest.raises(GftzooError, match=r"was not fetched before .*HF_HUB_OFFLINE is set"):
        local_copy(HubAddress(f"{USER}/other"))
    with pytest.raises(GftzooError, match="cannot be reached"):
        gftzoo.load(f"hub:{USER}/other")


def test_what_is_private_or_not_there_is_said(
    hub: StandIn, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("push", str(folder), f"{USER}/hidden", "--private") == 0
    assert hub.repositories[f"{USER}/hidden"].private
    hub.repositories["big/gated"] = Repository(gated=True)
    hub.repositories["big/other"] = Repository()
    hub.repositories["big/other"].commit({"model.bin": b"", "code.py": b"raise SystemExit(7)"})
    cases = {
        f"{USER}/none": "or it is private",
        f"{USER}/digits@nowhere": "no revision 'nowhere'",
        "big/gated": "is gated",
        "big/other": "holds no gftzoo model",
    }
    for address, said in cases.items():
        with pytest.raises(UsageError, match=said):
            gftzoo.load(f"hub:{address}")
    assert not [each for each in hub.asked if each.endswith(("code.py", "model.bin"))]  # nothing else is fetched
    assert call("push", str(folder), "big/digits") == 2
    assert "you may not write to 'big/digits'" in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert call("push", str(folder), REPO) == 2
    assert "hf auth login" in capsys.readouterr().err
    with pytest.raises(UsageError, match="or it is private"):
        gftzoo.load(f"hub:{USER}/hidden")


@pytest.mark.parametrize(
    "text", ["hub:", "hub:one", "hub:a/b/../c", "hub:a/b@", "hub:a/b@../x", "hub:a--b/c d", "hub:/a/b"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    if text == "hub:a/b@":
        text = "hub:a/b@ "
    with pytest.raises(UsageError, match="hub:OWNER/NAME"):
        address_of(text)


def test_an_address_is_read_as_it_is_written() -> None:
    assert address_of("runs/a") is None and address_of(None) is None
    for text in ("hub:a/b", "hub:a/b@v1.0", "hub:a/b/beta-0.5@main"):
        assert str(address_of(text)) == text
    assert not is_images("hub:a/b")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/home/me/a.pt", "a.pt"),
        ("imagefolder:/home/me/photos?background=white", "imagefolder:photos?background=white"),
        (r"C:\Users\me\a.pt", "a.pt"),
        ("https://a.b/c.pt", "https://a.b/c.pt"),
        ("stream:https://a.b/{0..9}.tar", "stream:https://a.b/{0..9}.tar"),
        ("digits", "digits"),
        ("linear/constant", "linear/constant"),
    ],
)
def test_places_are_not_told(text: str, told: str) -> None:
    assert without_places({"a": [text]}) == {"a": [told]}


def test_scores_of_other_weights_are_refused(folder: Path, score: Path, tmp_path: Path) -> None:
    other = nano_model("dit-nano", temperature=True, seed=5)
    other.save(tmp_path / "other")
    words = ["push", str(tmp_path / "other"), REPO, "--scores", str(score), "--out", str(tmp_path / "out")]
    assert call(*words) == 2 and not (tmp_path / "out").exists()
