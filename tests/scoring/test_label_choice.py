"""Labels named by numbers, ranges and names."""

from __future__ import annotations

import pytest

from stn3d.errors import InputError
from stn3d.scoring import chosen_labels

NAMES = {4: "Left-Ventricle", 17: "Left-Hippocampus", 53: "Right-Hippocampus", 60: "7-9"}


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("4", [4]),
        (" 12, 10-13 ,4,", [12, 10, 11, 13, 4]),
        ("left-hippocampus,4", [17, 4]),
        ("7-9", [60]),  # a name wins over a range
        ("614454277", [614454277]),
    ],
)
def test_labels_are_those_of_the_text(text: str, labels: list[int]) -> None:
    assert chosen_labels(text, NAMES) == labels


@pytest.mark.parametrize(
    ("text", "names", "words"),
    [
        ("hippocampus", {}, "give --label-table"),
        ("Left-Hipocampus", NAMES, "did you mean left-hippocampus"),
        ("13-10", {}, "give 10-13"),
        ("0-3", {}, "background"),
        (" , ", {}, "no label"),
        ("1-999999999", {}, "shorter ranges"),
        ("1.5", {}, "no number or range"),
        ("-3", {}, "no number or range"),
        ("9" * 30, {}, "no number or range"),
    ],
)
def test_other_texts_are_refused(text: str, names: dict[int, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        chosen_labels(text, names)
