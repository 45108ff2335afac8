"""Registration end to end from Python: sources, masks, figures, files, and what cannot be used."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

import stn3d
import stn3d.registration.result
from stn3d.errors import InputError
from stn3d.evaluation import excluded_region_metrics
from stn3d.grid import apply_matrix, homogeneous
from stn3d.io import read_mask
from stn3d.registration.result import Registration
from stn3d.registration.stages import ProgressEvent
from stn3d.transforms import Affine, Chain, DisplacementField
from tests.helpers.geometry_cases import DIMS
from tests.helpers.registration import one_sided, sides
from tests.helpers.synthetic import (
    Known,
    dense_truth,
    grid_about,
    known_pair,
    linear_truth,
    plain_grid,
)

QUICK = {"linear": {"iterations": 25}, "deformable": {"factors": [4, 2], "iterations": [20, 10]}}


def zeros(ndim: int) -> torch.Tensor:
    return torch.zeros(ndim, dtype=torch.float64)


def a_pair(ndim: int, kind: str = "affine") -> Known:
    """Oblique against plain; the shift is known to the headers only in part."""
    shift = torch.tensor([5.0, -4, 3]).double()[:ndim]
    fixed = grid_about(zeros(ndim), [36] * ndim, [1, 1.3, 2][:ndim], (15, -10, 20), True)
    moving = grid_about(shift, [42] * ndim, [1.2] * ndim, (-20, 10, 5))
    return known_pair(linear_truth(kind, zeros(ndim), shift, 8), fixed, moving)


def run(known: Known, **options: Any) -> Registration:
    return run_sides(sides(known.sources), **options)


def run_sides(given: Sequence[Any], **options: Any) -> Registration:
    return stn3d.register(*given, **{"config": QUICK, "threads": 1, **options})


@pytest.fixture(scope="module", params=DIMS)
def registered(request: pytest.FixtureRequest) -> tuple[Known, Registration]:
    known = a_pair(request.param)
    return known, run(known)


def test_the_whole_cascade_finds_the_truth(registered: tuple[Known, Registration]) -> None:
    known, result = registered
    assert known.error_mm(Affine.identity(known.anatomy.ndim)) > 4
    assert known.error_mm(result.transform) < 0.6
    correlation = [result.metrics[when]["correlation"] for when in ("before", "after")]
    assert correlation[1] > max(0.98, correlation[0])
    assert result.metrics["after"]["folding_pct"] == 0
    assert result.moved.values.shape == known.fixed.shape


def test_the_inverse_undoes_the_transform(registered: tuple[Known, Registration]) -> None:
    known, result = registered
    points = known.fixed_grid.points_mm()[known.foreground]
    back = result.inverse(result.transform(points))
    assert float((back - points).norm(dim=-1).max()) < 0.1
    assert result.metrics["after"]["inverse_consistency_error_mm"]["max"] < 0.1


def test_metrics_hold_what_they_promise(registered: tuple[Known, Registration]) -> None:
    _, result = registered
    metrics = result.metrics
    assert metrics["schema_version"] == 1
    json.loads(json.dumps(metrics, allow_nan=False))
    for key in (
        "before",
        "after",
        "initial_candidates",
        "stages",
        "settings",
        "timings_s",
        "versions",
        "seed",
    ):
        assert key in metrics
    assert {"initialise", "rigid", "affine", "deformable", "inverse", "warp", "metrics"} <= set(
        metrics["timings_s"]
    )
    assert metrics["versions"]["torch"] == torch.__version__
    assert metrics["versions"]["stn3d"] == stn3d.__version__
    assert metrics["settings"]["deformable"]["iterations"] == (20, 10)
    assert [s["stage"] for s in metrics["stages"]][-1] == "deformable"
    for stage in metrics["stages"]:
        assert stage["evaluations"] >= 1
        if stage["stage"] != "deformable":  # its steps have a fixed length
            assert stage["last_loss"] <= stage["first_loss"] + 1e-6
    losses = [c["loss"] for c in metrics["initial_candidates"]]
    assert losses[0] <= 1.01 * min(losses)


def test_the_same_twice_is_the_same_to_the_last_bit(
    registered: tuple[Known, Registration],
) -> None:
    known, first = registered
    second = run(known)
    assert torch.equal(first.moved.values, second.moved.values)
    for which in ("before", "after", "initial_candidates", "stages"):
        assert first.metrics[which] == second.metrics[which]


@pytest.mark.parametrize("metric", ["lncc", "gradient"])
def test_threads_do_not_change_the_result(metric: str) -> None:
    grid = plain_grid(3, 40.0)  # torch divides sums over more than 32,768 values among its threads
    known = known_pair(dense_truth(grid), grid, grid)
    quick = {"linear": {"iterations": 5}, "deformable": {"factors": [2, 1], "iterations": [4, 3]}}
    options: dict[str, Any] = {"config": quick, "kind": "deformable", "metric": metric}
    one, two = (run(known, **options, threads=threads) for threads in (1, 2))
    assert torch.equal(one.moved.values, two.moved.values)
    for which in ("before", "after", "initial_candidates", "stages"):
        assert one.metrics[which] == two.metrics[which]


def test_every_kind_of_source_gives_the_same(tmp_path: Path) -> None:
    from monai.data import MetaTensor

    known = a_pair(3, "rigid")
    arrays = [(image[0, 0].numpy(), grid.world_from_index.numpy()) for image, grid in known.sources]
    niftis = [nib.Nifti1Image(values, affine) for values, affine in arrays]
    paths = [tmp_path / "fixed.nii.gz", tmp_path / "moving.nii"]
    for path, nifti in zip(paths, niftis, strict=True):
        nib.save(nifti, path)
    metas = [
        MetaTensor(torch.from_numpy(values)[None], affine=torch.from_numpy(affine))
        for values, affine in arrays
    ]
    images = [stn3d.read_image(path) for path in paths]
    itk = [image.to_sitk() for image in images]
    expected = run(known, kind="rigid").transform(zeros(3))
    for sources in (niftis, paths, [str(p) for p in paths], metas, images, itk, arrays):
        result = stn3d.register(*sources, kind="rigid", threads=1, config=QUICK)
        assert torch.allclose(result.transform(zeros(3)), expected, atol=2e-2)


@pytest.mark.parametrize("side", ["fixed", "moving"])
@pytest.mark.parametrize("metric", ["lncc", "ncc", "mse"])
def test_a_mask_leaves_a_spoilt_part_out(side: str, metric: str) -> None:
    known = a_pair(3, "rigid")
    spoilt = getattr(known, side).clone()
    mask = torch.ones_like(spoilt)
    n = spoilt.shape[2] // 2 - 4
    part = (..., slice(0, n), slice(None), slice(0, spoilt.shape[-1] // 2 + 3))
    spoilt[part], mask[part] = 3.0, 0
    number = ("fixed", "moving").index(side)
    sources = list(known.sources)
    grid = sources[number][1]
    sources[number] = (spoilt, grid)
    # The coarse levels tell most: there a spoilt part spoils much around it.
    coarse = {"linear": {"finest_spacing_mm": 100}}
    options: dict[str, Any] = {"kind": "rigid", "metric": metric, "threads": 1, "config": coarse}
    errors = []
    for given in (sides(sources, mask=one_sided(side, (mask, grid))), sources):
        result = stn3d.register(*given, **options)
        errors.append(known.error_mm(result.transform))
    assert errors[0] < 0.6
    assert errors[1] > errors[0] + 0.2


# -- what is decided from the images --------------------------------------------------------------


def bent_brightness(values: torch.Tensor) -> torch.Tensor:
    """Another contrast: the middle is brightest."""
    return torch.where(values < 0.5, 2 * values, 1.6 - 1.2 * values)


def test_what_is_decided_is_told_with_its_reason(registered: tuple[Known, Registration]) -> None:
    decided = registered[1].metrics["auto_selected"]
    assert {key: choice["choice"] for key, choice in decided.items()} == {
        "metric": "lncc",
        "kind": "deformable",
        "large_motion": "off",
    }
    assert all("same contrast" in decided[key]["reason"] for key in ("metric", "kind"))
    assert "a coarse search displaces" in decided["large_motion"]["reason"]
    settings = registered[1].metrics["settings"]  # what was used, so that it can be asked for
    assert (settings["metric"], settings["kind"]) == ("lncc", "deformable")
    assert registered[1].metrics["excluded_regions"] == {}


def test_what_was_decided_can_be_asked_for_and_is_the_same(
    registered: tuple[Known, Registration],
) -> None:
    known, auto = registered
    asked = run(known, metric="lncc", kind="deformable", large_motion="off")
    assert asked.metrics["auto_selected"] == {}
    assert torch.equal(asked.moved.values, auto.moved.values)
    half = run(known, metric="lncc", large_motion="off", config={**QUICK, "kind": "auto"})
    assert set(half.metrics["auto_selected"]) == {"kind"}


@pytest.mark.parametrize("ndim", DIMS)
def test_two_contrasts_are_told_apart_and_found(ndim: int) -> None:
    known = a_pair(ndim)
    fixed = (bent_brightness(known.fixed), known.fixed_grid)
    result = stn3d.register(fixed, known.sources[1], kind="affine", threads=1, init="mass")
    assert result.metrics["auto_selected"]["metric"]["choice"] == "nmi"
    assert set(result.metrics["auto_selected"]) == {"metric"}
    assert result.metrics["settings"]["metric"] == "nmi"
    assert result.metrics["settings"]["linear"]["restarts"] == 4  # as nmi needs it
    assert known.error_mm(result.transform) < 1.2


def test_a_start_that_is_given_is_where_the_images_are_asked() -> None:
    known = a_pair(2, "rigid")
    fixed = (bent_brightness(known.fixed), known.fixed_grid)
    for source, expected in ((known.sources[0], "lncc"), (fixed, "nmi")):
        options: dict[str, Any] = {"kind": "rigid", "init": known.truth, "config": QUICK}
        result = stn3d.register(source, known.sources[1], threads=1, **options)
        assert result.metrics["auto_selected"]["metric"]["choice"] == expected


# -- what does not count, and windows -------------------------------------------------------------


def with_lesion(known: Known, side: str) -> tuple[list[Any], torch.Tensor]:
    """The sources with a dark ball in one image; where it is, a little wider."""
    sources, number = list(known.sources), ("fixed", "moving").index(side)
    image, grid = sources[number]
    d = grid.ndim
    middle = known.truth(known.fixed_grid.centre_mm[None]) if side == "moving" else grid.centre_mm
    far = torch.linalg.vector_norm(
        grid.points_mm() - middle - torch.tensor([2.0, -3, 1])[:d], dim=-1
    )
    sources[number] = (image.masked_fill((far < 5)[None, None], 0.02), grid)
    return sources, (far < 6.5)[None, None]


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_what_is_excluded_goes_with_its_surroundings(ndim: int, side: str) -> None:
    """A dark ball shrinks away in a registration that sees it; one that does not look treats it
    as the registration without a ball treats the place."""
    known = a_pair(ndim)
    sources, where = with_lesion(known, side)
    grid = sources[("fixed", "moving").index(side)][1]
    mask = read_mask((where, grid))
    options: dict[str, Any] = {"threads": 1}
    whole = stn3d.register(*known.sources, **options)
    seen: dict[str, Any] = {"metric": "lncc", "large_motion": "off"}  # others shrink it less
    bare = stn3d.register(*sources, **seen, **options)
    told = stn3d.register(*sides(sources, exclude=one_sided(side, mask)), **options)
    assert set(told.metrics["excluded_regions"]) == {side}
    shown, kept, lost = (
        excluded_region_metrics(mask, one.transform if side == "fixed" else one.inverse)
        for one in (told, whole, bare)
    )
    assert told.metrics["excluded_regions"][side] == pytest.approx(shown)  # threads change rounding
    assert abs(shown["volume_change_pct"] - shown["surrounding_volume_change_pct"]) < 12
    # In 3D the moving image is smoothed to match slices: measured 6.03.
    assert abs(shown["volume_change_pct"] - kept["volume_change_pct"]) < 7
    assert lost["volume_change_pct"] < kept["volume_change_pct"] - 20
    points = known.fixed_grid.points_mm()[known.foreground]
    own = points if side == "fixed" else known.truth(points)
    index = apply_matrix(grid.index_from_world, own).round().long()
    index = torch.minimum(index.clamp(min=0), torch.tensor(grid.shape) - 1)
    outside = ~where[0, 0][tuple(index.T)]

    def apart_mm(a: Registration) -> float:
        gap = a.transform(points) - whole.transform(points)
        return float(gap[outside].norm(dim=-1).mean())

    assert apart_mm(told) < 0.25  # a quarter of a voxel
    assert apart_mm(told) < 0.6 * apart_mm(bare)
    assert known.error_mm(told.transform) < 0.4


def test_exclude_and_mask_work_together() -> None:
    """A mask keeps half; the exclude mask takes a spoilt part out of it."""
    known = a_pair(2, "rigid")
    sources, where = with_lesion(known, "fixed")
    keep = torch.ones_like(known.fixed)
    keep[..., :6] = 0
    grid = known.fixed_grid
    options: dict[str, Any] = {"kind": "rigid", "metric": "mse", "threads": 1}
    masked = stn3d.register(*sides(sources, mask=((keep * ~where, grid), None)), **options)
    data = {"mask": ((keep, grid), None), "exclude": ((where, grid), None)}
    both = stn3d.register(*sides(sources, **data), **options)
    assert torch.equal(both.transform(zeros(2)), masked.transform(zeros(2)))
    nothing = sides(sources, **data | {"mask": ((where, grid), None)})
    with pytest.raises(InputError, match="covers all that the fixed mask marks"):
        stn3d.register(*nothing, **options)


@pytest.mark.parametrize("ndim", DIMS)
def test_a_window_is_what_the_metric_sees(ndim: int) -> None:
    """Beyond it the moving image is spoilt, and with it a registration that sees everything."""
    known = a_pair(ndim, "rigid")
    spoilt = 100 * known.moving
    spoilt[(..., *[slice(3, 8)] * ndim)] = 5000.0
    moving = (spoilt, known.moving_grid)
    options: dict[str, Any] = {"kind": "rigid", "metric": "ncc", "threads": 1}
    given = sides((known.sources[0], moving), window=(None, "0,120"))
    seen = stn3d.register(*given, **options)
    assert seen.metrics["moving"]["window"] == "0,120"
    assert seen.metrics["fixed"]["window"] is None
    assert known.error_mm(seen.transform) < 0.6
    assert float(seen.moved.values.max()) > 500  # the images themselves stay as they are


def test_a_window_that_does_not_fit_names_its_image() -> None:
    known = a_pair(2)
    for windows, words in (
        (("lung", None), r"fixed.*the window lung is for CT in HU"),
        ((None, "9,5"), r"moving.*the window '9,5' is unknown; give LOW,HIGH"),
    ):
        with pytest.raises(InputError, match=words):
            run_sides(sides(known.sources, window=windows))


def test_every_kind_of_initial_transform_is_used() -> None:
    import SimpleITK as sitk

    known = a_pair(2, "rigid")
    matrix = known.truth.matrix.numpy()  # type: ignore[attr-defined]
    flip = np.diag([-1.0, -1.0, 1.0])
    lps = flip @ matrix @ flip
    itk = sitk.AffineTransform(lps[:2, :2].ravel().tolist(), lps[:2, 2].tolist())
    quick = {"linear": {"iterations": 1, "final_factors": [4], "factors": [4]}}
    for init in (known.truth, matrix, matrix.tolist(), itk):
        found = stn3d.register(*known.sources, kind="rigid", init=init, threads=1, config=quick)
        names = [one["name"] for one in found.metrics["initial_candidates"]]
        assert names == ["given"]
        gap = found.transform(zeros(2)) - known.truth(zeros(2))
        assert float(gap.norm(dim=-1).max()) < 0.5
    assert len(repr(found)) < 400


def test_progress_true_shows_the_levels(capfd: pytest.CaptureFixture[str]) -> None:
    run(a_pair(2), progress=True)
    shown = capfd.readouterr().err
    assert "rigid, level" in shown
    run(a_pair(2), progress=False)
    assert "rigid, level" not in capfd.readouterr().err


def test_progress_tells_step_level_iteration_loss_and_how_far_it_is() -> None:
    seen: list[ProgressEvent] = []
    result = run(a_pair(2), progress=seen.append)
    steps = [name for name, _ in itertools.groupby(event.step for event in seen)]
    before, stages = ["read", "prepare", "initialise"], ["rigid", "affine", "deformable"]
    considered = [*stages[:-1], "large_motion", stages[-1]]
    assert steps == [*before, *considered, "inverse", "metrics", "warp", "metrics", "quality_check"]
    levels = {(e.step, e.spacing_mm) for e in seen if e.loss is not None}
    assert levels == {(s["stage"], s["spacing_mm"]) for s in result.metrics["stages"]}
    fractions = [event.fraction for event in seen]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0, 1)
    assert len(set(fractions)) > 20
    cascade = {(e.step, e.stage, e.stages) for e in seen if e.stage}
    assert cascade == {(name, number, 3) for number, name in enumerate(stages, start=1)}


def test_an_initial_transform_is_where_it_starts(tmp_path: Path) -> None:
    known = a_pair(3)
    field = dense_truth(plain_grid(3, 40), 0.5)
    start = field.then(known.truth)
    stn3d.write_transform(tmp_path / "start.h5", start)
    for init in (start, tmp_path / "start.h5", str(tmp_path / "start.h5")):
        result = run(known, kind="rigid", init=init)
        (given,) = result.metrics["initial_candidates"]
        assert (given["loss"], given["fov_overlap_fraction"]) == (None, pytest.approx(0.9, abs=0.1))
        assert given["name"] == "given"
        assert isinstance(result.transform, Chain)
        assert any(isinstance(p, DisplacementField) for p in result.transform.transforms)
        assert known.error_mm(result.transform) < 0.5


@pytest.mark.parametrize("init", ["header", "centres", "mass", "moments"])
def test_an_initial_method_is_the_one_asked_for(init: str) -> None:
    result = run(a_pair(2), kind="rigid", init=init)
    name = "centre_of_mass" if init == "mass" else init
    assert {c["name"] for c in result.metrics["initial_candidates"]} == {name}


def test_labels_are_scored_and_steer_nothing() -> None:
    known = a_pair(3, "rigid")
    labels = [(((image > 0.3).int() + (image > 0.7).int()), grid) for image, grid in known.sources]
    plain = run(known, kind="rigid")
    scored = run_sides(sides(known.sources, labels=labels), kind="rigid")
    assert "dice" not in plain.metrics["after"]
    assert scored.metrics["after"]["dice"] > max(0.75, scored.metrics["before"]["dice"])
    assert torch.equal(plain.transform(zeros(3)), scored.transform(zeros(3)))
    moved = scored.apply(labels[1])
    assert moved.values.dtype == torch.int32
    assert set(moved.values.unique().tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("ndim", DIMS)
def test_one_millimetre_against_four(ndim: int) -> None:
    shift = torch.tensor([4.0, -3, 2]).double()[:ndim]
    truth = linear_truth("rigid", zeros(ndim), shift, 8)
    known = known_pair(truth, plain_grid(ndim, 40), grid_about(shift, [40] * ndim, [4] * ndim))
    result = stn3d.register(*known.sources, kind="rigid", threads=1)
    assert known.error_mm(result.transform) < 0.8  # a fifth of the coarse voxel
    assert result.moved.values.shape == known.fixed.shape


@pytest.mark.parametrize("kind", ["rigid", "affine", "deformable"])
def test_tiny_images(kind: str) -> None:
    shift = torch.tensor([3.0, -2.5, 2]).double()
    tiny = plain_grid(3, 36, 4)
    known = known_pair(linear_truth("rigid", zeros(3), shift, 8), tiny, tiny, zeros(3))
    result = stn3d.register(*known.sources, kind=kind, threads=1)
    assert known.error_mm(result.transform) < 2  # half a voxel
    assert result.metrics["after"]["folding_pct"] == 0


@pytest.mark.parametrize(("fixed_bg", "moving_bg"), [(300.0, -1024.0), (-1024.0, 0.0)])
def test_a_background_other_than_zero(fixed_bg: float, moving_bg: float) -> None:
    known = a_pair(3)
    fixed = (50 * known.fixed + fixed_bg, known.fixed_grid)
    moving = (900 * known.moving + moving_bg, known.moving_grid)
    for metric in ("mse", "ncc", "lncc"):
        result = stn3d.register(fixed, moving, metric=metric, threads=1, config=QUICK)
        assert known.error_mm(result.transform) < 0.8


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    flat, deep = a_pair(2), a_pair(3)
    with pytest.raises(InputError, match="is 2D and the moving image"):
        stn3d.register(flat.sources[0], deep.sources[1])
    with pytest.raises(InputError, match=r"initial transform .* is 3D and the images are 2D"):
        run(flat, init=Affine.identity(3))
    for init in ("given", "heder", str(tmp_path / "none.h5")):
        with pytest.raises(InputError, match="--init"):
            run(flat, init=init)
    far = Affine.from_matrix(homogeneous(torch.eye(2).double(), zeros(2) + 1e3))
    with pytest.raises(InputError, match="do not overlap"):
        run(flat, init=far)
    labels = ((flat.fixed > 0.5).int(), flat.fixed_grid)
    with pytest.raises(InputError, match="only fixed labels"):
        run_sides(sides(flat.sources, labels=(labels, None)))
    with pytest.raises(InputError, match=r"fixed mask .* another grid"):
        run_sides(sides(flat.sources, mask=((flat.moving > 0.5, flat.moving_grid), None)))
    with pytest.raises(InputError, match="did you mean rigid"):
        run(flat, kind="rigit")
    with pytest.raises(InputError, match=r"unknown setting thread; did you mean threads\?"):
        run(flat, thread=2)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA"):
            run(flat, device="cuda")


def test_threads_are_set_for_the_run_and_put_back() -> None:
    before = torch.get_num_threads()
    result = run(a_pair(2), kind="rigid", threads=before + 1)
    assert result.metrics["threads"] == before + 1
    assert torch.get_num_threads() == before


def test_ct_and_mr_of_one_space_stay_there(shared_data: Path) -> None:
    folder = shared_data / "ct_mr"
    images = [stn3d.read_image(folder / name) for name in ("mni152_t1_2mm.nii.gz", "scct.nii.gz")]
    from stn3d.warp import resample_image

    small = []
    for image in images:
        grid = image.grid.coarsened(5)
        small.append((resample_image(image.values, image.grid, grid), grid))
    result = stn3d.register(*small, kind="rigid", threads=1)
    points = small[0][1].points_mm()[::4, ::4, ::4]
    gap = (result.transform(points) - points).norm(dim=-1)
    assert float(gap.mean()) < 6  # of 5 mm voxels; the templates themselves differ by 1 to 3 mm
