"""Segmentation of real images that no network was trained on: overlap with manual labels,
agreement between contrasts, brain masks, pictures.

    python -m scripts.bench segmentation run --weights RUN/model.safetensors [--images "brains/*"]

Images and what they are compared with:

- brains, aseg_pair: the Dice of each structure with manual (MICCAI 2012) and FreeSurfer labels.
  Voxels whose manual label has no counterpart, such as vessels and the vermis, are excluded.
- contrasts: the Dice of each structure with the segmentation of the same person's T1.
- ct_mr: the Dice of the brain mask with that of the MNI152 template, in whose space the templates
  are up to 1 to 3 mm.
- head_natives: pictures only.
- abdomen, lungs, chest, prostate: how much brain the network sees where there is none, and how
  uncertain it is (mean entropy within the brain mask, as a fraction of the largest possible).

``aseg_pair`` and the brains 1000, 1001, 1006 and 1013 may serve to choose settings; the page marks
them and gives the means of the others apart.
"""

from scripts.bench.studies.segmentation.page import report
from scripts.bench.studies.segmentation.study import Options, run

__all__ = ["Options", "report", "run"]
