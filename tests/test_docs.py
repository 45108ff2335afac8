"""Tutorials and two guides run as written: python blocks in one namespace, stn3d lines by its main.

Only trainings are shortened. Text blocks of the pages in `PRINTED` are what the block before
prints; numbers may differ by 5 %, because results depend slightly on the processor.
"""

import math
import re
import shlex
from importlib.metadata import PackageNotFoundError, distribution

import pytest

from tests.helpers.paths import ROOT

GUIDE = ROOT / "docs" / "guides" / "python-objects.md"
PAGES = [
    *sorted((ROOT / "docs" / "tutorials").glob("*.md")),
    GUIDE,
    ROOT / "docs" / "segmentation.md",
]
PRINTED = {"first-registration", "landmarks", "series", "spatial-transformers", GUIDE.stem}
PRINTED |= {"monai-pipeline"}
BLOCK = re.compile(r"^```(python|bash|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDED = {"nilearn": "nilearn/", "pytorch-ignite": "stn3d train", "matplotlib": "matplotlib"}
SHORT = {  # what is changed where a config is named
    "configs/train.yaml": "random_subjects=3 epochs=1 epoch_length=3 val_samples=2 num_workers=0",
    "configs/own_pairs.yaml": "init=header",
    "configs/evaluate.yaml": "init=header",
}


def is_installed(package: str) -> bool:
    try:
        return bool(distribution(package))
    except PackageNotFoundError:
        return False


def command(line: str) -> list[str]:
    """The arguments of a line that begins with stn3d; what takes long is made short."""
    program, *arguments = shlex.split(line)
    assert program == "stn3d"
    changes = " ".join(short for config, short in SHORT.items() if config in arguments)
    return [*arguments, *changes.split()]


def lines_of(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


NUMBER = re.compile(r"\d+(?:\.\d+)?")


def agree(expected: str, printed: str) -> bool:
    """Whether two lines have the same words, and numbers that differ by at most 5 %."""
    if NUMBER.sub("#", expected).split() != NUMBER.sub("#", printed).split():
        return False
    pairs = zip(NUMBER.findall(expected), NUMBER.findall(printed), strict=True)
    return all(math.isclose(float(a), float(b), rel_tol=0.05, abs_tol=0.051) for a, b in pairs)


def test_lines_agree_up_to_small_differences_of_numbers() -> None:
    assert agree("error: 36.5 mm  before", "error: 36.4 mm before  ")
    assert not agree("error: 36.5 mm before", "error: 30.5 mm before")
    assert not agree("error: 36.5 mm before", "error: 36.5 mm after")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tutorial_runs(page, tmp_path, monkeypatch, capsys):
    text = page.read_text(encoding="utf8")
    for package, mark in NEEDED.items():
        if mark in text and not is_installed(package):
            pytest.skip(f"{package} is not installed, which the tutorial needs")
    from stn3d.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    namespace: dict[str, object] = {}
    blocks = BLOCK.findall(text)
    assert blocks
    printed: list[str] = []
    for language, code in blocks:
        if language == "text":
            lines = code.splitlines()
            missing = [a for a in lines if not any(agree(a, b) for b in printed)]
            assert page.stem not in PRINTED or not missing, "\n".join(printed)
            continue
        capsys.readouterr()
        if language == "python":
            exec(compile(code, str(page), "exec"), namespace)
            printed = lines_of(capsys.readouterr().out)
            continue
        for line in code.splitlines():
            with pytest.raises(SystemExit) as end:
                raise SystemExit(main(command(line)))
            assert end.value.code in (0, None), line
        printed = lines_of(capsys.readouterr().out)


def test_links_in_the_docs_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
