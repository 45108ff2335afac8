"""Label maps as channels."""

from __future__ import annotations

import torch

from stn3d.registration.inputs import MAX_LABEL_CHANNELS, label_channels


def test_few_labels_have_a_channel_each_and_many_share() -> None:
    labels = torch.arange(40).reshape(1, 1, 5, 8) % 5
    few = label_channels(labels, (1, 2, 4))
    assert few.shape == (1, 3, 5, 8)
    for channel, label in zip(few[0], (1, 2, 4), strict=True):
        assert torch.equal(channel, (labels[0, 0] == label).float())
    sizes = torch.arange(1, 41)
    many = torch.repeat_interleave(sizes, sizes).reshape(1, 1, 20, 41)
    made = label_channels(many, sizes.tolist())
    assert made.shape == (1, MAX_LABEL_CHANNELS, 20, 41)
    assert ((made > 0).sum(dim=1) == 1).all()
    power = torch.stack([(made**2)[(many == i).expand_as(made)].sum() for i in (1, 17, 33)])
    assert torch.allclose(power, power[:1].expand(3))  # of one channel, and count alike


def test_large_ids_take_no_more_memory() -> None:
    ids = (614_454_277, 2**40)
    labels = torch.tensor([[0, ids[0], ids[1], 7]])[None, None]
    small = torch.tensor([[0, 1, 2, 3]])[None, None]
    assert torch.equal(label_channels(labels, ids), label_channels(small, (1, 2)))
    assert torch.equal(label_channels(labels.int() * 0 + 5, (5,)), torch.ones(1, 1, 1, 4))
