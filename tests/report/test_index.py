"""The index of many registrations in a real browser: sorting, filters, judgements."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from stn3d.report.index import IndexEntry, write_index
from stn3d.report.picture import write_picture
from tests.helpers.browser import Tab

EVIL = "<img src=x onerror=window.evil=1>"
DICE = {"a": 0.9, "b": 0.5, "c": 0.7, EVIL: 0.8}
STATUS = {"a": "good", "b": "check", "c": "check", EVIL: "failed"}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pairs with a page each, and one without a result."""
    out = tmp_path_factory.mktemp("index")
    entries = []
    for number, (name, dice) in enumerate(DICE.items()):
        folder = out / "pairs" / f"#{number}"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text("{}")
        (folder / "report.html").write_text("<title>a report</title>")
        thumbnail = folder / "t.webp"
        Pillow.new("RGB", (60, 84), (200, 30 * number, 0)).save(thumbnail)
        picture = Pillow.new("RGB", (9, 9))
        write_picture(folder / "report.png", picture, thumbnail=thumbnail.read_bytes())
        row = {"status": STATUS[name], "reason": f"because {name}", "dice_after": dice}
        entries.append(IndexEntry(name, folder, {**row, "time_s": 5.0 + number}))
    entries.append(IndexEntry("lost", None, {}, f"cannot read {EVIL}; check the path."))
    return write_index(out, entries)


@pytest.fixture
def tab(index: Path, browser: Any) -> Iterator[Tab]:
    found = Tab(browser, index)
    yield found
    assert found.errors == []
    assert found.page.evaluate("window.evil") is None
    found.close()


def names(tab: Tab) -> list[str]:
    return [str(one) for one in tab.page.locator("tbody .one > :last-child").all_inner_texts()]


def test_the_worst_come_first_and_columns_sort(tab: Tab) -> None:
    assert names(tab) == ["lost", EVIL, "b", "c", "a"]
    assert "cannot read" in tab.page.locator("tbody tr").first.inner_text()
    button = tab.page.locator("thead button[data-key=dice_after]")
    button.click()
    assert names(tab) == ["b", "c", EVIL, "a", "lost"]
    assert tab.page.locator("th[aria-sort=ascending]").inner_text().startswith("Dice")
    button.press("Enter")
    assert names(tab) == ["a", EVIL, "c", "b", "lost"]


def test_filters(tab: Tab) -> None:
    tab.page.locator("input[name=status][value=check]").check(force=True)
    assert names(tab) == ["b", "c"]
    tab.page.locator("#search").fill("because c")
    assert names(tab) == ["c"]
    tab.page.locator("#search").fill("")
    tab.page.locator("input[name=status][value='']").check(force=True)
    bars = tab.page.locator(".histogram").first.locator("button:enabled")
    assert bars.count() == 4
    bars.first.click()
    assert names(tab) == ["b"]
    bars.first.click()
    assert len(names(tab)) == 5


def test_links_and_thumbnails(tab: Tab, index: Path) -> None:
    link = tab.page.locator("tbody a", has_text="c").last
    assert link.get_attribute("href") == "pairs/%232/report.html"
    loaded = (
        "Promise.all([...document.images].map(i => { i.loading = 'eager'; return i.decode() }))"
    )
    tab.page.evaluate(loaded)
    sizes = tab.page.evaluate("[...document.images].map(i => [i.naturalWidth, i.naturalHeight])")
    assert sizes == [[60, 84]] * 4
    link.click()
    assert tab.page.title() == "a report"


def test_judgements_are_kept_saved_and_loaded(
    tab: Tab, index: Path, browser: Any, tmp_path: Path
) -> None:
    row = tab.page.locator("tbody tr", has_text="because b")
    row.locator("input[value=reject]").check(force=True)
    row.locator("input[type=text]").fill('skull left in, "see" z = 3')
    tab.page.locator("tbody tr", has_text="lost").locator("input[type=text]").fill("=1+1")
    tab.page.reload()
    row.locator("input[value=reject]:checked").wait_for(state="attached")
    assert "1 judged" in tab.page.inner_text("#shown")
    with tab.page.expect_download() as download:
        tab.page.locator("#save").click()
    path = tmp_path / "judgements.csv"
    download.value.save_as(path)
    with path.open(encoding="utf8", newline="") as file:
        saved = {one["name"]: one for one in csv.DictReader(file)}
    assert list(saved) == [*DICE, "lost"]
    assert saved["b"]["decision"] == "reject"
    assert saved["b"]["note"] == 'skull left in, "see" z = 3'
    assert float(saved["b"]["dice_after"]) == 0.5
    assert saved["lost"]["note"] == "'=1+1"  # no formula in a spreadsheet
    other = Tab(browser, index)
    other.page.locator("#load").set_input_files(path)
    loaded = other.page.locator("tbody tr", has_text="because b")
    loaded.locator("input[value=reject]:checked").wait_for(state="attached")
    assert loaded.locator("input[type=text]").input_value() == 'skull left in, "see" z = 3'
    lost = other.page.locator("tbody tr", has_text="lost").locator("input[type=text]")
    assert lost.input_value() == "=1+1"
    other.close()


def test_it_fits_a_phone(index: Path, browser: Any) -> None:
    tab = Tab(browser, index, 360, dark=True)
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 360
    assert tab.errors == []
    tab.close()
