"""Golden files for every test: text that is compared with a file, and written to it by ``pytest --update-goldens``.

A golden is read in review: after an update look at the diff, and commit it only if every change in it is meant.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="write what the code gives into the golden files")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden(name, text)`` asserts that ``goldens/<name>.txt`` beside the test holds the text."""
    folder = Path(request.path).parent / "goldens"
    updates = bool(request.config.getoption("--update-goldens"))

    def compare(name: str, text: str) -> None:
        path = folder / f"{name}.txt"
        if updates:
            folder.mkdir(exist_ok=True)
            path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
        assert path.exists(), f"no golden {path.name}: run pytest --update-goldens and read what it wrote"
        assert text.rstrip("\n") + "\n" == path.read_text(encoding="utf-8")

    return compare
