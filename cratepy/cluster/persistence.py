"""A node's directory: its lock, its id, its state log. One process per directory.

Layout below ``path.data/nodes/0``::

    node.lock            held (fcntl) as long as the process lives: one process per data directory
    _state/node          the node id, written once, and the newest version that wrote here
    _state/state-<n>     the state log, see :mod:`cratepy.cluster.state_log`
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

import msgspec

from cratepy.cluster.state_log import STATE_FILE, StateDamaged, StateLog


class DirectoryInUse(Exception):
    """Another process has the data directory."""


class NodeRecord(msgspec.Struct, frozen=True):
    """The file ``node``: who this directory belongs to, and the newest version that has written to it."""

    node_id: str
    version: str = ""


class NodeDirectory:
    """The lock, the node id and the state log of one node."""

    def __init__(self, path: Path, *, new_node_id: str, version: str = "") -> None:
        """Take the directory; ``new_node_id`` is used if it is empty.

        ``version`` is that of the program; a directory that a newer one has written to is refused, and an older one's is
        marked as this one's. Empty: a tool looks, whatever the version. Raises DirectoryInUse, StateDamaged, OSError.
        """
        self.path = path
        self._state_path = path / "_state"
        self._state_path.mkdir(parents=True, exist_ok=True)
        # Whoever made these names may have been killed before they were durable: "nodes", "0" and "_state".
        for above in (path, path.parent, path.parent.parent):
            sync_directory(above)
        self._lock_file = os.open(path / "node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock_file)
            raise DirectoryInUse(f"the data directory {path} is used by another process") from error
        _locked_here(path)
        try:
            record = self._load_record(new_node_id, version)
            if version and version_number(record.version) > version_number(version):
                raise StateDamaged(
                    f"{path} was written by version {record.version}, this is {version}: an older version may not understand "
                    "it. Start the newer version, or run `cratepy node override-version` and take the risk"
                )
            if version and record.version != version:
                record = self.set_version(version, record)
        except BaseException:
            self.close()
            raise
        self.node_id = record.node_id
        self.version = record.version

    def set_version(self, version: str, record: NodeRecord | None = None) -> NodeRecord:
        """Mark the directory as written by a version."""
        node_id = self.node_id if record is None else record.node_id
        changed = NodeRecord(node_id, version)
        write_durably(self._state_path / "node", msgspec.json.encode(changed))
        return changed

    def _load_record(self, new_node_id: str, version: str) -> NodeRecord:
        file = self._state_path / "node"
        if file.exists():
            try:
                return msgspec.json.decode(file.read_bytes(), type=NodeRecord)
            except msgspec.MsgspecError as error:
                raise StateDamaged(f"{file} is damaged: {error}") from error
        if any(STATE_FILE.fullmatch(name) for name in os.listdir(self._state_path)):
            raise StateDamaged(f"{file} is missing, but there is a cluster state beside it")
        record = NodeRecord(new_node_id, version)
        write_durably(file, msgspec.json.encode(record))
        return record

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether a node has ever used this directory."""
        return (path / "_state" / "node").exists()

    def open_log(self, *, cluster_name: str | None) -> StateLog:
        """The state log; a new one begins with an empty state. None: whatever the cluster's name is. Raises StateDamaged."""
        return StateLog(self._state_path, cluster_name=cluster_name)

    def close(self) -> None:
        """Give the directory free."""
        _held.discard(self.path.resolve())
        os.close(self._lock_file)


def version_number(text: str) -> tuple[int, ...]:
    """``1.2.3`` as something to compare; what follows the numbers does not count."""
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("-")[0].partition("+")[0])[:3])


#: fcntl locks do not exclude the same process; several nodes in one process (tests) must not share a directory either.
_held: set[Path] = set()


def _locked_here(path: Path) -> None:
    resolved = path.resolve()
    if resolved in _held:
        raise DirectoryInUse(f"the data directory {path} is used by another node of this process")
    _held.add(resolved)


def write_durably(path: Path, data: bytes) -> None:
    """Put a file in place so that after a crash it is there whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        written = 0
        while written < len(data):
            written += os.write(file, memoryview(data)[written:])
        os.fsync(file)
    finally:
        os.close(file)
    temporary.rename(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in it durable."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
