"""The pairs of tables and BIDS folders."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from stn3d.cohort import read_cohort
from stn3d.errors import InputError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_cells_are_files_relative_to_the_table(tmp_path: Path) -> None:
    header = "fixed,moving,name,fixed_mask,moving_exclude,moving_points,init"
    table = write(
        tmp_path / "a" / "pairs.csv",
        f"{header}\nf.nii.gz,../m.nii.gz,one,mask.nii.gz,,p.csv,inverse:t.h5\n"
        f"/x/f.nii.gz,m.nii.gz,,,lesion.nii.gz,,\n",
    )
    first, second = read_cohort(table)
    assert (first.name, first.folder) == ("one", "one")
    assert first.files == {
        "fixed": str(tmp_path / "a/f.nii.gz"),
        "moving": str(tmp_path / "m.nii.gz"),
        "fixed_mask": str(tmp_path / "a/mask.nii.gz"),
        "moving_points": str(tmp_path / "a/p.csv"),
        "init": f"inverse:{tmp_path}/a/t.h5",
    }
    assert second.name == "a_m_to_x_f"  # the names of the files alone are those of the first
    assert second.files["fixed"] == "/x/f.nii.gz"
    assert "moving_exclude" in second.files


def test_a_template_takes_the_place_of_missing_fixed_images(tmp_path: Path) -> None:
    template, labels = (write(tmp_path / name, "") for name in ("t.nii.gz", "l.nii.gz"))
    table = write(tmp_path / "p.csv", "moving,fixed\na.nii.gz,\nb.nii.gz,own.nii.gz\n")
    files = {"fixed_labels": str(labels)}
    first, second = read_cohort(table, template=str(template), fixed=files, init="start.h5")
    assert first.files["fixed"] == str(template)
    assert first.files["fixed_labels"] == str(labels)
    assert second.files["fixed"] == str(tmp_path / "own.nii.gz")
    assert "fixed_labels" not in second.files
    assert first.files["init"] == second.files["init"] == str(Path.cwd() / "start.h5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fixed,moving,name\na,b,x\nc,d,X\n", "lines 2 and 3 are both named X"),
        ("fixed,moving,name\na,b,../x\n", "line 2: the name ../x cannot be that of a folder"),
        ("fixed,moving,name\na,b,summary.csv\n", "summary.csv cannot be"),
        ("fixed,moving,name\na,b,.cohort\n", "the name .cohort cannot be"),
        (f"fixed,moving,name\na,b,{'x' * 151}\n", "longer than 150 bytes"),
        ("moving\na\n", "line 2: no fixed; give the image, or a template by --to"),
        ("fixed,moving,colour\na,b,c\n", "colour"),
        ("fixed,moving\n", "no pairs"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_cohort(write(tmp_path / "pairs.csv", text))


def test_images_of_a_bids_folder(tmp_path: Path) -> None:
    root, template = tmp_path / "bids", write(tmp_path / "tpl-X_T1w.nii.gz", "")
    kept = [
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_run-1_T1w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_run-2_T1w.nii",
        "sub-02/ses-b/anat/sub-02_ses-b_T1w.nii.gz",
    ]
    others = [
        "sub-01/anat/sub-01_T2w.nii.gz",
        "sub-01/anat/sub-01_desc-preproc_T1w.nii.gz",
        "sub-01/anat/sub-01_part-phase_T1w.nii.gz",
        "sub-01/func/sub-01_T1w.nii.gz",
        "derivatives/sub-01/anat/sub-01_T1w.nii.gz",
    ]
    for name in (*kept, *others):
        write(root / name, "")
    found = read_cohort(root, template=str(template))
    assert [pair.files["moving"] for pair in found] == [str(root / name) for name in kept]
    assert [pair.folder for pair in found] == [str(Path(name).parent) for name in kept]
    assert [pair.name for pair in found][1] == "sub-02_ses-a_run-1_T1w"
    for label in ("02", "sub-02"):
        assert len(read_cohort(root, template=str(template), participants=[label])) == 3
    assert len(read_cohort(root, template=str(template), suffix="T2w")) == 1
    write(root / "sub-01/anat/sub-01_T1w.nii", "")
    for options, message in (
        ({}, "as .nii and as .nii.gz"),
        ({"participants": ["03"]}, "no subject sub-03"),
        ({"suffix": "FLAIR"}, r"\*_FLAIR.nii.gz"),
    ):
        with pytest.raises(InputError, match=message):
            read_cohort(root, template=str(template), **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="needs a template; give its path by --to"):
        read_cohort(root)


def test_templates_of_templateflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = write(tmp_path / "pairs.csv", "moving\na.nii.gz\n")
    with pytest.raises(InputError, match="TemplateFlow is not installed"):
        read_cohort(table, template="MNI152NLin2009cAsym")
    with pytest.raises(InputError, match=r"there is no template .*; check the path"):
        read_cohort(table, template=str(tmp_path / "none.nii.gz"))
    package, api = ModuleType("templateflow"), ModuleType("templateflow.api")
    asked = {}

    def get(name: str, **query: object) -> Path:
        asked.update(query, name=name)
        return tmp_path / "tpl.nii.gz"

    api.get, api.templates = get, lambda: ["MNI152NLin2009cAsym"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "templateflow", package)
    monkeypatch.setitem(sys.modules, "templateflow.api", api)
    (pair,) = read_cohort(table, template="MNI152NLin2009cAsym")
    assert pair.files["fixed"] == str(tmp_path / "tpl.nii.gz")
    assert (asked["suffix"], asked["resolution"], asked["desc"]) == ("T1w", 1, None)
    with pytest.raises(InputError, match="neither a file nor of TemplateFlow"):
        read_cohort(table, template="MNI")
