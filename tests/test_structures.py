"""Structures of the segmentation: every label id has one class, and sides are counterparts."""

from __future__ import annotations

import torch

from stn3d.structures import (
    STRUCTURES,
    brain_classes,
    classes_of_ids,
    mirrored_classes,
    unknown_ids,
)
from stn3d.synth.appearance import LEFT_RIGHT, TISSUES

# The ids in shared/data/label_maps, all 20 maps together.
SYNTHSEG = (
    *(2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 25, 26, 28, 30, 41, 42, 43, 44, 46),
    *(47, 49, 50, 51, 52, 53, 54, 57, 58, 60, 62, 72, 85, 136, 137, 163, 164),
    *(502, 506, 507, 508, 509, 511, 512, 514, 515, 516, 530),
)


def test_every_label_has_exactly_one_class() -> None:
    assert unknown_ids(SYNTHSEG) == []
    assert unknown_ids([i for ids in TISSUES.values() for i in ids]) == []
    assert unknown_ids([2, 2000, 999]) == [999, 2000]
    ids = [i for one in STRUCTURES for i in one.ids]
    assert len(ids) == len(set(ids))
    table = classes_of_ids(600)
    assert all(int(table[i]) > 0 for i in SYNTHSEG)
    assert [int(table[i]) for i in (0, 9, 999 % 600)] == [0, 0, 0]
    named = {STRUCTURES[int(table[i])].full_name: i for i in (17, 53, 16, 515)}
    assert named == {
        "left hippocampus": 17,
        "right hippocampus": 53,
        "brain stem": 16,
        "skull": 515,
    }
    assert len(classes_of_ids(10)) == 10
    written = [one.label for one in STRUCTURES]
    assert table[torch.tensor(written)].tolist() == list(range(len(STRUCTURES)))
    assert max(written) == 258, "FreeSurfer's, not SynthSeg's"


def test_mirrored_structures_are_on_the_other_side() -> None:
    swap = mirrored_classes()
    assert torch.equal(swap[swap], torch.arange(len(STRUCTURES)))
    moved = {one.name for i, one in enumerate(STRUCTURES) if int(swap[i]) != i}
    assert moved == {one.name for one in STRUCTURES if one.side}
    plain, mirrored = classes_of_ids(600), classes_of_ids(600, mirrored=True)
    for left, right in LEFT_RIGHT:
        assert plain[left] == mirrored[right] != plain[right] == mirrored[left]
    assert plain[16] == mirrored[16]


def test_the_brain_has_its_tissue_and_ventricles() -> None:
    outside = {STRUCTURES[i].name for i in set(range(len(STRUCTURES))) - set(brain_classes())}
    assert outside == {"background", "soft tissue", "skull", "cerebrospinal fluid"}
