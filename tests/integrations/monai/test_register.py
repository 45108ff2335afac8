import json
import pickle

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.data.utils import pickle_hashing
from monai.transforms import (
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Orientationd,
    Spacingd,
)

import stn3d
from stn3d.errors import InputError
from stn3d.integrations.monai import Registerd
from stn3d.warp import warp_image
from tests.helpers.image_pairs import TRUTH, written_pair
from tests.integrations.monai.cases import (
    body_grid,
    dice,
    image,
    labels,
    mean_difference,
    metatensor,
    plane,
)

QUICK = {"kind": "affine", "metric": "ncc", "preset": "fast", "init": "header"}
KEYS = ("fixed", "moving", "segmentation")
LANDMARKS = torch.tensor([[8.0, -4, 0], [-9, 2, 6], [0, 0, 0]]).double()


def loading(lazy=False):
    modes = ("bilinear", "bilinear", "nearest")
    return [
        LoadImaged(KEYS),
        EnsureChannelFirstd(KEYS),
        Orientationd(KEYS, "LAS", labels=None, lazy=lazy),
        Spacingd(KEYS, (2.5, 2.5, 2.5), mode=modes, lazy=lazy),
        CropForegroundd(
            KEYS[1:], "moving", lambda x: x > 5, margin=4, allow_smaller=True, lazy=lazy
        ),
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    pair = written_pair(folder, labels=True)
    names = {"fixed": "fixed", "moving": "moving", "segmentation": "moving_labels"}
    return {key: str(folder / pair[name]) for key, name in names.items()}


@pytest.fixture(scope="module")
def pipeline():
    register = Registerd(
        *KEYS[:2],
        also={"segmentation": "label"},
        ddf_key="ddf",
        quality_key="quality",
        metrics_key="metrics",
        **QUICK,
    )
    after = CropForegroundd(KEYS, "fixed", lambda x: x > 5, allow_smaller=True)
    return Compose([*loading(), register, after])


@pytest.fixture(scope="module")
def registered(files, pipeline):
    return pipeline(files)


def test_the_transform_is_found(registered):
    error = registered["transform"](LANDMARKS) - TRUTH(LANDMARKS)
    assert float(error.norm(dim=1).max()) < 1


def test_moved_items_lie_on_the_fixed_grid(registered, files):
    for key in KEYS[1:]:
        assert registered[key].shape == registered["fixed"].shape
        torch.testing.assert_close(registered[key].affine, registered["fixed"].affine)
        assert registered[key].meta["filename_or_obj"] == files[key]
    assert mean_difference(registered["fixed"], registered["moving"]) < 0.02


def test_what_is_stored_besides(registered):
    metrics = json.loads(registered["metrics"])
    assert registered["quality"] == metrics["quality"]["status"]
    assert metrics["settings"]["kind"] == "affine"
    assert isinstance(registered["ddf"], MetaTensor)
    assert registered["ddf"].shape[0] == 3
    assert not any(k.startswith(("fixed_", "moving_")) for k in registered)


def test_invertd_moves_back_onto_the_original_grid(registered, files, pipeline):
    back = Invertd(KEYS[1:], pipeline, nearest_interp=[False, True])(registered)
    for key in KEYS[1:]:
        original = nib.load(files[key])
        assert back[key].shape == (1, *original.shape)
        np.testing.assert_allclose(back[key].affine, original.affine, atol=1e-6)
    original = torch.from_numpy(nib.load(files["moving"]).get_fdata(dtype=np.float32))[None]
    assert mean_difference(original, back["moving"]) < 0.02
    segmentation = torch.from_numpy(np.asarray(nib.load(files["segmentation"]).dataobj))[None]
    assert min(dice(segmentation, back["segmentation"], n) for n in (1, 2)) > 0.85


def test_invertd_brings_what_lies_on_the_fixed_grid_to_the_fixed_file(registered, files, pipeline):
    """For example a segmentation of the fixed image: its trace has no registration."""
    data = {**registered, "moved": registered["segmentation"]}
    back = Invertd("moved", pipeline, orig_keys="fixed")(data)["moved"]
    original = nib.load(files["fixed"])
    assert back.shape == (1, *original.shape)
    np.testing.assert_allclose(back.affine, original.affine, atol=1e-6)
    truth = torch.from_numpy(original.get_fdata(dtype=np.float32))[None]
    assert dice((truth > 30).int() + (truth > 70), back, 2) > 0.8


def test_the_expected_error_is_stored_on_the_fixed_grid(files):
    options = {"kind": "deformable", "metric": "lncc", "preset": "fast", "threads": 1}
    step = Registerd("fixed", "moving", uncertainty_key="error", **options)
    data = Compose(loading())(files)
    found = step(data)
    assert found["error"].shape == found["fixed"].shape
    torch.testing.assert_close(found["error"].affine, found["fixed"].affine)
    expected = stn3d.register(data["fixed"], data["moving"], uncertainty=True, **options)
    assert torch.equal(found["error"].as_tensor(), expected.uncertainty.values[0])
    assert float(found["error"].max()) > 0


def test_the_result_is_that_of_register(files, registered):
    data = Compose(loading())(files)
    expected = stn3d.register(data["fixed"], data["moving"], **QUICK)
    assert torch.equal(registered["transform"](LANDMARKS), expected.transform(LANDMARKS))


def test_workers_make_batches_that_are_inverted(files, pipeline):
    loader = DataLoader(Dataset([files, files], pipeline), batch_size=2, num_workers=2)
    (batch,) = list(loader)
    assert batch["moving"].shape[0] == 2
    first, second = decollate_batch(batch)
    assert torch.equal(first["transform"](LANDMARKS), second["transform"](LANDMARKS))
    back = Invertd("segmentation", pipeline)(second)["segmentation"]
    assert back.shape == (1, *nib.load(files["segmentation"]).shape)


def test_lazy_pipelines_register_what_eager_ones_do(files, registered):
    """Compose applies pending operations; without it, the transform itself does."""
    data = files
    for transform in loading(lazy=True)[:-1]:
        data = transform(data)
    assert data["moving"].pending_operations
    found = Registerd("fixed", "moving", **QUICK)(data)
    assert found["moving"].pending_operations == []
    gap = found["transform"](LANDMARKS) - registered["transform"](LANDMARKS)
    assert float(gap.norm(dim=1).max()) < 0.5


def test_several_channels_are_registered_and_moved():
    fixed, moving = body_grid((18, 18, 18)), body_grid((20, 18, 16), "LPS")
    data = {}
    for key, grid, by in (("fixed", fixed, None), ("moving", moving, TRUTH.inverse())):
        one = image(grid, by).as_tensor()
        data[key] = metatensor(torch.cat([one, 100 - one]), grid)
    transform = Registerd("fixed", "moving", {"absent": "label"}, allow_missing_keys=True, **QUICK)
    found = transform(data)
    assert found.keys() == {"fixed", "moving", "transform"}
    values = data["moving"].as_tensor()[None]
    expected = warp_image(values, moving, found["transform"], fixed)[0]
    assert torch.equal(found["moving"].as_tensor(), expected)
    with pytest.raises(InputError, match="channels"):
        transform({**data, "fixed": data["fixed"][:1]})


def test_items_that_belong_to_an_image_take_part():
    fixed, moving = body_grid((18, 18, 18)), body_grid((18, 18, 18), "LPS")
    data = {
        "fixed": image(fixed),
        "moving": image(moving, TRUTH.inverse()),
        "mask": (image(fixed) > 5).float(),
        "marks": LANDMARKS,
        "marks of moving": TRUTH(LANDMARKS),
        "segmentation": labels(fixed),
        "segmentation of moving": labels(moving, TRUTH.inverse()),
    }
    transform = Registerd(
        "fixed",
        "moving",
        also={"segmentation of moving": "label", "marks of moving": "points"},
        fixed_with={"mask": "mask", "landmarks": "marks", "labels": "segmentation"},
        moving_with={"landmarks": "marks of moving", "labels": "segmentation of moving"},
        metrics_key="metrics",
        **QUICK,
    )
    found = transform(data)
    after = json.loads(found["metrics"])["after"]
    assert after["dice"] > 0.85
    moved = found["marks of moving"].as_tensor()
    assert float((moved - LANDMARKS).norm(dim=1).max()) < 1.5
    assert torch.equal(found["mask"], data["mask"])
    with pytest.raises(KeyError, match="mask"):
        transform({key: value for key, value in data.items() if key != "mask"})


def test_missing_images():
    data = {"fixed": image(body_grid((8, 8, 8)))}
    with pytest.raises(KeyError, match="moving"):
        Registerd("fixed", "moving", **QUICK)(data)
    assert Registerd("fixed", "moving", allow_missing_keys=True, **QUICK)(data) == data


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kid": "rigid"}, "did you mean kind"),
        ({"kind": "rigit"}, "kind"),
        ({"also": {"segmentation": "lable"}}, "mode"),
        ({"fixed_with": {"masc": "mask"}}, "role"),
    ],
)
def test_options_are_checked_before_any_image(options, message):
    with pytest.raises(InputError, match=message):
        Registerd("fixed", "moving", **options)


def test_a_batch_is_one_sentence():
    batch = torch.zeros(2, 1, 8, 8, 8)
    with pytest.raises(InputError, match=r"which is a batch.*before batches are made"):
        Registerd("fixed", "moving")({"fixed": batch, "moving": batch})


def test_planes():
    grid, finer = plane((40, 36)), plane((44, 40))
    data = {}
    for key, on in (("fixed", grid), ("moving", finer)):
        x, y = (on.points_mm() - grid.centre_mm).movedim(-1, 0)
        x = x - 3 if key == "moving" else x
        values = torch.exp(-(x**2) / 150 - y**2 / 60) + 0.5 * torch.exp(-((x - 9) ** 2 + y**2) / 20)
        data[key] = metatensor(100 * values.float()[None], on, spatial_shape=np.array(on.shape))
    found = Registerd("fixed", "moving", ddf_key="ddf", **QUICK)(data)
    shift = found["transform"](grid.centre_mm[None]) - grid.centre_mm
    torch.testing.assert_close(shift, torch.tensor([[3.0, 0.0]]).double(), atol=0.5, rtol=0)
    assert found["ddf"].shape == (2, *grid.shape)


def test_pickling_keeps_the_transform_and_its_hash():
    first, second = (
        Registerd("fixed", "moving", {"segmentation": "label"}, **QUICK) for _ in range(2)
    )
    assert pickle_hashing([first]) == pickle_hashing([second])
    assert pickle_hashing([first]) != pickle_hashing([Registerd("fixed", "moving", **QUICK)])
    again = pickle.loads(pickle.dumps(first))
    assert (again.keys, again.samplings) == (first.keys, first.samplings)
    assert again.settings == first.settings


def test_spacingd_and_names_that_begin_alike(files):
    """Why no key here begins with that of an image and an underscore.

    MONAI's Spacingd takes every key ``fixed_...`` for metadata of ``fixed`` and calls its
    ``update``, which a tensor does not have.
    """
    data = {"fixed": files["fixed"], "fixed_labels": files["fixed"]}
    keys = tuple(data)
    steps = [LoadImaged(keys), EnsureChannelFirstd(keys)]
    with pytest.raises(RuntimeError) as failure:
        Compose([*steps, Spacingd(keys, (3.0, 3.0, 3.0))])(data)
    assert "'update'" in str(failure.value.__cause__)
