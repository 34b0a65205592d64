"""YAML and JSON within bounds, and text that a terminal would obey."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from gftzoo import documents
from gftzoo.documents import DocumentError, Limits, parse_json, parse_value, parse_yaml, read_json, read_yaml
from gftzoo.errors import UsageError
from gftzoo.printing import plain, plain_lines, words

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{','.join([f'*{a}'] * 10)}]}}\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
BAD_YAML = {
    "alias bomb": (BOMB, "aliases counted"),
    "merge bomb": (MERGES, "aliases counted"),
    "alias inside itself": ("&a [*a]", "'a' stands inside"),
    "flow depth": ("[" * 100_000, "nest"),
    "block depth": ("- " * 100_000 + "x", "deeper than 64"),
    "many values": ("[" + "1," * 200_000 + "]", "more than 100,000 values"),
    "large": ("# " + "x" * 5_000_000, "4,194,304 characters"),
    "number in base 60": ("x: " + "1:" * 100_000 + "1", "plain value"),
    "base 60 past a float": ("x: " + "1:" * 1000 + "1.5", "not valid YAML"),
    "integer of 10,000 digits": ("x: " + "9" * 10_000, "not valid YAML"),
    "hexadecimal of 10,000 digits": ("x: 0x" + "f" * 10_000, "128 bits"),
    "python tag": ("!!python/object/apply:os.system [echo]", "tag"),
    "binary tag": ("!!binary aGk=", "tag"),
    "empty number": ('!!int ""', "not valid YAML"),
    "no boolean": ("!!bool x", "not valid YAML"),
    "unknown alias": ("*nothing", "line 1"),
    "escape": ("a: \x1b[31m", "not valid YAML"),
    "lone surrogate": ("a: \ud800", "not valid YAML"),
    "list as a key": ("? [1]\n: 2", "unhashable"),
    "two documents": ("a\n---\nb", "not valid YAML, line"),
}
BAD_JSON = {
    "depth": ("[" * 100_000, "nests"),
    "depth within the interpreter's": ("[" * 80 + "]" * 80, "deeper than 64"),
    "many values": ("[" + "1," * 1_000_001 + "1]", "more than 1,000,000 values"),
    "large": ('"' + "x" * 17_000_000 + '"', "characters"),
    "integer of 10,000 digits": ("9" * 10_000, "not valid JSON"),
    "large integer": ("9" * 1000, "128 bits"),
    "cut": ('{"a": 1', "line 1"),
    "empty": ("", "not valid JSON"),
}


@pytest.mark.parametrize("case", BAD_YAML)
def test_yaml_past_a_limit_is_refused_before_it_is_built(case: str) -> None:
    text, cause = BAD_YAML[case]
    start = time.process_time()
    with pytest.raises(DocumentError, match=r"^the card cannot be read: [^\n]*\.$") as refusal:
        parse_yaml(text, "the card")
    assert cause in str(refusal.value)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("case", BAD_JSON)
def test_json_past_a_limit_is_refused(case: str) -> None:
    text, cause = BAD_JSON[case]
    with pytest.raises(DocumentError, match=r"^the state cannot be read: [^\n]*\.$") as refusal:
        parse_json(text, "the state")
    assert cause in str(refusal.value)


def test_aliases_within_the_limits_are_read() -> None:
    assert parse_yaml("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}", "it") == {
        "a": {"x": 1},
        "b": {"x": 1},
        "c": {"x": 1, "y": 2},
    }
    assert parse_yaml("name: 2024-01-01", "it") == {"name": "2024-01-01"}
    nested = Limits(depth=3)
    assert parse_yaml("[[[1]]]", "it", nested) == parse_json("[[[1]]]", "it", nested) == [[[1]]]
    for parse in (parse_yaml, parse_json):
        with pytest.raises(DocumentError, match="deeper than 3"):
            parse("[[[[1]]]]", "it", nested)


def test_a_value_of_the_command_line_is_a_usage_error() -> None:
    assert parse_value("[1, 2]", "setting 'x'") == [1, 2]
    with pytest.raises(UsageError, match="setting 'x' cannot be read: it is not valid YAML"):
        parse_value("[1, 2", "setting 'x'")


def test_a_file_is_read_within_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text('{"a": [1, 2.5, null, true, "x"]}')
    assert read_yaml(path) == read_json(path) == {"a": [1, 2.5, None, True, "x"]}
    path.write_bytes(b"a: \xff")
    with pytest.raises(DocumentError, match=r"file' cannot be read: it is not UTF-8 text \(byte 3\)"):
        read_yaml(path)
    with path.open("wb") as file:
        file.truncate(documents.YAML.bytes + 1)
    with pytest.raises(DocumentError, match="4,194,305 bytes, more than"):
        read_yaml(path)
    for missing, cause in ((tmp_path / "none", "no such file"), (tmp_path, "not a file"), (Path("a\0b"), "null")):
        with pytest.raises(DocumentError, match=cause):
            read_json(missing)


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DocumentError, match="it is not a file"):
        read_yaml(tmp_path / "pipe")


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise SystemExit(4)


class Deceiving(str):
    def __str__(self) -> str:
        return "\x1b[2J"

    def isprintable(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Fréchet 距離 👩‍🚀 [bold]", "Fréchet 距離 👩‍🚀 [bold]"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("lone \ud800", r"lone \ud800"),
        ("two\nlines\tand\r\nmore\u2028", "two lines and more"),
        ("\x9b31m\x85", r"\x9b31m"),
        (Deceiving("name"), "name"),
        (UnprintableError(), "(cannot be printed)"),
        (None, "None"),
    ],
)
def test_nothing_that_is_printed_is_obeyed(text: object, shown: str) -> None:
    assert plain(text) == shown
    assert plain(text).isprintable() or "\u200d" in shown


def test_what_is_printed_is_cut() -> None:
    assert plain("x" * 10**7, 10) == "x" * 7 + "..."
    assert len(plain("\x1b" * 10**6)) == 4000
    assert plain_lines("a\n\tb\x1b\n") == "a\n    b\\x1b\n"


def test_any_error_has_words() -> None:
    class Meta(type):
        @property
        def __name__(cls) -> str:
            raise KeyError

    nameless = Meta("X", (Exception,), {})
    assert words(ValueError("one\ntwo")) == "ValueError: one"
    assert words(UnprintableError()) == "UnprintableError: (cannot be printed)"
    assert words(nameless("why")) == "an error without a name: why"
    assert words(KeyError()) == "KeyError"
