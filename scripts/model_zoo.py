"""Assemble the bundle as MONAI's model zoo stores it.

    python -m scripts.model_zoo models/brain_mri_deformable_registration --weights FILE

FILE is the model.safetensors of a training of configs/train.yaml. The folder holds LICENSE,
configs, docs and models. Files above 25 MB must be downloaded in the zoo and would be listed in
large_files.yml; no file of this bundle is that large.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from stn3d.errors import InputError
from stn3d.nets.weights import load_weights

ROOT = Path(__file__).parents[1]
MOST_MB = 25  # of a file in the zoo
CONFIGS = (
    "metadata.json",
    "logging.conf",
    "inference.yaml",
    "evaluate.yaml",
    "train.yaml",
    "own_pairs.yaml",
    "train_affine.yaml",
    "train_segmentation.yaml",
    "multi_gpu_train.yaml",
)


def assemble(folder: Path, weights: Path, root: Path = ROOT) -> list[Path]:
    """Copy the files of the bundle.

    Args:
        folder: Folder of the bundle; it must not exist or be empty.
        weights: Weights of a deformable network.
        root: Root of the repository.

    Returns:
        The files, relative to the folder.

    Raises:
        InputError: The folder is not empty, a file is too large for the zoo, or the weights are
            not those of a deformable network.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty; give a new folder.")
    load_weights(weights, "deformable")
    files = {
        "LICENSE": root / "LICENSE",
        "models/model.safetensors": weights,
        **{f"docs/{name}": root / "docs" / name for name in ("README.md", "data_license.txt")},
        **{f"configs/{name}": root / "configs" / name for name in CONFIGS},
    }
    for name, file in files.items():
        if file.stat().st_size > MOST_MB * 2**20:
            raise InputError(f"{name} is above {MOST_MB} MB; list its URL in large_files.yml.")
    for name, file in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)
    return [Path(name) for name in files]


def main() -> None:
    """Assemble the bundle in the folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="model.safetensors")
    given = parser.parse_args()
    for name in assemble(given.folder, given.weights):
        print(name)


if __name__ == "__main__":
    main()
