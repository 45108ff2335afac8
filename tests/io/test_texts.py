"""Text files of any content give a text, or one sentence."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from stn3d.errors import InputError, shown, shown_text
from stn3d.io import read_label_table
from stn3d.io.pair_tables import read_pair_table
from stn3d.io.texts import (
    csv_rows,
    parse_json,
    parse_yaml,
    read_text,
    shown_path,
    without_surrogates,
)
from stn3d.report.many import report_of


def read(path: str | Path, most_mb: int = 1) -> str:
    return read_text(path, "list", "give a list", most_mb)


def test_rows_of_a_table_have_their_lines() -> None:
    rows = csv_rows(['a,"b', 'c"', "", "d"], "t.csv")
    assert rows == [(2, ["a", "bc"]), (3, []), (4, ["d"])]
    assert csv_rows(["a\tb"], "t.tsv", "\t") == [(1, ["a", "b"])]


def test_a_table_with_an_endless_cell_is_one_sentence(tmp_path: Path) -> None:
    path, long = tmp_path / "a.csv", "x" * 140_000
    path.write_text(f"fixed,moving\n{long},b\n")
    with pytest.raises(InputError, match=r"a\.csv, line 2: .*; check the quotation marks"):
        read_pair_table(path, ("fixed", "moving"))
    path.write_text(f"index,name\n{long},b\n")
    with pytest.raises(InputError, match=r"a\.csv: the line .* is no number with a name"):
        read_label_table(path)
    (tmp_path / "summary.csv").write_text(f"name,error\n{long},b\n")
    with pytest.raises(InputError, match=r"summary\.csv, line 2"):
        report_of([tmp_path])


@pytest.mark.parametrize(
    ("content", "text"), [(b"a\nb", "a\nb"), (b"\xef\xbb\xbfa", "a"), (b"", "")]
)
def test_utf8_with_and_without_byte_order_mark(content: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    assert read(tmp_path / "a") == text


def test_a_pipe_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_text("x,y"))
    writer.start()
    assert read(tmp_path / "pipe") == "x,y"
    writer.join()


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", "é".encode("latin-1"), b"a\x80"])
def test_other_encodings_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError, match="is not a text file; give a list"):
        read(tmp_path / "a")


def test_a_text_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1" * (2**20 + 1))
    with pytest.raises(InputError, match=r"the list .* is larger than 1 MB; give a list"):
        read(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"1" * 2**20)
    assert len(read(tmp_path / "a")) == 2**20


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a" * 300, "File name too long"),
        ("a\0b", "no file can have this name"),
        ("\ud800", "no file can have this name"),
        ("", "Is a directory"),
    ],
)
def test_impossible_paths(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"cannot read the list .*{reason}.*; check the path"):
        read(f"{tmp_path}/{name}")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no list .*missing; check the path"):
        read(tmp_path / "missing")


def test_paths_are_shortened_and_can_be_printed() -> None:
    assert len(shown_path("a" * 5000)) < 300
    assert shown_path("a\0\udc80") == "a\\0\\udc80"


@pytest.mark.parametrize("parse", [parse_json, parse_yaml])
@pytest.mark.parametrize("text", ["[" * 20_000, '{"a":' * 20_000, "[1,", "]", "\x00"])
def test_what_cannot_be_parsed_is_one_error(parse: object, text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse(text)  # type: ignore[operator]


@pytest.mark.parametrize(
    "text",
    ["a: 2001-99-99", "a: !!python/object/apply:os.system [true]", "? [a]\n: b", "a: *b", "\t-",
     "!!int x", "!!timestamp x", "!!binary é", "!!float x"],
)  # fmt: skip
def test_odd_yaml_is_one_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_yaml(text)


def test_halves_of_characters_are_replaced() -> None:
    assert without_surrogates(parse_json('"a\\ud800é"')) == "a?é"


def test_values_in_messages_are_short() -> None:
    bomb: object = "x"
    for _ in range(40):
        bomb = [bomb] * 9  # 9 ** 40 elements when written out
    for value in (bomb, "a" * 10**6, 10**5000, list(range(10**5)), {"a": bomb}, b"1" * 10**6):
        assert len(shown(value)) < 10_000
    assert shown(10**5000) == f"a number of {(10**5000).bit_length()} bits"
    assert shown("rigid") == "'rigid'"
    assert shown_text("rigid") == "rigid"
