"""What was saved is there after a restart; what is damaged is refused; a full disk is waited for and leaves what was there."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cratepy import limits
from cratepy.cluster.diff import diff
from cratepy.cluster.state_log import StateDamaged, StateLog, StateLogFull
from cratepy.model.state import ClusterState, Coordination
from tests.cluster.states import THREE, created, next_version, started
from tests.storage.simulated_disk import PowerCut, SimulatedDisk

replace = msgspec.structs.replace
HOME = Path("/state")


@pytest.fixture(autouse=True)
def no_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are what their records are, except where a test is about the space behind them."""
    monkeypatch.setattr(limits, "STATE_LOG_RESERVE_BYTES", 0)


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


def test_a_difference_that_is_known_makes_the_same_log(tmp_path: Path) -> None:
    states = _states(5)
    known, found = tmp_path / "known", tmp_path / "found"
    for directory in (known, found):
        directory.mkdir()
    file = _saved(found, states)
    log = StateLog(known, cluster_name="c")
    for term, state in enumerate(states, 1):
        log.write(term, state, diff(log.state, state))
    log.close()
    assert (known / file.name).read_bytes() == file.read_bytes()
    with pytest.raises(AssertionError):
        StateLog(known, cluster_name="c").write(9, states[1], diff(states[0], states[1]))


def test_a_log_that_is_prepared_in_time_begins_anew_in_no_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STATE_LOG_BYTES_MIN", 100)
    begun: list[bool] = []
    begin = StateLog._begin_generation

    def watched(log: StateLog, term: int, state: ClusterState) -> None:
        begun.append(is_writing)
        begin(log, term, state)

    is_writing = False
    monkeypatch.setattr(StateLog, "_begin_generation", watched)
    log = StateLog(tmp_path, cluster_name="c")
    for term, state in enumerate(_states(20), 1):
        is_writing = True
        log.write(term, state)
        is_writing = False
        log.prepare()
    assert len(begun) > 2
    assert not any(begun)
    assert StateLog(tmp_path, cluster_name="c").state == log.state


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


# --- a full disk -----------------------------------------------------------------------------------------------------


def _disk() -> SimulatedDisk:
    disk = SimulatedDisk()
    disk.make_directory(HOME)
    return disk


def _log(disk: SimulatedDisk) -> StateLog:
    return StateLog(HOME, cluster_name="c", files=disk)


def test_what_finds_no_space_leaves_the_log_as_it_was_and_can_be_saved_later() -> None:
    states = _states(2)
    disk = _disk()
    log = _log(disk)
    log.save(1, states[0])
    before = disk.read(HOME / "state-1")
    for room in range(1, 200, 7):  # whatever part of the record fits
        disk.quota = disk.used() + room
        with pytest.raises(StateLogFull, match="No space left on device"):
            log.save(2, states[1])
        assert (log.term, log.state) == (1, states[0])
        assert disk.read(HOME / "state-1") == before
        assert (_log(disk).term, _log(disk).state) == (1, states[0])
    disk.quota = None
    log.save(2, states[1])
    log.save(3, states[2])
    assert (_log(disk).term, _log(disk).state) == (3, states[2])


def test_a_log_that_cannot_be_cut_back_durably_is_not_used_again() -> None:
    states = _states(1)
    disk = _disk()
    log = _log(disk)
    log.save(1, states[0])
    disk.quota = disk.used() + 50
    disk.failing_sync = disk.syncs + 1
    with pytest.raises(OSError, match="Input/output") as caught:
        log.save(2, states[1])
    assert not isinstance(caught.value, StateLogFull)
    with pytest.raises(AssertionError):
        log.save(2, states[1])


def test_reserved_space_takes_states_while_others_fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STATE_LOG_RESERVE_BYTES", 8_000)
    states = _states(40)
    disk = _disk()
    log = _log(disk)
    log.save(1, states[0])
    disk.quota = disk.used()  # rows have taken everything else
    saved = 0
    with pytest.raises(StateLogFull):
        for term, state in enumerate(states[1:], 2):
            log.save(term, state)
            saved += 1
    assert saved > 5
    assert log.state == states[saved]
    disk.quota = disk.used() + 20_000
    log.save(90, states[saved + 1])
    assert log.reserved_bytes >= 8_000  # taken back as soon as there is space
    again = _log(disk)
    assert (again.term, again.state) == (90, states[saved + 1])
    assert again.reserved_bytes >= 8_000


def test_a_full_disk_has_no_place_for_a_new_generation_and_the_old_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STATE_LOG_RESERVE_BYTES", 30_000)
    monkeypatch.setattr(limits, "STATE_LOG_BYTES_MIN", 2_000)
    states = _states(60)
    disk = _disk()
    log = _log(disk)
    log.save(1, states[0])
    disk.quota = disk.used() + 100
    for term, state in enumerate(states[1:20], 2):
        log.save(term, state)
    assert disk.names(HOME) == ["state-1"]
    assert (_log(disk).term, _log(disk).state) == (20, states[19])
    disk.quota = None
    log = _log(disk)
    for term, state in enumerate(states[20:60], 21):
        log.save(term, state)
    assert disk.names(HOME) not in ([], ["state-1"])
    assert (_log(disk).term, _log(disk).state) == (60, states[59])


def _histories(quota_after: int | None) -> Iterator[tuple[int, SimulatedDisk, int, list[ClusterState], bool]]:
    """Save states, with the power cut at each call in turn: (seed, disk, saved, states, whether it was cut)."""
    states = _states(12)
    for seed in range(400):
        disk, saved = _disk(), 0
        log = _log(disk)
        disk.sync_directory(HOME.parent)
        disk.cut_at = disk.calls + 1 + seed % 60
        try:
            for term, state in enumerate(states, 1):
                if quota_after is not None and term == quota_after:
                    disk.quota = disk.used() + seed % 500
                try:
                    log.save(term, state)
                except StateLogFull:
                    disk.quota = None
                    log.save(term, state)
                saved = term
        except PowerCut:
            yield seed, disk, saved, states, True
        else:
            yield seed, disk, saved, states, False


@pytest.mark.parametrize("quota_after", [None, 2, 5])
def test_a_power_cut_at_any_call_loses_nothing_that_was_saved(
    quota_after: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a generation that begins anew, and a disk that is full for a while."""
    monkeypatch.setattr(limits, "STATE_LOG_RESERVE_BYTES", 1_500)
    monkeypatch.setattr(limits, "STATE_LOG_BYTES_MIN", 1_000)
    cuts = 0
    for seed, disk, saved, states, is_cut in _histories(quota_after):
        disk.power_cut(random.Random(seed))
        disk.quota = None
        log = _log(disk)
        assert log.term in (saved, saved + 1), seed
        assert log.state == (states[log.term - 1] if log.term else ClusterState(cluster_name="c")), seed
        log.save(99, log.state)
        assert _log(disk).term == 99
        cuts += is_cut
    assert cuts > 100
