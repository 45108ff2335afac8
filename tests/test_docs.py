"""The tutorials run as they stand: python blocks in one namespace, stn3d lines by its main.

Only trainings are made short.
"""

import re
import shlex
from importlib.metadata import PackageNotFoundError, distribution

import pytest

from tests.helpers.paths import ROOT

PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
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


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tutorial_runs(page, tmp_path, monkeypatch):
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
    for language, code in blocks:
        if language == "python":
            exec(compile(code, str(page), "exec"), namespace)
            continue
        for line in code.splitlines():
            with pytest.raises(SystemExit) as end:
                raise SystemExit(main(command(line)))
            assert end.value.code in (0, None), line


def test_links_in_the_docs_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
