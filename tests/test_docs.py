"""The tutorials run as they stand: python blocks in one namespace, stn3d lines by its main."""

import re
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def has_nilearn() -> bool:
    try:
        return bool(distribution("nilearn"))
    except PackageNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tutorial_runs(page, tmp_path, monkeypatch):
    if not has_nilearn():
        pytest.skip("nilearn is not installed; its image is the tutorial's")
    from stn3d.cli import main

    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    blocks = BLOCK.findall(page.read_text(encoding="utf8"))
    assert blocks
    for language, text in blocks:
        if language == "python":
            exec(compile(text, str(page), "exec"), namespace)
            continue
        for line in text.splitlines():
            command, *arguments = shlex.split(line)
            assert command == "stn3d"
            with pytest.raises(SystemExit) as end:
                raise SystemExit(main(arguments))
            assert end.value.code in (0, None), line


def test_links_in_the_docs_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
