"""The result format: rows are kept, replaced and resumed; files are complete or absent."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from scripts.bench.machine import versions
from scripts.bench.store import Results, Store, read, write

HEAD = {"machine": "a machine", "threads": 2}
KEYS = ("a", "b")


def a_store(path: Path, **changes: object) -> Store:
    return Store(path, "study", KEYS, HEAD | changes, command="study run")


def test_rows_are_kept_and_replaced_by_their_keys(tmp_path: Path) -> None:
    store = a_store(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    for value in (1, 2):
        store.add({"a": 1, "b": 2, "x": value})
    assert a_store(tmp_path / "new").rows == [{"a": 1, "b": 2, "x": 2}]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["results.json"]


def test_only_missing_and_failed_rows_are_measured(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    store.add({"a": 1, "b": 2, "x": 0})
    store.add({"a": 3, "b": 4, "failed": "no memory"})
    wanted = [{"a": 1, "b": 2}, {"a": 3, "b": 4}, {"a": 5, "b": 6}]
    store.measure(wanted, lambda row: {"x": row["a"]})
    first, *others = store.rows
    assert first["x"] == 0
    assert others == [{"a": 3, "b": 4, "x": 3}, {"a": 5, "b": 6, "x": 5}]
    store.measure(wanted, lambda row: {"x": 9}, again=True)
    assert [row["x"] for row in read(tmp_path).rows] == [9, 9, 9]


def test_other_conditions_are_another_measurement(tmp_path: Path) -> None:
    a_store(tmp_path).add({"a": 1, "b": 2})
    with pytest.raises(SystemExit, match=r"measured with threads 2, now it is 1.*another --out"):
        a_store(tmp_path, threads=1)
    with pytest.raises(SystemExit, match="measured with study 'study', now it is 'other'"):
        Store(tmp_path, "other", KEYS, HEAD)


def test_the_head_names_the_study_the_machine_and_the_versions(tmp_path: Path) -> None:
    a_store(tmp_path).add({"a": 1, "b": 2})
    Store(tmp_path, "study", KEYS, HEAD, {"title": "A title"}, "study run --again").add(
        {"a": 3, "b": 4}
    )
    content = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert list(content)[:2] == ["schema_version", "study"]
    assert list(content)[-1] == "rows"
    assert content["study"] == "study"
    assert content["versions"] == versions()
    assert content["title"] == "A title"
    assert content["command"] == "study run"  # the first one
    assert (
        len((tmp_path / "results.json").read_text(encoding="utf-8").splitlines())
        == len(content) + 5
    )


def test_nan_and_infinity_become_null(tmp_path: Path) -> None:
    a_store(tmp_path).add({"a": 1, "b": 2, "x": {"y": [math.nan, math.inf, 1.0]}})
    assert read(tmp_path).rows == [{"a": 1, "b": 2, "x": {"y": [None, None, 1.0]}}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"study": "s", "rows": [', "is damaged"),
        ("[]", "is damaged"),
        ('{"rows": []}', "is damaged"),
        ('{"schema_version": 2, "study": "s", "rows": []}', "has schema version 2; expected 1"),
    ],
)
def test_damaged_files_are_reported(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(SystemExit, match=message):
        read(tmp_path)
    with pytest.raises(SystemExit, match=message):
        a_store(tmp_path)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="There is no file"):
        read(tmp_path)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    results = Results("study", HEAD, [{"a": 1}, {"a": 2, "failed": "no"}])
    write(tmp_path / "results.json", results)
    found = read(tmp_path / "results.json")
    assert (found.study, found.head, found.rows) == (results.study, results.head, results.rows)
    assert (found.done, found.failed) == ([{"a": 1}], [{"a": 2, "failed": "no"}])
