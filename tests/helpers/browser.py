"""A headless Chromium for tests of pages."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

_NAMES = ("chromium", "chromium-browser", "google-chrome")
# WebGL 2 without a graphics card; no sandbox, because containers run as root.
_FLAGS = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox")


@contextmanager
def chromium() -> Iterator[Any]:
    """The system's Chromium; skips where there is none."""
    program = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium for tests of the report: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        yield browser
        browser.close()


class Tab:
    """A page that is open, and what went wrong in it.

    Args:
        browser: the browser.
        path: the file to open.
        width: width of the window in pixels.
        dark: whether the user prefers dark pages.
    """

    def __init__(self, browser: Any, path: Path, width: int = 1200, dark: bool = False) -> None:
        scheme = "dark" if dark else "light"
        size = {"width": width, "height": 900}
        self.context = browser.new_context(viewport=size, color_scheme=scheme, offline=True)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._requested)
        self.page.goto(path.as_uri())

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _requested(self, request: Any) -> None:
        if request.url.split(":")[0] not in ("data", "blob"):
            self.requests.append(request.url)

    def pixels(self, selector: str) -> NDArray[np.float64]:
        """``(H, W)`` grey of an element on the screen, 0 to 255."""
        shot = self.page.locator(selector).first.screenshot()
        with Pillow.open(io.BytesIO(shot)) as picture:
            return np.asarray(picture.convert("L")).astype(float)

    def close(self) -> None:
        self.context.close()
