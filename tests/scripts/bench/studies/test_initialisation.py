"""Random initial poses: what is drawn, the truth in the header, resuming, and the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.bench import paths
from scripts.bench.__main__ import main
from scripts.bench.store import RESULTS_FILE, Results, read, write
from scripts.bench.studies.initialisation import measure, page, reference
from scripts.bench.studies.initialisation.poses import Pose, Trial, random_pose
from stn3d.grid import Grid
from stn3d.io import read_image
from stn3d.transforms import Affine
from stn3d.warp import warp_image

HEAD = {"machine": "a machine", "versions": {}, "command": "", "threads": 1, "seed": 4}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data with four small brains and a person's contrasts: blobs off the middle."""
    folder = tmp_path / "shared" / "data"
    x, y, z = np.meshgrid(*[np.arange(n) for n in (40, 44, 36)], indexing="ij")
    inside = ((x - 18) / 14) ** 2 + ((y - 24) / 16) ** 2 + ((z - 17) / 12) ** 2 < 1
    waves = np.sin(x / 3.1) + np.sin(y / 4.3 + x / 9) + np.sin(z / 2.7)
    values = (inside * (1000 + 250 * waves)).astype(np.int16)
    origin = 0
    for name in (*(f"brains/{n}_t1" for n in range(4)), "contrasts/p07_t1", "contrasts/p07_t2"):
        affine = np.diag([-4.0, 4.0, 4.0, 1.0])
        affine[1, 3] = origin
        origin += 50 if name.startswith("brains") else 0
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(values, affine), folder / f"{name}.nii.gz")
    monkeypatch.setattr(paths, "SHARED", folder.parent)
    return folder


def grid() -> Grid:
    return Grid((40, 44, 36), torch.diag(torch.tensor([-2.0, 2.0, 2.0, 1.0]).double()))


def test_a_pose_depends_on_the_seed_and_its_number_alone(data: Path) -> None:
    assert random_pose(4, 6) == random_pose(4, 6)
    assert len({random_pose(4, i).shift_mm for i in range(8)}) == 8
    assert random_pose(4, 6).scale != random_pose(5, 6).scale


def test_poses_fill_the_ranges_and_no_more(data: Path) -> None:
    drawn = [random_pose(4, i) for i in range(200)]
    angles = np.array([s.angle_deg for s in drawn])
    shifts = np.array([s.shift_mm for s in drawn])
    scales = np.array([s.scale for s in drawn])
    assert angles.max() <= 60
    assert np.abs(np.histogram(angles, 3, (0, 60))[0] - 200 / 3).max() < 25
    assert 38 < np.abs(shifts).max() <= 40
    assert 0.8 <= scales.min() < 0.82
    assert 1.22 < scales.max() <= 1.25
    assert np.linalg.norm(np.mean([s.rotation_rad for s in drawn], axis=0)) < 0.15


def test_kinds_take_turns_and_everybody_is_fixed_and_moving(data: Path) -> None:
    drawn = [random_pose(4, i) for i in range(80)]
    assert [s.kind for s in drawn[:4]] == ["brains", "contrasts"] * 2
    assert {s.moving for s in drawn if s.kind == "contrasts"} == {
        "contrasts/p07_t2",
        "contrasts/p07_flair",
    }
    brains = [s for s in drawn if s.kind == "brains"]
    assert all(s.fixed != s.moving for s in brains)
    assert len({s.fixed for s in brains}) == len({s.moving for s in brains}) == 4


def test_a_pose_without_rotation_and_shift_shares_the_middle() -> None:
    still = Pose(0, "brains", "a", "b", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.25)
    fixed, moving = grid(), Grid((30, 30, 30), grid().world_from_index)
    displaced = still.displacement(fixed, moving)
    torch.testing.assert_close(displaced(moving.centre_mm), fixed.centre_mm)
    step = torch.tensor([4.0, 0.0, 0.0]).double()
    gap = displaced(moving.centre_mm + step) - displaced(moving.centre_mm)
    torch.testing.assert_close(gap, 1.25 * step)


def test_the_truth_maps_into_the_displaced_header(data: Path, tmp_path: Path) -> None:
    """One person: by the truth the displaced image is the fixed one, which has the same voxels."""
    trial = Trial(random_pose(4, 9), Affine.identity(3))
    path = tmp_path / "moving.nii"
    trial.write_moving(path)
    fixed, moving = read_image(data / "contrasts/p07_t1.nii.gz"), read_image(path)
    assert torch.equal(moving.values, fixed.values)
    assert not moving.grid.same_as(fixed.grid)
    moved = warp_image(moving.values, moving.grid, trial.truth, fixed.grid)
    inner = (slice(None), slice(None), *[slice(1, -1)] * 3)
    assert (moved - fixed.values)[inner].abs().max() < 1


def test_the_error_is_in_mm_of_the_moving_person(data: Path) -> None:
    start = random_pose(4, 9)
    trial = Trial(start, Affine.identity(3))
    assert trial.error_mm(trial.truth) < 1e-9
    shift = torch.eye(4).double()
    shift[0, 3] = 2.0
    wrong = Affine.from_matrix(trial.truth.matrix @ shift)  # 2 mm off before the start's scale
    assert trial.error_mm(wrong) == pytest.approx(2.0)


def test_the_reference_of_two_people_is_searched_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def searched(*args: Any) -> dict[str, Any]:
        asked.append(args)
        return {"found": "greedy", "matrix": (2 * torch.eye(4)).tolist()}

    monkeypatch.setattr(reference, "searched", searched)
    cache = tmp_path / "new" / "references.json"
    monkeypatch.setattr(reference, "has_greedy", lambda _: False)
    with pytest.raises(SystemExit, match="has no reference"):
        reference.reference(random_pose(4, 0), cache, "python")
    monkeypatch.setattr(reference, "has_greedy", lambda _: True)
    first, again = (reference.reference(random_pose(4, 0), cache, "python") for _ in range(2))
    assert len(asked) == 1
    assert torch.equal(first.matrix, again.matrix)
    assert [row["pair"] for row in read(cache).rows] == [random_pose(4, 0).pair]
    one_person = reference.reference(random_pose(4, 1), cache, "python")
    assert torch.equal(one_person.matrix, torch.eye(4).double())


def test_the_affine_loss_is_least_at_the_truth(data: Path) -> None:
    path = data / "contrasts/p07_t1.nii.gz"
    loss = reference.affine_loss(path, data / "contrasts/p07_t2.nii.gz")
    shift = torch.eye(4).double()
    shift[0, 3] = 3.0
    assert loss(Affine.identity(3)) < 0.01 < loss(Affine.from_matrix(shift))


def run(tmp_path: Path, *more: str) -> list[dict[str, Any]]:
    common = ["--out", str(tmp_path / "out"), "--references", str(tmp_path / "references.json")]
    main(["initialisation", "run", *common, "--count", "2", "--methods", "default", *more])
    return read(tmp_path / "out").rows


def test_an_interrupted_run_continues(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured = []

    def metrics(trial: Trial, method: str, *_: Any) -> dict[str, Any]:
        measured.append(trial.pose.index)
        return row(trial.pose.index, method, 1.0)

    monkeypatch.setattr(measure, "measured", metrics)
    monkeypatch.setattr(measure, "reference", lambda *_: Affine.identity(3))
    assert len(run(tmp_path)) == 2
    assert measured == [0, 0, 1]  # the first is not counted
    results = read(tmp_path / "out")
    write(tmp_path / "out" / RESULTS_FILE, Results(results.study, results.head, results.rows[:1]))
    assert [row["index"] for row in run(tmp_path)] == [0, 1]
    assert measured == [0, 0, 1, 1, 1]
    run(tmp_path)
    assert len(measured) == 5
    assert [row["index"] for row in run(tmp_path, "--again")] == [0, 1]
    assert len(measured) == 8
    with pytest.raises(SystemExit, match="was measured with seed 4, now it is 5"):
        run(tmp_path, "--seed", "5")


def test_registration_from_a_pose_is_measured(data: Path) -> None:
    """From the headers, for these blobs look alike from many sides; a far start must fail."""
    near = Pose(
        1, "contrasts", *["contrasts/p07_t1", "contrasts/p07_t2"], (0.1, 0, 0), (5, 0, 0), 1
    )
    row = measure.measured(Trial(near, Affine.identity(3)), "header", 1, "python")
    assert row["true_error_mm"] < 1
    assert row["initial"] == "header"
    assert row["cpu_s"] > 0
    far = Pose(1, "contrasts", near.fixed, near.moving, (0, 0, 0), (900, 0, 0), 1)
    row = measure.measured(Trial(far, Affine.identity(3)), "header", 1, "python")
    assert row["true_error_mm"] is None
    assert "do not overlap" in row["refused"]


def test_the_network_only_is_not_optimised(shared_data: Path) -> None:
    """Its result is coarse, and the optimiser converges from there."""
    near = random_pose(4, 1)
    trial = Trial(near, reference.reference(near, measure.REFERENCES, "p"))
    alone, stepped = (
        measure.measured(trial, method, 1, "python") for method in ("network only", "network")
    )
    assert "initial" not in alone
    assert stepped["true_error_mm"] < 1 < alone["true_error_mm"] < 30


def test_methods_that_cannot_run_are_omitted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measure, "has_greedy", lambda _: False)
    kept = ["default", "network", "network only"]
    assert measure.available([*kept, " greedy"], "p") == kept
    assert "greedy is omitted" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="there is no 'gredy'"):
        measure.available(["gredy"], "p")


def row(index: int, method: str, error_mm: float | None, **more: Any) -> dict[str, Any]:
    kind = ("brains", "contrasts")[index % 2]
    common = {"index": index, "method": method, "kind": kind, "angle_deg": 15.0 * index}
    return common | {"true_error_mm": error_mm, "wall_s": 1.0 + index, "cpu_s": 2.0} | more


def test_the_page_counts_successes_and_failures(tmp_path: Path) -> None:
    rows = [row(i, "default", error) for i, error in enumerate([0.5, 2.9, 3.0, 40.0])]
    rows += [row(0, "greedy", 0.4), row(1, "greedy", None, refused="it crashed")]
    write(tmp_path / RESULTS_FILE, Results("initialisation", HEAD, rows))
    page.report(tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    everything, shared = text.split("## Poses measured with every method")
    assert "Machine: a machine; threads: 1; seed: 4." in everything
    assert "| all | default | 50.0 % (2 of 4) | 2.95 | 40.0 | 2.50 | 2.00 |" in everything
    assert "| T1 of two people | default | 50.0 % (1 of 2) | 1.75 | 3.0 |" in everything
    assert (
        "| T1 and T2 or FLAIR of one person | greedy | 0.0 % (0 of 1) | inf | inf |" in everything
    )
    assert "| all | default | 100.0 % (2 of 2) |" in shared
    assert "| all | default | 100.0 % (2 of 2) | 0.0 % (0 of 1) | 0.0 % (0 of 1) |" in shared
    assert "- pose 1, greedy: it crashed" in shared


def test_the_report_needs_a_complete_file(tmp_path: Path) -> None:
    path = tmp_path / RESULTS_FILE
    with pytest.raises(SystemExit, match="There is no file"):
        page.report(tmp_path / "nowhere")
    path.write_text(json.dumps(HEAD) + '\n{"index"')
    with pytest.raises(SystemExit, match="damaged"):
        page.report(tmp_path)
    write(path, Results("initialisation", HEAD, [row(0, "default", 1.0)]))
    main(["initialisation", "report", "--out", str(tmp_path)])
    assert "| all | default | 100.0 % (1 of 1) |" in (tmp_path / "README.md").read_text(
        encoding="utf-8"
    )
