import pytest
from monai.utils import GridSampleMode, GridSamplePadMode

from stn3d.errors import InputError
from stn3d.integrations.monai.modes import Sampling, samplings


@pytest.mark.parametrize(
    ("mode", "kept"),
    [("linear", "bilinear"), (GridSampleMode.BICUBIC, "bicubic"), ("label", "label")],
)
def test_modes_are_stored_by_the_names_that_invertd_replaces(mode, kept):
    assert Sampling(mode).mode == kept


@pytest.mark.parametrize("padding", ["zeros", GridSamplePadMode.BORDER, "background", -1000, 2.5])
def test_paddings_of_monai_and_of_stn3d_are_known(padding):
    assert Sampling("nearest", padding).padding == getattr(padding, "value", padding)


@pytest.mark.parametrize(("mode", "padding"), [("lineer", "zeros"), ("bilinear", "boarder")])
def test_unknown_names_are_one_sentence(mode, padding):
    with pytest.raises(InputError, match="is unknown"):
        Sampling(mode, padding)


def test_one_mode_serves_all_keys_or_each_has_its_own():
    assert [s.mode for s in samplings(("a", "b"), "nearest", "zeros")] == ["nearest"] * 2
    own = samplings(("a", "b"), ["bilinear", "label"], ["border", 0])
    assert [(s.mode, s.padding) for s in own] == [("bilinear", "border"), ("label", 0.0)]
    with pytest.raises(ValueError, match="2"):
        samplings(("a", "b", "c"), ["bilinear", "label"], "zeros")
