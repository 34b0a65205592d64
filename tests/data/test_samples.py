"""What comes with pictures: lines of text, classes and their names, tables and tar files as people have them."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gftzoo.cli.sample import _lines, class_words
from gftzoo.data import open_source
from gftzoo.data.preflight import colour_change, preflight
from gftzoo.data.shards import MOST, find_shards
from gftzoo.data.stream import StreamSource, count_rows
from gftzoo.engine import resolve
from gftzoo.errors import GftzooError, UsageError
from gftzoo.evaluate.drawing import conditions_for, labels_for
from gftzoo.prompts import tell_of_long_prompts
from gftzoo.zoo import get_card

datasets = pytest.importorskip("datasets")


def png(value: int, kind: str = "PNG", mode: str = "L") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (8, 8), value if mode == "L" else (value, 0, 0)).save(file, kind)
    return file.getvalue()


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png(number * 40))
    return tmp_path


LINES = {
    "plain": ("a cat", "", "\n"),
    "line separator": ("a cat\u2028on a mat", "", "\n"),
    "paragraph separator": ("a cat\u2029on a mat", "", "\n"),
    "next line": ("a cat\x85on a mat", "", "\n"),
    "form feed and group separator": ("a cat\x1don a mat", "", "\n"),
    "byte order mark": ("a cat", "\ufeff", "\n"),
    "carriage returns": ("a cat", "", "\r\n"),
    "all of it": ("a \u2028 b \x85 c \u2029 \U0001f600", "\ufeff", "\r\n"),
    "empty lines": ("a cat", "\n\n", "\n\n"),
}


@pytest.mark.parametrize("name", LINES)
def test_lines_end_at_line_feeds_alone(name: str, captions: Path) -> None:
    first, begin, end = LINES[name]
    rows = [{"image": f"{n}.png", "caption": text} for n, text in enumerate((first, "a dog", "a fox"))]
    text = begin + end.join(json.dumps(row, ensure_ascii="form" in name) for row in rows) + end
    (captions / "x.jsonl").write_bytes(text.encode())
    source = open_source(f"jsonl:{captions / 'x.jsonl'}")
    assert [source.condition_of(row) for row in range(len(source))] == [first, "a dog", "a fox"]
    if "form" not in name:
        (captions / "prompts.txt").write_bytes(f"{begin}{first}{end}a dog{end}".encode())
        assert _lines(captions / "prompts.txt") == [first, "a dog"]


ODD_LINES = {
    "half a character in a caption": ({"image": "1.png", "caption": "a \ud83d"}, "half a character"),
    "half a character in a name": ({"image": "\ud83d.png", "caption": "b"}, "is no file name"),
    "a nul in a name": ({"image": "1\0.png", "caption": "b"}, "is no file name"),
    "a long name": ({"image": "x" * 300 + ".png", "caption": "b"}, "too long"),
    "a file outside": ({"image": "../1.png", "caption": "b"}, "--allow-outside reads it"),
    "an absolute name": ({"image": "/etc/hostname", "caption": "b"}, "--allow-outside reads it"),
    "a folder": ({"image": ".", "caption": "b"}, "cannot be read"),
    "a name with an escape": ({"image": "\x1b[31m.png", "caption": "b"}, "cannot be read"),
}


@pytest.mark.parametrize("name", ODD_LINES)
def test_an_odd_line_is_counted_and_ends_nothing(name: str, captions: Path) -> None:
    line, words = ODD_LINES[name]
    rows = [{"image": "0.png", "caption": "a"}, line, {"image": "2.png", "caption": "c"}]
    (captions / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = open_source(f"jsonl:{captions / 'x.jsonl'}")
    assert len(source.problems) == 1 and words in source.problems[0] and source.problems[0].isprintable()
    assert [source.condition_of(row) for row in range(len(source))] == ["a", "c"]
    assert source.image(1, 8, 1).unique().tolist() == [80]


def test_files_outside_are_read_where_that_is_allowed(captions: Path) -> None:
    (captions / "below").mkdir()
    (captions / "below" / "x.jsonl").write_text(json.dumps({"image": "../1.png", "caption": "a"}))
    with pytest.raises(GftzooError, match=r"has no readable image, e\.g\..*--allow-outside reads it"):
        open_source(f"jsonl:{captions / 'below' / 'x.jsonl'}")
    assert not open_source(f"jsonl:{captions / 'below' / 'x.jsonl'}#outside=yes").problems


@pytest.mark.parametrize("line", ["[" * 100_000, '{"image": 3, "caption": "a"}', '["image", "caption"]', "\0", "{}"])
def test_a_line_of_another_form_is_named(line: str, captions: Path) -> None:
    (captions / "x.jsonl").write_text(f'{{"image": "0.png", "caption": "a"}}\n{line}\n')
    with pytest.raises(GftzooError, match="line 2 is not of the form"):
        open_source(f"jsonl:{captions / 'x.jsonl'}")


NAMES = ("3", "Apple", "apple", "pear", "pear, ripe")
DIGITS = ("zero", "one", "two")
CHOICES: list[tuple[Sequence[str], int | str, int | str]] = [
    (NAMES, "Apple", 1),
    (NAMES, "apple", 2),
    (NAMES, "APPLE", "has the classes 'Apple', 'apple'; write 'APPLE' as one of them"),
    (NAMES, " PEAR ", 3),
    (NAMES, "3", 0),
    (NAMES, 3, 3),
    (NAMES, "0", "so that no text is an index; valid are the names 3, Apple"),
    (("1", "2", "3"), "1", 0),
    (("1", "2", "3"), 1, 1),
    (("1", "2", "3"), "0", "has no class '0'; classes have numbers for names"),
    (("1", "2", "3"), 3, "has no class 3"),
    (DIGITS, "1", 1),
    (DIGITS, "Two", 2),
    (DIGITS, "3", "has no class '3'; valid are 0 to 2 or a name"),
    (DIGITS, -1, "has no class -1"),
    (DIGITS, "thre", "has no class 'thre'; valid are 0 to 2 or a name"),
    (DIGITS, "\u0663", "has no class"),
]


@pytest.mark.parametrize(("names", "asked", "expected"), CHOICES)
def test_which_class_is_meant(names: Sequence[str], asked: int | str, expected: int | str) -> None:
    card = get_card("dit-nano").change(classes=len(names), class_names=names)
    if isinstance(expected, int):
        assert card.class_index(asked) == expected
    else:
        with pytest.raises(UsageError, match=expected):
            card.class_index(asked)


def test_a_list_of_classes_may_hold_commas_in_names() -> None:
    assert class_words("pear, ripe", NAMES) == ["pear, ripe"]
    assert class_words("Apple,pear, ripe,pear", NAMES) == ["Apple", "pear, ripe", "pear"]
    assert class_words("0,7", DIGITS) == ["0", "7"]
    for nothing in (",", "", " , "):
        with pytest.raises(UsageError, match="names no class"):
            class_words(nothing, NAMES)


def table(path: Path, labels: Sequence[Any], kind: Any, images: Sequence[Any] | None = None, **columns: str) -> str:
    pictures = images or [{"bytes": png(20 * i), "path": None} for i in range(len(labels))]
    names = {"image": columns.get("image", "image"), "label": columns.get("label", "label")}
    features = datasets.Features({names["image"]: datasets.Image(), names["label"]: kind})
    held = {names["image"]: list(pictures), names["label"]: list(labels)}
    datasets.Dataset.from_dict(held, features=features).to_parquet(path)
    return f"hf:{path}"


INT = datasets.Value("int64")
LABELS: dict[str, tuple[list[Any], Any, tuple[str, ...], list[int]]] = {
    "from one": ([1, 2, 3, 1], INT, ("1", "2", "3"), [0, 1, 2, 0]),
    "gaps": ([0, 7, 769, 7], INT, ("0", "7", "769"), [0, 1, 2, 1]),
    "huge": ([2**40, 5], INT, ("5", str(2**40)), [1, 0]),
    "one": ([4, 4], INT, ("4",), [0, 0]),
    "from zero": ([0, 1, 2], datasets.Value("uint8"), ("0", "1", "2"), [0, 1, 2]),
    "yes and no": ([True, False, True], datasets.Value("bool"), ("0", "1"), [1, 0, 1]),
    "numbers as text": (["10", "2", "10"], datasets.Value("string"), ("10", "2"), [0, 1, 0]),
    "names": (["cow", "ant"], datasets.Value("string"), ("ant", "cow"), [1, 0]),
}


@pytest.mark.parametrize("name", LABELS)
def test_every_class_of_a_table_has_pictures(name: str, tmp_path: Path) -> None:
    labels, kind, names, expected = LABELS[name]
    source = open_source(table(tmp_path / "x.parquet", labels, kind))
    assert source.class_names == names
    assert [source.condition_of(row) for row in range(len(labels))] == expected


def test_a_named_class_without_a_picture_is_not_scored(tmp_path: Path) -> None:
    spec = table(tmp_path / "x.parquet", [0, 2, 2], datasets.ClassLabel(names=["cat", "cow", "dog"]))
    card = resolve("dit-nano", data=spec, steps=1).card
    assert card.class_names == ("cat", "cow", "dog") and card.empty_classes == (1,)
    assert conditions_for(card, 5, "data:x") == ([0, 2, 0, 2, 0], "balanced over 2 classes, in turn")
    assert labels_for(card, 4, "data:x") == [0, 2, 0, 2] and card.drawn_classes == (0, 2)
    assert card.class_index("cow") == 1  # drawn where it is asked for


def test_labels_beyond_their_names_are_refused(tmp_path: Path) -> None:
    from gftzoo.data.labels import classes_of

    with pytest.raises(UsageError, match=r"has the label 3 in its column; valid are 0 to 1, which have names"):
        classes_of("x", [0, 3], ["cat", "dog"], "column")


@pytest.mark.parametrize(("image", "label"), [("Image", "label"), ("jpg", "Label"), ("PNG", "cls")])
def test_columns_are_found_in_any_case(image: str, label: str, tmp_path: Path) -> None:
    source = open_source(table(tmp_path / "x.parquet", [0, 1], INT, image=image, label=label))
    assert len(source) == 2 and source.image(1, 8, 1).unique().tolist() == [20]


def test_a_table_reads_no_file_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "out.png").write_bytes(png(200))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.png").write_bytes(png(100))
    paths = ["0.png", str(tmp_path / "in" / "0.png"), "../out.png", str(tmp_path / "out.png"), "https://host/x.png"]
    cells = [{"bytes": None, "path": path} for path in paths]
    cells_type = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    features = datasets.Features({"image": cells_type, "label": INT})
    held = {"image": cells, "label": [0] * len(cells)}
    datasets.Dataset.from_dict(held, features=features).to_parquet(tmp_path / "in" / "x.parquet")
    source = open_source(f"hf:{tmp_path / 'in' / 'x.parquet'}")
    assert len(source) == 2 and source.images(range(2), 8, 1).unique().tolist() == [100]
    assert len(source.problems) == 3 and "row 2 of" in source.problems[0] and "lies outside" in source.problems[0]
    assert "names a place" in source.problems[2]
    allowed = open_source(f"hf:{tmp_path / 'in' / 'x.parquet'}#outside=yes")
    assert allowed.images([2, 3], 8, 1).unique().tolist() == [200]


def test_pictures_without_a_caption_are_told_of(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    held = {"image": [{"bytes": png(value), "path": None} for value in (0, 40)], "caption": ["a", None]}
    datasets.Dataset.from_dict(held, features=features).to_parquet(tmp_path / "x.parquet")
    source = open_source(f"hf:{tmp_path / 'x.parquet'}")
    assert [source.condition_of(row) for row in (0, 1)] == ["a", ""]
    assert "1 pictures without a caption" in preflight(source, 8).sentence()


Members = list[tuple[str, bytes]]


def pack(path: Path, members: Members) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def classes(name: str, image: str = "png", label: str = "cls") -> Members:
    return [
        member
        for k in range(3)
        for member in ((f"{name.format(k)}.{image}", png(40 * k)), (f"{name.format(k)}.{label}", f"{k}\n".encode()))
    ]


THREE = [0, 1, 2]
TARS: dict[str, tuple[Members, list[Any], list[int]]] = {
    "plain": (classes("{}"), THREE, [0, 40, 80]),
    "dots in names": (classes("img_v1.{}"), THREE, [0, 40, 80]),
    "dots in folders": (classes("./part.0/{}"), THREE, [0, 40, 80]),
    "upper case": (classes("{}", "PNG", "CLS"), THREE, [0, 40, 80]),
    "label": (classes("{}", "jpeg", "label"), THREE, [0, 40, 80]),
    "tif": (classes("{}", "TIF"), THREE, [0, 40, 80]),
    "several suffixes": (
        [("0.jpg", png(0)), ("0.cls", b"0"), ("1.png", png(40)), ("1.cls", b"1"), ("2.WebP", png(80)), ("2.cls", b"2")],
        THREE,
        [0, 40, 80],
    ),
    "two pictures in a sample": (
        [m for k in range(3) for m in ((f"{k}.seg.png", png(9)), (f"{k}.png", png(40 * k)), (f"{k}.cls", b"%d" % k))],
        THREE,
        [0, 40, 80],
    ),
    "missing members": (
        [("0.png", png(0)), ("0.cls", b"0"), ("1.png", png(9)), ("2.cls", b"7"), ("3.png", png(40)), ("3.cls", b"1")],
        [0, 1],
        [0, 40],
    ),
    "the same members again": (
        [("0.png", png(0)), ("0.cls", b"0"), ("0.png", png(40)), ("0.cls", b"1")],
        [0, 1],
        [0, 40],
    ),
    "copies of other programs": ([("._0.png", b"x"), *classes("{}"), (".DS_Store", b"x")], THREE, [0, 40, 80]),
    "captions": (
        [m for k in range(2) for m in ((f"{k}.png", png(40 * k)), (f"{k}.txt", f"caf\u00e9 {k}\n".encode()))],
        ["caf\u00e9 0", "caf\u00e9 1"],
        [0, 40],
    ),
    "captions with a mark and returns": (
        [
            ("0.png", png(0)),
            ("0.TXT", b"\xef\xbb\xbfa\r\n"),
            ("0.json", b'{"w": 8}'),
            ("1.png", png(40)),
            ("1.txt", b"b"),
        ],
        ["a", "b"],
        [0, 40],
    ),
}


@pytest.mark.parametrize("name", TARS)
def test_a_tar_file_is_the_same_looked_up_and_streamed(name: str, tmp_path: Path) -> None:
    members, conditions, values = TARS[name]
    path = pack(tmp_path / "x.tar", members)
    source = open_source(f"hf:{path}")
    rows = range(len(source))
    assert [source.condition_of(row) for row in rows] == conditions
    assert [int(source.image(row, 8, 1)[0, 0, 0]) for row in rows] == values and not source.problems
    stream = open_source(f"stream:{path}")
    assert isinstance(stream, StreamSource)
    read = list(stream.read(stream.shards[0], 0))
    assert [stream.as_condition(condition) for _, condition in read] == conditions
    assert [picture for picture, _ in read] == [source.stored(row) for row in rows]
    assert list(stream.read(stream.shards[0], 1)) == read[1:] and count_rows(str(path), "webdataset") == len(read)
    assert bool(source.left_out) == bool(stream.problems) == (name == "missing members")


def test_classes_of_a_tar_file_are_populated(tmp_path: Path) -> None:
    named = [("0.png", png(0)), ("0.cls", b"cow"), ("1.png", png(1)), ("1.cls", b"ant")]
    source = open_source(f"hf:{pack(tmp_path / 'x.TAR', named)}")
    assert source.class_names == ("ant", "cow") and [source.condition_of(row) for row in (0, 1)] == [1, 0]
    gaps = [("0.png", png(0)), ("0.cls", b"9"), ("1.png", png(1)), ("1.cls", b"5")]
    assert open_source(f"hf:{pack(tmp_path / 'y.tar', gaps)}").class_names == ("5", "9")
    pack(tmp_path / "z.tar", [("0.png", png(0)), ("0.cls", b"-1")])
    with pytest.raises(UsageError, match="has the label -1"):
        open_source(f"hf:{tmp_path / 'z.tar'}")


def test_a_folder_of_tar_files_is_read_as_one(tmp_path: Path) -> None:
    for number in range(2):
        pack(tmp_path / f"{number}.tar", classes(f"{number}-{{}}"))
    assert len(open_source(f"hf:{tmp_path}")) == 6


def test_damage_in_a_tar_file_is_no_end_of_it(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.tar", classes("{}"))
    whole = path.read_bytes()
    path.write_bytes(whole[:2048] + b"\xff" * 512 + whole[2560:])  # the third header
    for kind in ("hf", "stream"):
        with pytest.raises(GftzooError, match=r"is damaged at byte 2,048; copy or pack it again"):
            source = open_source(f"{kind}:{path}")
            list(source.read(source.shards[0], 0))  # type: ignore[attr-defined]
    path.write_bytes(whole[:700])
    with pytest.raises(GftzooError, match="could not be read"):
        open_source(f"hf:{path}")
    path.write_bytes(gzip.compress(whole))
    with pytest.raises(GftzooError, match="is compressed; unpack it"):
        open_source(f"hf:{path}")
    assert open_source(f"stream:{path}").first_conditions(3) == THREE
    with pytest.raises(UsageError, match=r"has no label or caption column; it has png\. A sample is"):
        open_source(f"hf:{pack(tmp_path / 'y.tar', [('0.png', png(0))])}")


@pytest.mark.parametrize("ends", ["0..99999999999", "0..9999999999999999999999999999", "7..3"])
def test_a_range_of_shards_has_its_bounds(ends: str) -> None:
    with pytest.raises(UsageError, match=f"a range goes up, over at most {MOST:,} numbers"):
        find_shards(f"https://host/x{{{ends}}}.tar")


def test_what_becomes_of_colour_is_said(tmp_path: Path) -> None:
    for name, mode in (("red", "RGB"), ("grey", "L")):
        (tmp_path / name / "a").mkdir(parents=True)
        (tmp_path / name / "a" / "0.png").write_bytes(png(200, mode=mode))
    red, grey = (open_source(f"imagefolder:{tmp_path / name}") for name in ("red", "grey"))
    card, colour = get_card("dit-nano"), get_card("sd-nano")
    said = colour_change(red, card)
    assert (
        said
        == "Colour is dropped: tokenizer 'pixels-grey' of dit-nano takes grey images; -o tokenizer=pixels keeps it."
    )
    config = resolve("dit-nano", data=red.name, steps=1, options={"tokenizer": "pixels"})
    assert colour_change(red, config.card) is None and colour_change(grey, card) is None
    assert "three equal channels" in str(colour_change(grey, colour)) and colour_change(red, colour) is None
    assert "1 grey images" in preflight(grey, 8).sentence() and "1 colour images" in preflight(red, 8).sentence()


class Words:
    """A tokenizer whose tokens are words."""

    def num_special_tokens_to_add(self) -> int:
        return 2

    def tokenize(self, text: str) -> list[str]:
        return text.split()


def test_a_prompt_that_is_cut_is_told_of_once(caplog) -> None:
    for prompts in (["a b c"], ["a b c d\x1b"], ["a b c d e"]):
        tell_of_long_prompts(prompts, Words(), 5, "words")
    (record,) = caplog.records
    assert "reads 3 tokens of a prompt" in record.getMessage() and "one has 4: 'a b c d\\x1b'" in record.getMessage()
