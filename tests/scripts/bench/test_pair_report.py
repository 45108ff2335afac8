"""The page and the plot of results on pairs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.bench import pair_report
from scripts.bench.store import Results, write

COST = {"wall_s": 10.0, "cpu_s": 20.0, "peak_gb": 1.0}


def row(pair: str, tool: str, split: str = "", **metrics: Any) -> dict[str, Any]:
    common = {"pair": pair, "split": split, "tool": tool, "version": tool.split()[0] + " 1.0"}
    return common | COST | metrics


def result_of(*rows: dict[str, Any], **head: Any) -> Results:
    common = {"machine": "a machine", "versions": {}, "threads": 2, "command": "brains run"}
    return Results("brains", common | head, list(rows))


def markdown(*rows: dict[str, Any], plotted: bool = False) -> str:
    return "\n".join(pair_report.markdown(result_of(*rows), plotted))


def test_means_and_ratios_are_of_each_split_and_of_all() -> None:
    rows = [
        row("x", "stn3d fast", "held-out", dice=0.6, wall_s=5.0),
        row("x", "greedy", "held-out", dice=0.7, wall_s=10.0),
        row("y", "stn3d fast", "held-out", dice=0.8, wall_s=30.0),
        row("y", "greedy", "held-out", dice=0.9, wall_s=20.0),
        row("z", "stn3d fast", "tuning", dice=0.1, wall_s=70.0, log_jacobian_sd=None),
        {
            **{"pair": "z", "split": "tuning", "tool": "greedy", "version": "greedy 1.0"},
            "failed": "ended by SIGSEGV",
        },
    ]
    text = markdown(*rows, plotted=True)
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert heads == [
        "## Means, held-out pairs (2)",
        "## Cost of stn3d relative to other tools, held-out pairs (2)",
        "## Means, tuning pairs (1)",
        "## Means, all pairs (3)",
        "## Cost of stn3d relative to other tools, all pairs (3)",
        "## All runs",
    ]
    held_out = text.split("## Means, tuning")[0]
    assert "| tool | pairs | Dice | wall time, s | CPU time, s | peak RAM, GB |" in held_out
    assert "| stn3d fast | 2 | 0.7 | 17.5 | 20 | 1 |" in held_out
    assert "| greedy | 2 | 0.8 | 15 | 20 | 1 |" in held_out
    assert "| stn3d fast / greedy | 2 | 1 | 1 | 1 |" in held_out  # (5 / 10 + 30 / 20) / 2
    assert "| stn3d fast | 3 | 0.5 | 35 | 20 | 1 |" in text
    assert text.endswith("- greedy failed on z: ended by SIGSEGV")
    assert "](plot.svg)" in text
    assert "Versions: greedy 1.0, stn3d 1.0." in text
    (panel,) = pair_report.panels(result_of(*rows).done)
    assert panel[0] == "held-out pairs (2)"


def test_networks_are_compared_with_the_optimiser_pair_by_pair() -> None:
    rows = [
        row("x", "stn3d both", dice=0.68, wall_s=4.0),
        row("y", "stn3d both", dice=0.72, wall_s=9.0),
        row("x", "stn3d default", dice=0.67, wall_s=8.0),
        row("y", "stn3d default", dice=0.69, wall_s=9.0),
        row("z", "stn3d default", dice=0.99, wall_s=1.0),
        row("x", "greedy", dice=0.65, wall_s=40.0),
    ]
    text = markdown(*rows)
    assert "## Networks relative to the optimiser, all pairs (3)" in text
    head = "| network / optimiser | pairs | Dice, difference | wall time, ratio | CPU time, ratio |"
    assert f"{head} peak RAM, ratio |" in text
    # Over x and y: (0.01 + 0.03) / 2, (4 / 8 + 9 / 9) / 2.
    assert "| stn3d both / stn3d default | 2 | 0.02 | 0.75 | 1 | 1 |" in text
    assert "| stn3d both / greedy | 1 | 0.1 | 1 | 1 |" in text
    assert list(pair_report.places(rows, "dice")) == ["stn3d default", "stn3d both", "greedy"]
    assert "Networks" not in markdown(*rows[2:])


def test_pairs_without_splits_make_one_table() -> None:
    text = markdown(row("x", "greedy", true_error_mm=0.4))
    assert "## Means, all pairs (1)" in text
    assert "Cost of stn3d" not in text
    assert "svg" not in text
    assert "| greedy | 1 | 0.4 | 10 | 20 | 1 |" in text


def test_the_old_definition_of_hd95_is_named() -> None:
    assert "HD95, mm" in markdown(row("x", "greedy", hd95_mm=0.4))
    assert "larger of the two directed" in markdown(row("x", "greedy", hd95_mm=0.4))
    assert "pooled" not in markdown(row("x", "greedy", hd95_mm=0.4))
    text = markdown(row("x", "greedy", hd95_pooled_mm=0.4))
    assert "pooled P95 distance, mm" in text
    assert "HD95, mm" not in text


@pytest.mark.parametrize("quality", ["dice", "true_error_mm"])
def test_the_plot_names_every_tool_and_is_the_same_twice(quality: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    tools = ("stn3d default", "stn3d fast", "greedy")
    rows = [row("x", tool, **{quality: 0.5, "wall_s": 9.0 - i}) for i, tool in enumerate(tools)]
    found = pair_report.places(rows, quality)
    assert list(found) == ["stn3d fast", "stn3d default", "greedy"]
    assert found["greedy"] == (7.0, 0.5)
    write(tmp_path / "results.json", result_of(*rows))
    drawn = []
    for _ in range(2):
        pair_report.write_report(tmp_path, "Some pairs")
        drawn.append((tmp_path / "plot.svg").read_text(encoding="utf-8"))
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) < 50_000
    label = pair_report.QUALITIES[quality]
    titles = ("mean of all pairs (1)", f"Some pairs: {label.split(',')[0]} against wall time")
    for text in (*tools, *titles, "wall time, s", label):
        assert f">{text}<" in drawn[0]
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert page.startswith("# Some pairs\n\n    python -m scripts.bench brains run\n")
    assert "](plot.svg)" in page


def test_every_split_has_a_panel_where_none_is_held_out(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [
        row(name, "greedy", name, dice=0.5) for name in ("lungs", "abdomen", "prostate", "head")
    ]
    write(tmp_path / "results.json", result_of(*rows))
    pair_report.write_report(tmp_path, "Bodies")
    drawn = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert all(f">mean of {name} pairs (1)<" in drawn for name in ("lungs", "abdomen", "head"))
    assert "all pairs" not in drawn


def test_without_matplotlib_only_the_tables_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    write(tmp_path / "results.json", result_of(row("x", "greedy", dice=0.5)))
    pair_report.write_report(tmp_path, "Some pairs")
    assert capsys.readouterr().err == "No plot: matplotlib is not installed.\n"
    assert "svg" not in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert not (tmp_path / "plot.svg").exists()


def test_statuses_of_the_quality_check_are_counted() -> None:
    rows = [
        row(pair, "stn3d default", quality_status=status)
        for pair, status in (("a", "good"), ("b", "failed"), ("c", "good"))
    ]
    text = markdown(*rows)
    assert "| 2 / 0 / 1 |" in text
    assert text.count("| good |") == 2


def test_the_text_on_the_pairs_comes_first_and_before_has_no_cost(tmp_path: Path) -> None:
    rows = [row("x", "stn3d nmi", tre_mm=1.5, wall_s=6.0), row("x", "greedy", wall_s=12.0)]
    before = {"pair": "x", "split": "", "tool": "before", "version": "before", "tre_mm": 4.0}
    rows.append(before)
    write(tmp_path / "results.json", result_of(*rows, title="Points", about="Landmarks."))
    pair_report.write_report(tmp_path, "Other title", "Other text.")
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# Points\n\n    python")
    assert "\n\nLandmarks.\n\nMachine: a machine; threads: 2." in text
    assert "Other" not in text
    assert "| before | 1 | 4 |  |  |  |" in text
    assert "| stn3d nmi / greedy | 1 | 0.5 | 1 | 1 |" in text
    assert "/ before" not in text
