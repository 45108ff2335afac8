"""The benchmark's pairs, state, tables and plot; and, where a peer is installed, its conversion."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import benchmark  # noqa: E402
import benchmark_report  # noqa: E402
import peers  # noqa: E402

from stn3d.registration.settings import settings_from  # noqa: E402

HEADER = "name,split,fixed,moving,fixed_labels,moving_labels,true_transform\n"
COST = {"wall_s": 10.0, "cpu_s": 20.0, "peak_gb": 1.0}


def files(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def row(pair: str, tool: str, **figures: Any) -> dict[str, Any]:
    return {"pair": pair, "tool": tool, "version": tool.split()[0] + " 1.0"} | COST | figures


def result_of(*rows: dict[str, Any], **splits: str) -> dict[str, Any]:
    splits = {row["pair"]: "" for row in rows} | splits
    return {"machine": "a machine", "threads": 2, "splits": splits, "rows": list(rows)}


def test_a_csv_gives_absolute_paths_and_leaves_out_what_is_not_known(tmp_path: Path) -> None:
    files(tmp_path / "data", "a.nii", "b.nii", "t.h5")
    path = tmp_path / "pairs.csv"
    path.write_text(
        HEADER + "x,tuned,data/a.nii,data/b.nii,,,\ny,,data/b.nii,data/a.nii,,,data/t.h5\n"
    )
    a, b, t = (str((tmp_path / "data" / name).resolve()) for name in ("a.nii", "b.nii", "t.h5"))
    assert benchmark.read_pairs(path) == [
        {"name": "x", "split": "tuned", "fixed": a, "moving": b},
        {"name": "y", "fixed": b, "moving": a, "true_transform": t},
    ]


def test_a_folder_gives_a_pair_for_each_subfolder(tmp_path: Path) -> None:
    files(tmp_path / "images", "f.nii.gz", "f_labels.mha")
    files(tmp_path / "pairs" / "p2", "fixed.nrrd", "moving.nii")
    files(tmp_path / "pairs" / "p1", "moving.nii.gz", "moving_labels.nii.gz", "truth.h5")
    files(tmp_path / "pairs", "notes.md")
    p1, p2 = tmp_path / "pairs" / "p1", tmp_path / "pairs" / "p2"
    (p1 / "fixed.txt").write_text("../../images/f.nii.gz\n")
    (p1 / "fixed_labels.txt").write_text(str(tmp_path / "images" / "f_labels.mha"))
    (p2 / "split.txt").write_text("reported\n")
    first, second = benchmark.read_pairs(tmp_path / "pairs")
    images = {"fixed": "f.nii.gz", "fixed_labels": "f_labels.mha"}
    expected = {key: str((tmp_path / "images" / v).resolve()) for key, v in images.items()}
    expected |= {key: str((p1 / f"{key}.nii.gz").resolve()) for key in ("moving", "moving_labels")}
    assert first == expected | {"name": "p1", "true_transform": str((p1 / "truth.h5").resolve())}
    assert (second["name"], second["split"]) == ("p2", "reported")
    assert second["fixed"].endswith("p2/fixed.nrrd")
    assert second["moving"].endswith("p2/moving.nii")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("", "holds no pairs"),
        ("x,,a.nii,,,,\n", "the pair x has no moving image"),
        ("x,,a.nii,gone.nii,,,\n", "x: moving: no file"),
        ("x,,a.nii,a.nii,gone.nii,,\n", "x: fixed_labels: no file"),
        ("x,,a.nii,a.nii,,,\nx,,a.nii,a.nii,,,\n", "name 'x'"),
        (",,a.nii,a.nii,,,\n", "name None"),
    ],
)
def test_pairs_at_fault_are_told_in_one_sentence(rows: str, told: str, tmp_path: Path) -> None:
    files(tmp_path, "a.nii")
    (tmp_path / "pairs.csv").write_text(HEADER + rows)
    with pytest.raises(SystemExit, match=told):
        benchmark.read_pairs(tmp_path / "pairs.csv")


def test_no_pairs_file_is_told() -> None:
    with pytest.raises(SystemExit, match="neither a CSV file nor a folder"):
        benchmark.read_pairs(Path("nowhere.csv"))


def test_the_brains_are_split_into_tuned_and_reported(shared_data: Path) -> None:
    pairs = benchmark.read_pairs(SCRIPTS / "brains.csv")
    splits = [pair["split"] for pair in pairs]
    assert {split: splits.count(split) for split in splits} == {"tuned": 4, "reported": 8}
    for pair in pairs:
        fixed, moving = pair["name"].split(" <- ")
        assert [Path(pair[role]).name for role in benchmark.IMAGES] == [
            f"{fixed}_t1.nii.gz",
            f"{moving}_t1.nii.gz",
            f"{fixed}_labels.nii.gz",
            f"{moving}_labels.nii.gz",
        ]


def test_the_networks_pairs_are_twenty_that_nothing_was_tuned_on_and_one_that_was(
    shared_data: Path,
) -> None:
    tuned, *pairs = benchmark.read_pairs(SCRIPTS / "brains_networks.csv")
    names = [pair["name"] for pair in pairs]
    known = {pair["name"]: pair for pair in benchmark.read_pairs(SCRIPTS / "brains.csv")}
    assert (tuned["name"], tuned["split"]) == ("1000 <- 1001", "tuned")
    assert len(pairs) == 20
    assert {pair["split"] for pair in pairs} == {"reported"}
    reported = [pair for pair in known.values() if pair["split"] == "reported"]
    assert reported == [tuned | {"split": "reported"}, *pairs[:7]]
    people_of = [frozenset(name.split(" <- ")) for name in names]
    assert len(set(people_of)) == 20  # whichever of the two is fixed
    assert not {frozenset(name.split(" <- ")) for name in known} & set(people_of[7:])
    people = {p.name[:4] for p in (shared_data / "brains").glob("*_t1.nii.gz")}
    for role in (0, 1):
        assert {name.split(" <- ")[role] for name in names} == people
    for pair in (tuned, *pairs):
        files = [Path(pair[role]).name for role in benchmark.IMAGES]
        fixed, moving = pair["name"].split(" <- ")
        ends = [(fixed, "t1"), (moving, "t1"), (fixed, "labels"), (moving, "labels")]
        assert files == [f"{person}_{kind}.nii.gz" for person, kind in ends]


@pytest.mark.parametrize(
    ("tool", "localiser", "preset"),
    [
        ("stn3d accurate", "optimiser", "accurate"),
        ("stn3d network", "network", "default"),
        ("stn3d both fast", "both", "fast"),
    ],
)
def test_a_tool_of_stn3d_asks_for_its_localiser(
    tool: str, localiser: str, preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def stop(command: list[str], allowed: Sequence[int] = (0,)) -> dict[str, float]:
        commands.append(command)
        raise subprocess.CalledProcessError(1, command, stderr="enough")

    monkeypatch.setattr(benchmark, "timed", stop)
    pair = {"fixed": "f", "moving": "m"}
    config = tmp_path / "c.yaml"
    assert benchmark.run(tool, pair, 1, sys.executable, config) == {"failed": "enough"}
    words = commands[0][commands[0].index("--out") :]
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert options["--config"] == str(config)
    given = {key: options.get(f"--{key}") for key in ("localiser", "preset")}
    settings = settings_from(given)
    assert (settings.localiser, settings.preset) == (localiser, preset)


def test_a_missing_config_is_told(tmp_path: Path) -> None:
    command = ["pairs.csv", "--out", str(tmp_path / "r"), "--config", str(tmp_path / "gone.yaml")]
    with pytest.raises(SystemExit, match=r"--config: there is no file .*gone.yaml"):
        benchmark.main(command)


def test_a_missing_peer_is_said_in_one_line_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "HERE", tmp_path)
    (tmp_path / "peers.py").write_text("""print('{"greedy": null, "demons": "simpleitk 9"}')""")
    found = benchmark.available(["greedy", "stn3d fast", "demons"], sys.executable)
    assert list(found) == ["stn3d fast", "demons"]
    assert found["demons"] == "simpleitk 9"
    assert capsys.readouterr().err == "greedy is left out: picsl-greedy is not installed.\n"
    with pytest.raises(SystemExit, match="No tool is left"):
        benchmark.available(["greedy"], sys.executable)
    with pytest.raises(SystemExit, match="no tool is named 'gredy'; choose among stn3d fast"):
        benchmark.available(["gredy"], sys.executable)


def test_every_peer_tells_its_version_or_that_it_is_missing() -> None:
    command = [sys.executable, str(SCRIPTS / "peers.py"), "--versions"]
    told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert list(told) == list(peers.PEERS)
    assert told["demons"].startswith("simpleitk 2.")
    assert peers.Peer("no-such-package", peers.demons, peers.convert_demons).version() is None


def test_the_cost_of_a_process_is_its_own() -> None:
    busy = "import time; x = bytearray(300 << 20); end = time.process_time() + 0.3\n"
    cost = benchmark.timed([sys.executable, "-c", busy + "while time.process_time() < end: pass"])
    assert 0.3 <= cost["cpu_s"] < 3
    assert cost["wall_s"] >= 0.3
    assert 0.29 < cost["peak_gb"] < 3


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("print('some'); raise ValueError('of no use')", "ValueError: of no use"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL"),
        ("raise SystemExit(3)", "ended with code 3"),
    ],
)
def test_a_run_that_fails_is_a_row_of_its_own(
    code: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "HERE", tmp_path)
    (tmp_path / "peers.py").write_text(code)
    row = benchmark.run("demons", {"fixed": "f", "moving": "m"}, 1, sys.executable)
    assert row == {"failed": told}


def test_a_killed_run_goes_on_where_it_stood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path, "a.nii")
    (tmp_path / "pairs.csv").write_text(HEADER + "x,,a.nii,a.nii,,,\ny,,a.nii,a.nii,,,\n")
    calls: list[tuple[str, str]] = []
    last: list[str] = ["y"]

    def run(tool: str, pair: dict[str, str], *_: Any) -> dict[str, Any]:
        if pair["name"] in last:
            raise KeyboardInterrupt
        calls.append((pair["name"], tool))
        return {"failed": "so it is"} if (pair["name"], len(calls)) == ("x", 2) else dict(COST)

    monkeypatch.setattr(benchmark, "run", run)
    command = [str(tmp_path / "pairs.csv"), "--out", str(tmp_path / "out" / "r")]
    command += ["--tools", "stn3d fast,demons"]
    with pytest.raises(KeyboardInterrupt):
        benchmark.main(command)
    assert calls == [("x", "stn3d fast"), ("x", "demons")]
    last.clear()
    benchmark.main(command)
    assert calls[2:] == [("x", "demons"), ("y", "stn3d fast"), ("y", "demons")]
    benchmark.main(command)
    assert len(calls) == 5
    benchmark.main([*command, "--again"])
    assert len(calls) == 9
    written = json.loads((tmp_path / "out" / "r.json").read_text())
    assert [(r["pair"], r["tool"]) for r in written["rows"]] == [
        (pair, tool) for pair in "xy" for tool in ("stn3d fast", "demons")
    ]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["r.json", "r.md"]
    with pytest.raises(SystemExit, match="measured with threads 2, now it is 1"):
        benchmark.main([*command, "--threads", "1"])


def test_means_and_ratios_are_of_each_split_and_of_all() -> None:
    result = result_of(
        row("x", "stn3d fast", dice=0.6, wall_s=5.0),
        row("x", "greedy", dice=0.7, wall_s=10.0),
        row("y", "stn3d fast", dice=0.8, wall_s=30.0),
        row("y", "greedy", dice=0.9, wall_s=20.0),
        row("z", "stn3d fast", dice=0.1, wall_s=70.0, sd_log_jac=None),
        {"pair": "z", "tool": "greedy", "version": "greedy 1.0", "failed": "ended by SIGSEGV"},
        x="reported",
        y="reported",
        z="tuned",
    )
    text = benchmark_report.markdown(result, "r.svg")
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert heads == [
        "## Means, reported pairs (2)",
        "## Cost of stn3d over the peers', reported pairs (2)",
        "## Means, tuned pairs (1)",
        "## Means, all pairs (3)",
        "## Cost of stn3d over the peers', all pairs (3)",
        "## Every run",
    ]
    reported = text.split("## Means, tuned")[0]
    assert "| tool | pairs | Dice | wall s | CPU s | peak GB |" in reported
    assert "| stn3d fast | 2 | 0.7 | 17.5 | 20 | 1 |" in reported
    assert "| greedy | 2 | 0.8 | 15 | 20 | 1 |" in reported
    assert "| stn3d fast / greedy | 2 | 1 | 1 | 1 |" in reported  # (5 / 10 + 30 / 20) / 2
    assert "| stn3d fast | 3 | 0.5 | 35 | 20 | 1 |" in text
    assert text.endswith("- greedy failed on z: ended by SIGSEGV\n")
    assert "](r.svg)" in text
    assert "Versions: greedy 1.0, stn3d 1.0." in text
    assert benchmark_report.plotted(result)[0] == "reported pairs (2)"


def test_networks_stand_beside_the_optimiser_pair_by_pair() -> None:
    rows = [
        row("x", "stn3d both", dice=0.68, wall_s=4.0),
        row("y", "stn3d both", dice=0.72, wall_s=9.0),
        row("x", "stn3d default", dice=0.67, wall_s=8.0),
        row("y", "stn3d default", dice=0.69, wall_s=9.0),
        row("z", "stn3d default", dice=0.99, wall_s=1.0),
        row("x", "greedy", dice=0.65, wall_s=40.0),
    ]
    text = benchmark_report.markdown(result_of(*rows))
    assert "## Networks beside the optimiser, all pairs (3)" in text
    assert "| network / optimiser | pairs | Dice, difference | wall s | CPU s | peak GB |" in text
    # Over x and y: (0.01 + 0.03) / 2, (4 / 8 + 9 / 9) / 2.
    assert "| stn3d both / stn3d default | 2 | 0.02 | 0.75 | 1 | 1 |" in text
    assert "| stn3d both / greedy | 1 | 0.1 | 1 | 1 |" in text
    curve, others, networks = benchmark_report.places(rows, "dice")
    assert [list(found) for found in (curve, others, networks)] == [
        ["stn3d default"],
        ["greedy"],
        ["stn3d both"],
    ]
    assert "Networks" not in benchmark_report.markdown(result_of(*rows[2:]))


def test_pairs_without_splits_make_one_table() -> None:
    result = result_of(row("x", "greedy", error_mm=0.4))
    text = benchmark_report.markdown(result)
    assert "## Means, all pairs (1)" in text
    assert "Cost of stn3d" not in text
    assert "svg" not in text
    assert "| greedy | 1 | 0.4 | 10 | 20 | 1 |" in text


@pytest.mark.parametrize("quality", ["dice", "error_mm"])
def test_the_plot_names_every_tool_and_is_the_same_twice(quality: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    tools = ("stn3d default", "stn3d fast", "greedy")
    rows = [row("x", tool, **{quality: 0.5, "wall_s": 9.0 - i}) for i, tool in enumerate(tools)]
    result = result_of(*rows)
    curve, others, networks = benchmark_report.places(rows, quality)
    assert networks == {}
    assert list(curve) == ["stn3d fast", "stn3d default"]
    assert others == {"greedy": (7.0, 0.5)}
    (tmp_path / "r.json").write_text(json.dumps(result))
    drawn = []
    for _ in range(2):
        benchmark_report.main([str(tmp_path / "r.json")])
        drawn.append((tmp_path / "r.svg").read_text())
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) < 50_000
    for text in (*tools, "wall seconds", "Dice" if quality == "dice" else "error mm"):
        assert f">{text}<" in drawn[0]
    assert "](r.svg)" in (tmp_path / "r.md").read_text()


def test_without_matplotlib_the_tables_are_written_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    (tmp_path / "r.json").write_text(json.dumps(result_of(row("x", "greedy", dice=0.5))))
    benchmark_report.main([str(tmp_path / "r.json")])
    assert capsys.readouterr().err == "No plot: matplotlib is not installed.\n"
    assert "svg" not in (tmp_path / "r.md").read_text()
    assert not (tmp_path / "r.svg").exists()


def blobs(shift: float, origin: tuple[float, float, float]) -> sitk.Image:
    """A body of blobs on an oblique grid of 3 x 4 x 3 mm voxels."""
    size, spacing = (40, 36, 44), (3.0, 4.0, 3.0)
    noise = np.random.default_rng(5).standard_normal((size[2], size[1], size[0]))
    texture = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(noise.astype("f4")), 2.0)
    texture = sitk.GetArrayFromImage(texture)
    z, y, x = (np.linspace(-1.5, 1.5, n) for n in noise.shape)
    radius = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + (x - shift) ** 2)
    body = (1000 + 3000 * texture) / (1 + np.exp(12 * (radius - 1)))
    image = sitk.GetImageFromArray(body.astype("f4"))
    image.SetSpacing(spacing)
    image.SetDirection((0.0, 1.0, 0.0, -0.8, 0.0, 0.6, 0.6, 0.0, 0.8))
    image.SetOrigin(origin)
    return image


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in peers.PEERS if name != "ants-synquick"])
def test_a_converted_transform_gives_the_peers_own_moved_image(name: str, tmp_path: Path) -> None:
    if not peers.PEERS[name].version():
        pytest.skip(f"{peers.PEERS[name].package} is not installed")
    paths = [tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz"]
    fixed, moving = blobs(0.0, (10.0, -20.0, 30.0)), blobs(0.15, (4.0, -10.0, 20.0))
    for image, path in zip((fixed, moving), paths, strict=True):
        sitk.WriteImage(image, str(path))
    out = tmp_path / "out"
    command = [sys.executable, str(SCRIPTS / "peers.py"), name, *map(str, (*paths, out))]
    for last in ("2", "--convert"):
        subprocess.run([*command, last], check=True, capture_output=True)
    elastix = {"elastix": "result.1.nii", "elastix-rigid": "result.0.nii"}
    own = out / elastix.get(name, "moved.nii.gz")
    order = sitk.sitkBSpline if name in elastix else sitk.sitkLinear
    moved = sitk.GetArrayFromImage(sitk.ReadImage(str(own), sitk.sitkFloat32))
    transform = sitk.ReadTransform(str(out / "transform.h5"))
    if name == "ants-rigid":
        moving -= float(sitk.GetArrayViewFromImage(moving).min())
    mine = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, order))
    gap = np.abs(moved - mine) / np.ptp(mine)
    assert np.percentile(gap, 99) < 1e-3
    still = sitk.GetArrayFromImage(sitk.Resample(moving, fixed))
    assert np.percentile(np.abs(moved - still) / np.ptp(mine), 90) > 0.02  # it did move


def test_any_options_of_stn3d_are_a_tool_and_before_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = "stn3d --kind rigid --metric nmi"
    found = benchmark.available([tool, "before"], sys.executable)
    assert found == {tool: f"stn3d {benchmark.version('stn3d')}", "before": "before"}
    commands: list[list[str]] = []

    def timed(command: list[str], allowed: Sequence[int] = (0,)) -> dict[str, float]:
        commands.append(command)
        assert allowed == (0, 3)  # stn3d says itself that an outcome is of no use
        return dict(COST)

    monkeypatch.setattr(benchmark, "timed", timed)
    cost = benchmark.registered(tool, ("f", "m"), tmp_path, 2, further=["--seed", "1"])
    assert cost == COST
    assert commands[0][-6:] == ["--kind", "rigid", "--metric", "nmi", "--seed", "1"]
    monkeypatch.setattr(benchmark, "scored", lambda pair, path: {"dice": 0.5, "path": path})
    row = benchmark.run("before", {"fixed": "f", "moving": "m"}, 1, sys.executable)
    assert row == {"dice": 0.5, "path": None}
    assert len(commands) == 1


def test_a_tool_may_ask_for_files_of_the_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(benchmark, "timed", lambda command, allowed: commands.append(command) or {})
    monkeypatch.setattr(benchmark, "scored", lambda pair, path: {"dice": 0.5})
    monkeypatch.setattr(benchmark, "verdict", lambda out: {"verdict": "check"})
    pair = {"fixed": "f", "moving": "m", "fixed_labels": "fl", "moving_labels": "ml"}
    row = benchmark.run("stn3d by labels", pair, 1, sys.executable)
    assert row == {"dice": 0.5, "verdict": "check"}
    assert commands[0][commands[0].index("--moving-labels") + 1] == "ml"
    row = benchmark.run("stn3d by labels", {"fixed": "f", "moving": "m"}, 1, sys.executable)
    assert row == {"failed": "the pair has no fixed_labels"}


def test_verdicts_are_counted_and_told() -> None:
    rows = [
        {"pair": p, "tool": "stn3d default", "version": "1", **COST, "verdict": word}
        for p, word in (("a", "good"), ("b", "failed"), ("c", "good"))
    ]
    result = {"machine": "m", "threads": 1, "rows": rows, "splits": dict.fromkeys("abc", "")}
    text = benchmark_report.markdown(result)
    assert "| 2 / 0 / 1 |" in text
    assert text.count("| good |") == 2


def test_landmarks_of_a_pair_are_scored(tmp_path: Path) -> None:
    folder = tmp_path / "pairs" / "p"
    folder.mkdir(parents=True)
    for role, x in (("fixed", 10.0), ("moving", 12.0)):
        sitk.WriteImage(blobs(0.0, (10.0, -20.0, 30.0)), str(folder / f"{role}.nii.gz"))
        (folder / f"{role}_points.csv").write_text(f"x,y,z\n{x},0,0\n{x},5,7\n")
    (pair,) = benchmark.read_pairs(tmp_path / "pairs")
    assert benchmark.scored(pair, None)["tre_mm"] == pytest.approx(2.0)


def test_what_a_page_is_about_stands_at_its_head_and_before_costs_nothing() -> None:
    rows = [row("x", "stn3d nmi", tre_mm=1.5, wall_s=6.0), row("x", "greedy", wall_s=12.0)]
    rows.append({"pair": "x", "tool": "before", "version": "before", "tre_mm": 4.0})
    text = benchmark_report.markdown(result_of(*rows) | {"about": "Of landmarks."})
    assert text.startswith("Of landmarks.\n\nMachine: a machine; 2 threads.")
    assert "| before | 1 | 4 |  |  |  |" in text
    assert "| stn3d nmi / greedy | 1 | 0.5 | 1 | 1 |" in text
    assert "/ before" not in text
