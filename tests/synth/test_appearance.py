"""Intensities of labels."""

from __future__ import annotations

from stn3d.synth import (
    MODALITIES,
    SeededGenerator,
)
from stn3d.synth.appearance import sample_appearance


def test_the_background_is_zero_and_modalities_have_typical_intensities() -> None:
    kinds = set()
    for seed in range(40):
        look = sample_appearance(SeededGenerator(seed), 600, modality_probability=0.7, max_std=0.05)
        kinds.add(look.modality)
        assert look.means[0] == look.stds[0] == 0
        if look.modality == "CT":
            assert look.means[515] > 2 * look.means[[2, 3, 4, 507]].max()
        if look.modality == "T1":
            assert look.means[24] < look.means[3] < look.means[2]
    assert kinds == {None, *MODALITIES}
    only = sample_appearance(
        SeededGenerator(0), 600, modality_probability=1, max_std=0, modalities=["PD"]
    )
    assert only.modality == "PD"
