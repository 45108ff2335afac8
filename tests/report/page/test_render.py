"""The page of a registration in a real browser, without a network."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

import stn3d
from stn3d.registration.result import Registration
from stn3d.report.page import render
from tests.helpers.browser import Tab
from tests.helpers.synthetic import dense_truth, known_pair, plain_grid

EVIL = "<script>window.evil=1<img src=x onerror=window.evil=1>&quot.nii.gz"
NIIVUE = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"  # dist/niivue.umd.js


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def registered(folder: Path) -> Registration:
    """A deformable registration with all that a page can show, of a file with an evil name."""
    grid = plain_grid(3, 30)
    known = known_pair(dense_truth(grid, 2.0), grid, grid)
    affine = grid.world_from_index.numpy()
    fixed, moving = (values[0, 0].numpy() for values in (known.fixed, known.moving))
    for name, array in (("fixed.nii.gz", fixed), (EVIL, moving)):
        nib.save(nib.Nifti1Image(array, affine), folder / name)
    lesion = np.zeros(grid.shape, np.uint8)
    lesion[14:18, 12:16, 14:18] = 1
    nib.save(nib.Nifti1Image(lesion, affine), folder / "lesion.nii.gz")
    for name, array in (("a", fixed), ("b", moving)):
        label = (array > np.median(array[array > 0.1])).astype(np.int16)
        nib.save(nib.Nifti1Image(label, affine), folder / f"{name}.nii.gz")
    points = grid.points_mm().flatten(0, -2)[::3571]
    result = stn3d.register(
        stn3d.RegistrationImage(
            folder / "fixed.nii.gz",
            labels=folder / "a.nii.gz",
            exclude=folder / "lesion.nii.gz",
            landmarks=points,
        ),
        stn3d.RegistrationImage(
            folder / EVIL, labels=folder / "b.nii.gz", landmarks=known.truth(points)
        ),
        kind="deformable",
        preset="fast",
        threads=1,
        uncertainty=True,
    )
    result.save(folder / "out")
    return result


@pytest.fixture(scope="module")
def tab(registered: Registration, folder: Path, browser: Any) -> Iterator[Tab]:
    found = Tab(browser, folder / "out" / "report.html", 800)
    found.page.locator("#viewer").scroll_into_view_if_needed()
    found.page.wait_for_selector("#viewer[data-ready=yes]", timeout=60_000)
    yield found
    found.close()


def test_nothing_fails_nothing_is_loaded_and_names_are_harmless(tab: Tab) -> None:
    assert tab.errors == []
    assert len(tab.requests) == 1  # the page itself
    assert tab.page.evaluate("window.evil") is None
    assert EVIL in tab.page.inner_text("h1")


def test_the_viewer_shows_both_images_and_moves_its_border(tab: Tab) -> None:
    def shown(split: int, opacity: int, when: str) -> Any:
        tab.page.locator(f"input[name=viewer-when][value={when}]").check(force=True)
        tab.page.locator("#viewer-split").fill(str(split))
        tab.page.locator("#viewer-opacity").fill(str(opacity))
        return tab.pixels("#viewer")

    fixed, moved, before = shown(100, 100, "after"), shown(0, 100, "after"), shown(0, 100, "before")
    for image in (fixed, moved, before):
        assert image.max() > 150
        assert 0.05 < (image > 40).mean() < 0.95
    assert np.abs(fixed - before).mean() > 1.5 * np.abs(fixed - moved).mean() > 0
    half = shown(50, 100, "before")
    middle = half.shape[1] // 2
    assert np.abs(half - fixed)[:, : middle - 3].max() < 30
    assert np.abs(half - before)[:, middle + 3 :].max() < 30
    faint = shown(0, 50, "before")  # the border itself is a line at the left edge
    assert np.abs(faint - (fixed + before) / 2)[:, 4:-4].mean() < 0.5
    shown(50, 100, "after")


def test_the_crosshair_names_the_position_in_both_images(
    tab: Tab, registered: Registration
) -> None:
    grid = registered.fixed.grid
    about = tab.page.inner_text("section:has(#viewer) .note")
    within = re.search(r"within ([\d.e-]+) mm everywhere", about)
    assert within is not None
    tab.page.locator("input[name=viewer-when][value=after]").check(force=True)
    points = grid.with_shape([5, 5, 5]).points_mm().flatten(0, -2)[::7]
    found = []
    for point in points.tolist():
        tab.page.evaluate("point => stn3dViewer.go(point)", point)
        at, there = tab.page.evaluate("[stn3dViewer.fixed, stn3dViewer.moving]")
        assert np.allclose(at, point, atol=1e-3)
        found.append(there)
    error = (torch.tensor(found).double() - registered.transform(points)).norm(dim=1)
    assert float(error.max()) <= 1.5 * float(within[1]) + 1e-3
    assert float(error.max()) < 0.5 * float(
        (registered.transform(points) - points).norm(dim=1).max()
    )
    for axis, value in zip("xyz", points[3].tolist(), strict=True):
        tab.page.locator(f"#at-{axis}").fill(f"{value:.3f}")
    tab.page.keyboard.press("Enter")
    written = [float(x) for x in tab.page.inner_text("#moving-at").split(",")]
    assert np.allclose(written, found[3], atol=0.06)
    tab.page.locator("#viewer").focus()
    tab.page.keyboard.press("ArrowRight")
    right = tab.page.evaluate("stn3dViewer.fixed")
    assert right[0] - points[3][0] == pytest.approx(grid.spacing_mm[0], abs=1e-2)


def test_the_viewer_shows_the_expected_error_and_its_value(
    tab: Tab, registered: Registration
) -> None:
    errors = registered.uncertainty
    assert errors is not None

    def shown(opacity: int) -> Any:
        tab.page.locator("#viewer-expected").fill(str(opacity))
        return tab.pixels("#viewer")

    plain, over = shown(0), shown(100)
    assert np.abs(over - plain).mean() > 3
    np.testing.assert_array_equal(shown(0), plain)
    known, unknown = ((errors.values[0, 0] > 0) == which for which in (True, False))
    end = float(errors.values[errors.values > 0].quantile(0.99))
    for where in (known, unknown):
        index = where.nonzero()[len(where.nonzero()) // 2].double()
        point = errors.grid.world_from_index[:3, :3] @ index + errors.grid.world_from_index[:3, 3]
        tab.page.evaluate("point => stn3dViewer.go(point)", point.tolist())
        text = tab.page.inner_text("#expected-at")
        true = float(errors.values[0, 0][tuple(index.long())])
        if not true:
            assert text == "not known"
            continue
        assert text.endswith(" mm")
        assert float(text.removesuffix(" mm")) == pytest.approx(min(true, end), rel=0.05)


def test_the_planes_compare_the_images(tab: Tab) -> None:
    page = tab.page

    def mode(name: str, when: str = "after") -> Any:
        page.locator(f"#alignment input[value={when}]").check(force=True)
        page.locator(f"#alignment input[value={name}]").check(force=True)
        return tab.pixels("#alignment .stage")

    for box in ("labels", "regions", "landmarks"):
        page.locator(f"#alignment input[value={box}]").uncheck()
    page.locator("#split").fill("0")
    moved, before = mode("slider"), mode("slider", "before")
    page.locator("#split").fill("100")
    fixed = mode("slider")
    assert np.abs(moved - before).mean() > 1
    assert np.abs(fixed - before).mean() > 1.5 * np.abs(fixed - moved).mean()
    board = mode("checkerboard", "before")
    assert np.abs(board - fixed).mean() > 0.3
    assert np.abs(board - before).mean() > 0.3
    edges = mode("edges", "before")
    assert np.abs(edges - mode("edges")).mean() > 0.3
    plain = mode("slider")
    for box in ("labels", "regions", "landmarks"):
        page.locator(f"#alignment input[value={box}]").check()
        assert np.abs(tab.pixels("#alignment .stage") - plain).max() > 20, box
        page.locator(f"#alignment input[value={box}]").uncheck()
    # keys alone: the arrow keys of a focused slider move it
    page.locator("#split").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#split").input_value() == "99"
    maps = []
    for show in ("grid", "displacement", "jacobian"):
        page.locator(f"#deformation input[value={show}]").check(force=True)
        maps.append(tab.pixels(f"#deformation .fieldview.{show} .stage"))
    assert min(float(one.std()) for one in maps) > 8


def test_a_point_of_a_plane_is_named(tab: Tab, registered: Registration) -> None:
    tab.page.locator("#alignment input[value=after]").check(force=True)
    stage = tab.page.locator("#alignment .stage").nth(2)  # axial
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    tab.page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.6 * box["height"])
    text = tab.page.inner_text("#readout")
    fixed, moving = (
        torch.tensor([[float(x) for x in part.split(",")]]).double()
        for part in re.findall(r"(?:fixed|moving) ([-\d., ]+) mm", text)
    )
    size = torch.tensor(registered.fixed.grid.size_mm)
    corner = registered.fixed.grid.centre_mm - size / 2
    share = (fixed[0] - corner) / size
    assert share[:2].tolist() == pytest.approx([0.3, 0.4], abs=0.02)
    assert float((registered.transform(fixed) - moving).norm()) < 0.3


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_the_page_fits_the_window_and_is_legible(
    registered: Registration, folder: Path, browser: Any, width: int
) -> None:
    tab = Tab(browser, folder / "out" / "report.html", width, dark=width == 800)
    assert tab.page.evaluate("document.documentElement.scrollWidth") == width
    assert tab.page.evaluate(SMALLEST_TEXT) >= 11
    assert tab.page.evaluate(LEAST_CONTRAST) >= 4.5  # WCAG 2.1 AA
    assert tab.errors == []
    tab.close()


SMALLEST_TEXT = """() => Math.min(...[...document.querySelectorAll("body *")]
  .filter(e => e.checkVisibility())
  .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
  .map(e => parseFloat(getComputedStyle(e).fontSize)))"""
# The least contrast of text against the nearest background with a colour.
LEAST_CONTRAST = """() => {
  const channels = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => { const [r, g, b] = channels(c).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = e => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor;
    if ((channels(c)[3] ?? 1) === 1) return c; } return "rgb(255,255,255)"; };
  let least = 21;
  for (const e of document.querySelectorAll("main *")) {
    if (!e.checkVisibility() || e.closest(".stage, .viewer, .only-read")) continue;
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
    least = Math.min(least, (a + 0.05) / (b + 0.05));
  }
  return least;
}"""


def test_the_stored_viewer_is_the_published_one() -> None:
    path = Path(render.__file__).parent / "assets" / f"niivue-{render.NIIVUE_VERSION}.min.js.gz"
    assert hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() == NIIVUE
    licence = path.with_name(f"niivue-{render.NIIVUE_VERSION}.LICENSE.txt").read_text(
        encoding="utf-8"
    )
    assert "BSD 2-Clause" in licence


def test_data_cannot_end_their_element() -> None:
    text = render.json_data({"name": "</script><!-- <b>"})
    assert "<" not in text
    assert json.loads(text) == {"name": "</script><!-- <b>"}
