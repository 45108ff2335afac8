"""One side of a registration: its mask and channels, their weights, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import stn3d
from stn3d.choices import MetricName
from stn3d.cli import main
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import read_image, write_image
from stn3d.losses.image_loss import image_loss
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import ChannelGroup, PreparedImage
from stn3d.registration.inputs import RegistrationImage
from stn3d.registration.inputs.image import read_side
from stn3d.transforms import Affine
from tests.helpers.geometry_cases import DIMS
from tests.helpers.registration import sides
from tests.helpers.synthetic import Known, dense_truth, known_pair, plain_grid


def a_pair(ndim: int) -> Known:
    grid = plain_grid(ndim, 32)
    return known_pair(dense_truth(grid), grid, grid)


def halves(image: Tensor) -> tuple[Tensor, Tensor]:
    """Two contrasts: what is dim, and what is bright; neither shows all."""
    return image.clamp(max=0.5), image.clamp(min=0.5) - 0.5 + 0.02 * image


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("metric", list(METRICS))
def test_the_loss_is_the_mean_by_weights(ndim: int, metric: MetricName) -> None:
    known = a_pair(ndim)
    fixed, moving = halves(known.fixed), halves(known.moving)
    scans = [
        PreparedImage(
            torch.cat(both, dim=1),
            known.fixed_grid,
            channel_groups=(ChannelGroup(3.0), ChannelGroup(1.0)),
        )
        for both in (fixed, moving)
    ]
    single = [
        PreparedImage(one, known.fixed_grid) for one in (fixed[0], fixed[1], moving[0], moving[1])
    ]
    if METRICS[metric].depends_on_axes:
        prepared = METRICS[metric].prepared
        scans, single = [prepared(s) for s in scans], [prepared(s) for s in single]
    losses = [
        float(image_loss(f, m, m.image, None, METRICS[metric]))
        for f, m in ((scans[0], scans[1]), (single[0], single[2]), (single[1], single[3]))
    ]
    assert losses[0] == pytest.approx(0.75 * losses[1] + 0.25 * losses[2], rel=1e-4)


@pytest.mark.parametrize("metric", ["lncc", "nmi", "mind", "gradient"])
def test_two_contrasts_find_more_than_one(metric: MetricName) -> None:
    known = a_pair(2)
    fixed, moving = halves(known.fixed), halves(known.moving)
    grid, options = known.fixed_grid, {"metric": metric, "kind": "deformable", "threads": 1}
    alone = stn3d.register((fixed[1], grid), (moving[1], grid), **options)
    together = stn3d.register(
        *sides(
            ((fixed[1], grid), (moving[1], grid)),
            channels=([(fixed[0], grid)], [(moving[0], grid)]),
        ),
        **options,
    )
    assert known.error_mm(together.transform) < known.error_mm(alone.transform)
    assert together.moved.values.shape == known.fixed.shape


def test_a_channel_of_weight_0_changes_nothing() -> None:
    known = a_pair(2)
    grid, noise = known.fixed_grid, torch.rand_like(known.fixed)
    options: dict[str, Any] = {"kind": "affine", "metric": "ncc", "threads": 1, "init": "header"}
    alone = stn3d.register(*known.sources, **options)
    channels = [(noise, grid)], [(noise.flip(2), grid)]
    found = stn3d.register(
        *sides(known.sources, channels=channels), **options, channel_weights=[2, 0]
    )
    assert isinstance(found.transform, Affine)
    assert isinstance(alone.transform, Affine)
    assert torch.allclose(found.transform.matrix, alone.transform.matrix, atol=1e-3)
    assert found.metrics["channel_weights"] == (2.0, 0.0)


def write(path: Path, values: Tensor, grid: Grid) -> str:
    image = read_image((values, grid))
    write_image(path, image.values, image)
    return str(path)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known, files = a_pair(3), []
    for name, image in (("fixed", known.fixed), ("moving", known.moving)):
        for k, values in enumerate(halves(image)):
            files.append(write(tmp_path / f"{name}{k}.nii.gz", values, known.fixed_grid))
    out = tmp_path / "out"
    options = ["--out", str(out), "--preset", "fast", "--threads", "1", "--kind", "affine"]
    channels = ["--fixed-channel", files[1], "--moving-channel", files[3]]
    weights = ["--channel-weight", "1", "--channel-weight", "0.5"]
    pair = ["register", files[0], files[2], *options]
    assert main([*pair, *channels, *weights, "--metric", "gradient"]) in (0, 3)
    figures = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert figures["channel_weights"] == [1.0, 0.5]
    assert figures["settings"]["metric"] == "gradient"
    capsys.readouterr()
    assert main([*pair, *channels[:2]]) == 2
    assert "as many --fixed-channel as --moving-channel" in capsys.readouterr().err.replace(
        "\n", " "
    )


def test_what_is_refused() -> None:
    known = a_pair(2)
    channel, grid = (known.fixed, known.fixed_grid), plain_grid(2, 20)
    other = (torch.rand(1, 1, *grid.shape), grid)
    for channels, weights, words in (
        (([channel], []), None, "1 further channels of the fixed image and 0"),
        (([other], [channel]), None, "on another grid"),
        (([], []), [1, 2], "2 channel weights and 1 channels"),
        (([], []), [-1], "give a number from 0 to"),
        (([], []), [0], "are 0"),
        (([], []), ["much"], "a channel weight is 'much'; give a number"),
    ):
        given = sides(known.sources, channels=channels)
        with pytest.raises(InputError, match=words) as caught:
            stn3d.register(*given, channel_weights=weights)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_a_pair_of_contrasts_knows_its_first() -> None:
    both = torch.rand(1, 2, 8, 8)
    scan = PreparedImage(
        both, plain_grid(2, 8), channel_groups=(ChannelGroup(1.0), ChannelGroup(1.0))
    )
    assert torch.equal(Pair(scan, scan).first.fixed.image, both[:, :1])


@pytest.mark.parametrize("ndim", DIMS)
def test_exclude_masks_of_no_use_are_named(ndim: int) -> None:
    known = a_pair(ndim)
    image, grid = read_image(known.sources[0]), known.fixed_grid
    assert read_side(RegistrationImage(image), image, "fixed").exclude is None
    some = torch.zeros_like(known.fixed)
    other = plain_grid(ndim, 20)
    for source, role, words in (
        ((some, grid), "fixed", r"fixed exclude mask .* is empty"),
        ((some + 1, grid), "fixed", r"fixed exclude mask .* covers the whole image"),
        ((torch.ones(1, 1, *other.shape), other), "moving", r"moving exclude mask .* another grid"),
    ):
        with pytest.raises(InputError, match=words):
            read_side(RegistrationImage(image, exclude=source), image, role)
    some[(..., *[slice(5, 9)] * ndim)] = 3  # of any number
    read = read_side(RegistrationImage(image, exclude=(some, grid)), image, "fixed").exclude
    assert read is not None
    assert torch.equal(read.values, some > 0)


def test_a_plain_source_is_a_side_without_further_data() -> None:
    known = a_pair(2)
    source = known.sources[0]
    side = RegistrationImage.of(source)
    assert side.image is source
    assert (side.mask, side.labels, tuple(side.channels)) == (None, None, ())
    assert RegistrationImage.of(side) is side
    with pytest.raises(TypeError):
        RegistrationImage(source, source)  # type: ignore[misc]


def test_a_side_in_memory_knows_what_is_included_and_tells_about_itself() -> None:
    known = a_pair(2)
    image, grid = read_image(known.sources[0]), known.fixed_grid
    keep, spoilt = torch.zeros_like(known.fixed), torch.zeros_like(known.fixed)
    keep[..., 2:20, :], spoilt[..., 5:9, 5:9] = 1, 1
    given = RegistrationImage(image, mask=(keep, grid), exclude=(spoilt, grid), window="0,1")
    side = read_side(given, image, "moving")
    assert side.included is not None
    assert torch.equal(side.included, (keep > 0) & (spoilt == 0))
    about = {
        "name": image.name,
        "shape": [32, 32],
        "spacing_mm": [1.0, 1.0],
        "window": "0,1",
        "colour": None,
    }
    found = side.about()
    assert found.pop("sources")["in_memory"] == ["image", "mask", "exclude"]
    assert found == about
    plain = read_side(RegistrationImage(image), image, "fixed")
    assert plain.included is None
    prepared = plain.prepared((1.0,), None, torch.device("cpu"))
    assert (prepared.mask, prepared.channel_groups) == (None, None)
