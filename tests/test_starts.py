"""The random starts: what is drawn, that the header holds the truth, resuming, and the page."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from stn3d.grid import Grid
from stn3d.io import read_image
from stn3d.transforms import Affine
from stn3d.warp import warp_image

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import starts  # noqa: E402
import starts_cases  # noqa: E402
import starts_report  # noqa: E402
from starts_cases import Start, Trial, random_start  # noqa: E402

HEAD = {"machine": "a machine", "threads": 1, "seed": 4}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data with four small brains and a person's contrasts: blobs off the middle."""
    folder = tmp_path / "data"
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
    monkeypatch.setattr(starts_cases, "DATA", folder)
    return folder


def grid() -> Grid:
    return Grid((40, 44, 36), torch.diag(torch.tensor([-2.0, 2.0, 2.0, 1.0]).double()))


def test_a_start_depends_on_the_seed_and_its_number_alone(data: Path) -> None:
    assert random_start(4, 6) == random_start(4, 6)
    assert len({random_start(4, i).shift_mm for i in range(8)}) == 8
    assert random_start(4, 6).scale != random_start(5, 6).scale


def test_starts_fill_the_ranges_and_no_more(data: Path) -> None:
    drawn = [random_start(4, i) for i in range(200)]
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
    drawn = [random_start(4, i) for i in range(80)]
    assert [s.kind for s in drawn[:4]] == ["brains", "contrasts"] * 2
    assert {s.moving for s in drawn if s.kind == "contrasts"} == {
        "contrasts/p07_t2",
        "contrasts/p07_flair",
    }
    brains = [s for s in drawn if s.kind == "brains"]
    assert all(s.fixed != s.moving for s in brains)
    assert len({s.fixed for s in brains}) == len({s.moving for s in brains}) == 4


def test_a_start_without_rotation_and_shift_shares_the_middle() -> None:
    still = Start(0, "brains", "a", "b", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.25)
    fixed, moving = grid(), Grid((30, 30, 30), grid().world_from_index)
    displaced = still.displacement(fixed, moving)
    torch.testing.assert_close(displaced(moving.centre_mm), fixed.centre_mm)
    step = torch.tensor([4.0, 0.0, 0.0]).double()
    gap = displaced(moving.centre_mm + step) - displaced(moving.centre_mm)
    torch.testing.assert_close(gap, 1.25 * step)


def test_the_truth_leads_into_the_displaced_header(data: Path, tmp_path: Path) -> None:
    """One person: by the truth the displaced image is the fixed one, which has the same voxels."""
    trial = Trial(random_start(4, 9), Affine.identity(3))
    path = tmp_path / "moving.nii"
    trial.write_moving(path)
    fixed, moving = read_image(data / "contrasts/p07_t1.nii.gz"), read_image(path)
    assert torch.equal(moving.values, fixed.values)
    assert not moving.grid.same_as(fixed.grid)
    moved = warp_image(moving.values, moving.grid, trial.truth, fixed.grid)
    inner = (slice(None), slice(None), *[slice(1, -1)] * 3)
    assert (moved - fixed.values)[inner].abs().max() < 1


def test_the_error_is_in_mm_of_the_moving_person(data: Path) -> None:
    start = random_start(4, 9)
    trial = Trial(start, Affine.identity(3))
    assert trial.error_mm(trial.truth) < 1e-9
    shift = torch.eye(4).double()
    shift[0, 3] = 2.0
    wrong = Affine.from_matrix(trial.truth.matrix @ shift)  # 2 mm off before the start's scale
    assert trial.error_mm(wrong) == pytest.approx(2.0)


def test_the_answer_of_two_people_is_searched_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def searched(*args: Any) -> dict[str, Any]:
        asked.append(args)
        return {"found": "greedy", "matrix": (2 * torch.eye(4)).tolist()}

    monkeypatch.setattr(starts_cases, "searched", searched)
    cache = tmp_path / "new" / "references.json"
    monkeypatch.setattr(starts_cases, "has_greedy", lambda _: False)
    with pytest.raises(SystemExit, match="has no answer"):
        starts_cases.reference(random_start(4, 0), cache, "python")
    monkeypatch.setattr(starts_cases, "has_greedy", lambda _: True)
    first, again = (starts_cases.reference(random_start(4, 0), cache, "python") for _ in range(2))
    assert len(asked) == 1
    assert torch.equal(first.matrix, again.matrix)
    assert list(json.loads(cache.read_text())) == [random_start(4, 0).pair]
    one_person = starts_cases.reference(random_start(4, 1), cache, "python")
    assert torch.equal(one_person.matrix, torch.eye(4).double())


def test_the_affine_loss_is_least_at_the_truth(data: Path) -> None:
    path = data / "contrasts/p07_t1.nii.gz"
    loss = starts_cases.affine_loss(path, data / "contrasts/p07_t2.nii.gz")
    shift = torch.eye(4).double()
    shift[0, 3] = 3.0
    assert loss(Affine.identity(3)) < 0.01 < loss(Affine.from_matrix(shift))


def run(tmp_path: Path, *more: str) -> list[dict[str, Any]]:
    common = ["--work", str(tmp_path / "work"), "--references", str(tmp_path / "references.json")]
    starts.main([*common, "--count", "2", "--methods", "own", *more])
    return starts_report.read_rows(tmp_path / "work" / "starts.jsonl")[1]


def test_a_run_that_was_cut_off_goes_on(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured = []

    def figures(trial: Trial, method: str, *_: Any) -> dict[str, Any]:
        measured.append(trial.start.index)
        return {"index": trial.start.index, "method": method, "error_mm": 1.0}

    monkeypatch.setattr(starts, "measured", figures)
    monkeypatch.setattr(starts, "reference", lambda *_: Affine.identity(3))
    assert len(run(tmp_path)) == 2
    assert measured == [0, 0, 1]  # the first is not counted
    path = tmp_path / "work" / "starts.jsonl"
    path.write_text(path.read_text()[:-5])
    assert [row["index"] for row in run(tmp_path)] == [0, 1]
    assert measured == [0, 0, 1, 1, 1]
    run(tmp_path)
    assert len(measured) == 5
    assert [row["index"] for row in run(tmp_path, "--again")] == [0, 1]
    assert len(measured) == 8
    with pytest.raises(SystemExit, match="was measured with"):
        run(tmp_path, "--seed", "5")


def test_registration_from_a_start_is_measured(data: Path) -> None:
    """From the headers, for these blobs look alike from many sides; a far start must fail."""
    near = Start(
        1, "contrasts", *["contrasts/p07_t1", "contrasts/p07_t2"], (0.1, 0, 0), (5, 0, 0), 1
    )
    row = starts.measured(Trial(near, Affine.identity(3)), "header", 1, "python")
    assert row["error_mm"] < 1
    assert row["initial"] == "header"
    assert row["cpu_s"] > 0
    far = Start(1, "contrasts", near.fixed, near.moving, (0, 0, 0), (900, 0, 0), 1)
    row = starts.measured(Trial(far, Affine.identity(3)), "header", 1, "python")
    assert row["error_mm"] is None
    assert "do not overlap" in row["failed"]


def test_the_network_alone_takes_no_step(shared_data: Path) -> None:
    """Its answer is coarse, and the optimiser's steps from there find the truth."""
    near = random_start(4, 1)
    trial = Trial(
        near, starts_cases.reference(near, starts.ROOT / "docs/results/starts_reference.json", "p")
    )
    alone, stepped = (
        starts.measured(trial, method, 1, "python") for method in ("network alone", "network")
    )
    assert "initial" not in alone
    assert stepped["error_mm"] < 1 < alone["error_mm"] < 30


def test_methods_that_cannot_run_are_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(starts, "has_greedy", lambda _: False)
    kept = ["own", "network", "network alone"]
    assert starts.available([*kept, " greedy"], "p") == kept
    assert "greedy is left out" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="there is no 'gredy'"):
        starts.available(["gredy"], "p")


def row(index: int, method: str, error_mm: float | None, **more: Any) -> dict[str, Any]:
    kind = ("brains", "contrasts")[index % 2]
    common = {"index": index, "method": method, "kind": kind, "angle_deg": 15.0 * index}
    return common | {"error_mm": error_mm, "wall_s": 1.0 + index, "cpu_s": 2.0} | more


def test_the_page_counts_successes_and_failures() -> None:
    rows = [row(i, "own", error) for i, error in enumerate([0.5, 2.9, 3.0, 40.0])]
    rows += [row(0, "greedy", 0.4), row(1, "greedy", None, failed="it crashed")]
    text = starts_report.markdown(HEAD, rows)
    everything, shared = text.split("## The starts that every method had")
    assert "Machine: a machine; threads: 1; seed: 4." in everything
    assert "| all | own | 50.0 % (2 of 4) | 2.95 | 40.0 | 2.50 | 2.00 |" in everything
    assert "| T1 of two people | own | 50.0 % (1 of 2) | 1.75 | 3.0 |" in everything
    assert (
        "| T1 and T2 or FLAIR of one person | greedy | 0.0 % (0 of 1) | inf | inf |" in everything
    )
    assert "| all | own | 100.0 % (2 of 2) |" in shared
    assert "| all | own | 100.0 % (2 of 2) | 0.0 % (0 of 1) | 0.0 % (0 of 1) |" in shared
    assert "- start 1, greedy: it crashed" in shared


def test_the_report_needs_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "starts.jsonl"
    with pytest.raises(SystemExit, match="is no file"):
        starts_report.main([str(path)])
    path.write_text(json.dumps(HEAD) + '\n{"index"')
    with pytest.raises(SystemExit, match="damaged"):
        starts_report.main([str(path)])
    path.write_text("\n".join(json.dumps(line) for line in (HEAD, row(0, "own", 1.0))) + "\n")
    starts_report.main([str(path), "--out", str(tmp_path / "page")])
    assert "| all | own | 100.0 % (1 of 1) |" in (tmp_path / "page.md").read_text()
