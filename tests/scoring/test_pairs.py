"""Tables of pairs: reading, metrics of each pair, summaries and comparisons."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from stn3d.errors import InputError
from stn3d.evaluation import EvaluationOptions
from stn3d.scoring import evaluate_pairs, label_table_csv, pairs_json, read_pairs
from tests.helpers.paths import ROOT
from tests.scoring.cases import HEADER, write_pair, write_table

PAGE = ROOT / "docs" / "evaluation.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pairs")
    write_pair(made)
    return made


def test_a_table_is_evaluated_summarised_and_compared(folder: Path) -> None:
    rows, seen = read_pairs(write_table(folder)), []
    results = list(evaluate_pairs(rows, progress=lambda number, row: seen.append((number, row))))
    assert seen == list(enumerate(rows))
    found = pairs_json(results)
    json.dumps(found, allow_nan=False)
    assert [(one["pair"], one["method"]) for one in found["pairs"]] == [
        *(("0", "good"), ("0", "half"), ("1", "good"), ("1", "half")),
    ]
    assert list(found["summary"]) == ["good", "half"]
    half = found["summary"]["half"]
    assert half["tre_mm.mean"]["mean"] == pytest.approx(2, abs=1e-3)
    assert half["dice"]["n"] == 2
    assert half["dice"]["mean"] == pytest.approx(found["pairs"][1]["metrics"]["dice"])
    (tre,) = [one for one in found["comparisons"] if one["metric"] == "tre_mm.mean"]
    assert (tre["first"], tre["second"], tre["n"], tre["better"]) == ("good", "half", 2, None)
    assert tre["mean_difference"] == pytest.approx(-2, abs=1e-3)
    assert tre["interval"] == pytest.approx([-2, -2], abs=1e-3)


def test_the_page_lists_the_keys_of_many_pairs(folder: Path) -> None:
    text = PAGE.read_text(encoding="utf-8").split("## JSON of many pairs")[1]
    listed = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    found = pairs_json(list(evaluate_pairs(read_pairs(write_table(folder)))))
    keys = set()
    for key, value in found.items():
        keys.add(key)
        if key == "summary":
            keys |= {"summary.<method>", "summary.<method>.<metric>"}
            one = value["good"]["dice"]
            keys |= {f"summary.<method>.<metric>.{inner}" for inner in one}
        elif isinstance(value, list | dict):
            one = value[0] if isinstance(value, list) else value
            keys |= {f"{key}.{inner}" for inner in one}
    assert keys == listed


def test_labels_that_are_warped_already_are_a_method_too(folder: Path) -> None:
    table = folder / "moved.tsv"
    lines = [
        "method\tfixed_labels\tmoving_labels\tmoved_labels\ttransform\tfixed\tmoving",
        "ours\tfixed_labels.nii.gz\tmoving_labels.nii.gz\t\thalf.h5\tfixed.nii.gz\tmoving.nii.gz",
        "theirs\tfixed_labels.nii.gz\tmoving_labels.nii.gz\thalf_moved.nii.gz\t\tfixed.nii.gz"
        "\tmoving.nii.gz",
    ]
    table.write_text("\n".join(lines), encoding="utf-8")
    rows = read_pairs(table)
    assert {row.pair for row in rows} == {"fixed.nii.gz <- moving.nii.gz"}
    found = pairs_json(list(evaluate_pairs(rows, EvaluationOptions(tolerance_mm=1.0))))
    same = {one["metric"]: one["mean_difference"] for one in found["comparisons"]}
    assert same == dict.fromkeys(
        ["dice", "nsd", "hd95_mm", "hd95_pooled_mm", "hausdorff_mm", "assd_mm"], 0
    )


def test_the_csv_has_a_row_for_each_label_and_the_reasons(folder: Path) -> None:
    options = EvaluationOptions(labels=[1, 9], names={1: "body, whole"})
    results = list(evaluate_pairs(read_pairs(write_table(folder, 1)), options))
    text = label_table_csv([({"method": one.row.method}, one.evaluation) for one in results])
    rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(text)))
    assert [(row["method"], row["label"], row["name"]) for row in rows] == [
        *(("good", "1", "body, whole"), ("good", "9", "")),
        *(("half", "1", "body, whole"), ("half", "9", "")),
    ]
    one = results[0].evaluation.labels[1]
    assert (float(rows[0]["dice"]), float(rows[0]["assd_mm"])) == (one.dice, one.assd_mm)
    assert int(rows[0]["fixed_voxels"]) == one.fixed_voxels
    assert (rows[1]["dice"], rows[1]["omitted"]) == ("", "in neither label map")
    assert "nsd" not in rows[0]


def test_transforms_may_have_prefixes_and_no_method(folder: Path) -> None:
    table = folder / "prefix.csv"
    table.write_text(
        "fixed,moving,transform\nfixed.nii.gz,moving.nii.gz,inverse:inverse:good.h5\n",
        encoding="utf-8",
    )
    (row,) = read_pairs(table)
    assert row.files["transform"] == f"inverse:inverse:{folder / 'good.h5'}"
    (result,) = evaluate_pairs([row])
    assert result.evaluation.image["correlation"] > 0.99
    assert list(pairs_json([result])["summary"]) == [""]


PAIR = "fixed.nii.gz,moving.nii.gz"
BAD = {
    "": "is empty",
    "fixed,moving\n": "no pairs",
    f"fixed,movng\n{PAIR}\n": "did you mean moving",
    f"fixed,fixed\n{PAIR}\n": "two columns",
    "fixed,moving\nfixed.nii.gz\n": "line 2: no moving",
    f"fixed,moving\n{PAIR},x\n": "line 2: 3 cells for 2 columns",
    "fixed,moving\nfixed.nii.gz,none.nii.gz\n": "there is no moving",
    f"fixed,moving\n{PAIR}\n{PAIR}\n": "lines 2 and 3",
    "moved_labels\nhalf_moved.nii.gz\n": "line 2: no fixed_labels",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_tables_are_refused(text: str, folder: Path) -> None:
    table = folder / "bad.csv"
    table.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=BAD[text]):
        read_pairs(table)


def test_a_pair_that_cannot_be_evaluated_is_named(folder: Path) -> None:
    table = folder / "broken.csv"
    row = "1,a,fixed.nii.gz,moving.nii.gz,none.h5,,,,"
    table.write_text(f"{HEADER}\n{row}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"line 2 \(1\): "):
        list(evaluate_pairs(read_pairs(table)))
