"""Traces of moved items through batches, caches and copies."""

import copy
import pickle

import torch
from monai.data import PersistentDataset, decollate_batch, list_data_collate
from monai.transforms import Compose, Flipd
from torch.utils.data import default_collate

from stn3d.integrations.monai import ApplyTransformd
from stn3d.integrations.monai.movement import SAFE_CLASSES, Movement
from stn3d.transforms import Transform
from tests.integrations.monai.cases import body_grid, bump, image


def concrete(cls):
    """Public classes of transforms without abstract methods, in stn3d.transforms."""
    below = [one for child in cls.__subclasses__() for one in concrete(child)]
    mine = cls.__module__.startswith("stn3d.transforms") and not cls.__abstractmethods__
    return [cls, *below] if mine else below


def test_caches_may_hold_every_transform():
    assert {c for c in concrete(Transform) if not c.__name__.startswith("_")} <= set(SAFE_CLASSES)


def test_transforms_of_any_kind_make_a_batch():
    transforms = [bump(body_grid()), bump(body_grid((20, 20, 20))).then(bump(body_grid()))]
    items = [{"transform": one, "number": n} for n, one in enumerate(transforms)]
    for collate in (default_collate, list_data_collate):
        batch = collate(items)
        assert [box.item() for box in batch["transform"]] == transforms
    assert [one["transform"] for one in decollate_batch(batch)] == transforms


def test_a_movement_is_shared_by_copies_of_a_trace_and_survives_pickling():
    movement = Movement(bump(body_grid()), bump(body_grid()).inverse())
    assert copy.deepcopy([movement])[0] is movement
    points = torch.randn(5, 3)
    read = pickle.loads(pickle.dumps(movement))
    assert torch.equal(read.source_from_target(points), movement.source_from_target(points))


def test_a_persistent_dataset_reads_transforms_and_traces_safely(tmp_path):
    """With weights_only=True, and inverted by another instance of the pipeline."""
    grid = body_grid()
    item = {"image": image(grid), "transform": bump(grid)}

    def pipeline():
        return Compose([ApplyTransformd("image", "transform"), Flipd("image", 0)])

    results = []
    for _ in range(2):  # computed, then read
        dataset = PersistentDataset([item], pipeline(), tmp_path, track_meta=True)
        results.append(dataset[0])
        assert len(list(tmp_path.glob("*.pt"))) == 1
    first, second = results
    assert torch.equal(first["image"], second["image"])
    torch.testing.assert_close(second["transform"].displacement_mm, bump(grid).displacement_mm)
    back = [pipeline().inverse(one)["image"] for one in results]
    assert torch.equal(back[0], back[1])
    assert float((back[0] - item["image"]).abs().max()) < 0.15 * float(item["image"].max())
