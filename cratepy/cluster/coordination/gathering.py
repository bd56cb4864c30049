"""Whether a publication is worth some milliseconds of waiting: the shards of a new table start on several nodes at about the same time.

In: the commands that wait, and the tables. Out: yes, if all of them tell of started shards and other shards of their tables
will be told of soon. Its own room because it is the only part of leadership that looks at what commands say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cratepy.model.commands import Command, ShardsStarted
from cratepy.model.state import TableState


def is_worth_gathering(commands: Iterable[Command | None], tables: Mapping[str, TableState]) -> bool:
    """None stands for a task that is no command; like any command but ``ShardsStarted``, it does not wait."""
    told: dict[str, set[int]] = {}
    for command in commands:
        if not isinstance(command, ShardsStarted):
            return False
        for copy in command.copies:
            told.setdefault(copy.table_uuid, set()).add(copy.shard)
    return any(
        copy.state == "initializing" and routing.shard not in shards
        for uuid, shards in told.items()
        if uuid in tables
        for routing in tables[uuid].routing
        for copy in routing.copies
    )
