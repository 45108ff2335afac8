"""What tests in every folder share; its being here also lets them import tests/*.py by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.paths import DATA


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, which is not part of the project."""
    if not DATA.is_dir():
        pytest.skip(f"real data are not at {DATA}")
    return DATA
