"""What was saved is there after a restart; what is damaged is refused; a directory has one owner."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from cratepy import limits
from cratepy.cluster.persistence import DirectoryInUse, NodeDirectory, StateDamaged, StateLog
from cratepy.model.state import ClusterState, Coordination
from tests.cluster.states import THREE, created, next_version, started

replace = msgspec.structs.replace


def _states(count: int) -> list[ClusterState]:
    states = [replace(THREE, cluster_name="c")]
    for number in range(count):
        states.append(next_version(created(states[-1], f"t{number}", shards=1)))
    return states


def _saved(path: Path, states: list[ClusterState]) -> Path:
    log = StateLog(path, cluster_name="c")
    for term, state in enumerate(states, 1):
        log.save(term, state)
    log.close()
    return max(path.glob("state-*"))


def test_the_last_saved_term_and_state_are_read_again(tmp_path: Path) -> None:
    states = _states(5)
    for count in range(len(states) + 1):
        directory = tmp_path / str(count)
        directory.mkdir()
        _saved(directory, states[:count])
        log = StateLog(directory, cluster_name="c")
        assert (log.term, log.state) == (count, states[count - 1] if count else ClusterState(cluster_name="c"))
        log.save(count + 7, log.state)  # a term without a state
        log.close()
        assert StateLog(directory, cluster_name="c").term == count + 7


def test_a_committed_configuration_of_the_same_version_is_saved(tmp_path: Path) -> None:
    state = replace(started(created(THREE)), cluster_name="c")
    committed = replace(
        state, coordination=Coordination(term=0, committed_config=("a",), is_cluster_uuid_committed=True)
    )
    log = StateLog(tmp_path, cluster_name="c")
    log.save(0, state)
    log.save(0, committed)
    assert StateLog(tmp_path, cluster_name="c").state == committed


def test_a_torn_last_record_is_cut_off_at_every_byte(tmp_path: Path) -> None:
    states = _states(2)
    file = _saved(tmp_path, states[:2])
    before = file.read_bytes()
    log = StateLog(tmp_path, cluster_name="c")
    log.save(3, states[2])
    log.close()
    after = file.read_bytes()
    for size in range(len(before), len(after)):
        file.write_bytes(after[:size])
        log = StateLog(tmp_path, cluster_name="c")
        assert (log.term, log.state) == (2, states[1])
        log.close()
        assert file.read_bytes() == before
    file.write_bytes(after)
    assert StateLog(tmp_path, cluster_name="c").state == states[2]


def test_damage_before_good_records_is_refused(tmp_path: Path) -> None:
    file = _saved(tmp_path, _states(4))
    good = file.read_bytes()
    for place in range(0, len(good) // 2, 7):
        bad = bytearray(good)
        bad[place] ^= 0xFF
        file.write_bytes(bad)
        with pytest.raises(StateDamaged):
            StateLog(tmp_path, cluster_name="c")


def test_the_log_begins_anew_when_its_changes_outgrow_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STATE_LOG_BYTES_MIN", 2_000)
    states = _states(60)
    file = _saved(tmp_path, states)
    assert [entry.name for entry in tmp_path.iterdir()] == [file.name]
    assert file.name != "state-1"
    assert StateLog(tmp_path, cluster_name="c").state == states[-1]


def test_a_crash_while_the_log_begins_anew_leaves_a_state_that_reads(tmp_path: Path) -> None:
    states = _states(2)
    file = _saved(tmp_path, states)
    (tmp_path / "state-2.tmp").write_bytes(b"half")
    log = StateLog(tmp_path, cluster_name="c")
    assert log.state == states[-1]
    log.close()
    (tmp_path / "state-2").write_bytes(file.read_bytes())  # renamed, and the old one not deleted yet
    assert StateLog(tmp_path, cluster_name="c").state == states[-1]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["state-2"]


def test_after_a_failed_write_the_log_is_not_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = StateLog(tmp_path, cluster_name="c")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(OSError, match="Input/output"):
        log.save(1, log.state)
    monkeypatch.undo()
    with pytest.raises(AssertionError):
        log.save(2, log.state)


def test_the_data_of_another_cluster_is_refused(tmp_path: Path) -> None:
    _saved(tmp_path, _states(1))
    with pytest.raises(StateDamaged, match=r"belongs to cluster \[c\]"):
        StateLog(tmp_path, cluster_name="other")


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
