"""A directory has one owner, keeps its node id, and is not for older versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from cratepy.cluster.persistence import DirectoryInUse, NodeDirectory
from cratepy.cluster.state_log import StateDamaged


def test_a_directory_has_one_owner_and_keeps_its_node_id(tmp_path: Path) -> None:
    first = NodeDirectory(tmp_path, new_node_id="one")
    with pytest.raises(DirectoryInUse):
        NodeDirectory(tmp_path, new_node_id="two")
    first.open_log(cluster_name="c").close()
    first.close()
    second = NodeDirectory(tmp_path, new_node_id="two")
    assert second.node_id == "one"
    second.close()
    (tmp_path / "_state" / "node").unlink()
    with pytest.raises(StateDamaged, match="missing"):
        NodeDirectory(tmp_path, new_node_id="three")
