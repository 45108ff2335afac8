"""`stn3d register --large-motion` from end to end, on an image whose middle slides by 20 mm."""

from __future__ import annotations

from pathlib import Path

import pytest
import SimpleITK as sitk

from stn3d.cli import main
from tests.cli.cases import metrics_of, printed, write
from tests.helpers import sitk_reference as reference
from tests.helpers.sliding import SlidingPair, sliding_pair


@pytest.fixture(scope="module")
def known() -> SlidingPair:
    return sliding_pair(2, 20.0)


@pytest.fixture(scope="module")
def pair(known: SlidingPair, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("sliding")
    both = ("fixed", known.pair.fixed), ("moving", known.pair.moving)
    return [str(write(folder / f"{name}.nii.gz", one.image[0, 0], one.grid)) for name, one in both]


@pytest.mark.parametrize("choice", ["auto", "off"])
def test_a_slide_is_found(known: SlidingPair, pair: list[str], tmp_path: Path, choice: str) -> None:
    options = ["--threads", "1", "--init", "header", "--kind", "deformable", "--metric", "lncc"]
    assert main(
        ["register", *pair, "--out", str(tmp_path), *options, "--large-motion", choice]
    ) in (
        0,
        3,
    )
    transform = sitk.ReadTransform(str(tmp_path / "transform.h5"))
    errors_mm = {
        name: float((reference.mapped(transform, points) - known.truth(points)).norm(dim=1).mean())
        for name, points in (("inside", known.inside), ("outside", known.outside))
    }
    metrics = metrics_of(tmp_path)
    stages = {level["stage"] for level in metrics["stages"]}
    assert ("discrete" in stages) == (choice != "off")
    assert ("large_motion" in metrics["auto_selected"]) == (choice == "auto")
    assert metrics["settings"]["large_motion"] == ("on" if choice == "auto" else "off")
    assert max(errors_mm.values()) < (2.0 if choice == "auto" else 10.0)
    assert metrics["after"]["folding_pct"] < 0.5


def test_a_search_before_a_linear_registration_is_refused(
    pair: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code = main(["register", *pair, "--out", str(out), "--kind", "rigid", "--large-motion", "on"])
    assert code == 2
    assert "needs a deformable registration and the kind is rigid" in " ".join(printed(capfd)[1])
    assert not out.exists()
