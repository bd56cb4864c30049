"""The table of modes is what the documentation shows, and every way in it is gone."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

from cratepy.cluster.coordination.coordinator import Coordinator, Mode
from cratepy.cluster.coordination.transitions import TRANSITIONS, diagram, is_allowed
from tests.simulation.history import explore

DOCUMENT = Path(__file__).parents[3] / "docs" / "architecture" / "coordination.md"


def test_the_document_shows_the_table() -> None:
    assert f"```mermaid\n{diagram()}\n```" in DOCUMENT.read_text()


def test_every_way_in_the_table_is_gone_and_no_other() -> None:
    seen: set[tuple[Mode, Mode]] = set()
    original = Coordinator._enter

    def enter(self: Coordinator, mode: Mode) -> None:
        if mode is not self.mode:
            seen.add((self.mode, mode))
        original(self, mode)

    with patch.object(Coordinator, "_enter", enter):
        for seed in range(3):
            explore(seed, seconds=100.0, nodes=3)
    assert seen == {(transition.source, transition.target) for transition in TRANSITIONS}
    assert not is_allowed(Mode.LEADER, Mode.FOLLOWER)
