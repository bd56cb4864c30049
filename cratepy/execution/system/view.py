"""What a provider of system rows may look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cratepy.execution.local_view import LocalView
from cratepy.model.names import RelationName
from cratepy.model.plan import StatementContext
from cratepy.model.state import ClusterState
from cratepy.model.types import DataType
from cratepy.records import dataclass

Row = Mapping[str, Any]
#: The columns of every view of a state: compiling a view needs ``sql``, which stands beside ``execution``, so it is injected.
DescribeViews = Callable[[ClusterState], Mapping[RelationName, tuple[tuple[str, DataType], ...]]]


@dataclass(frozen=True, slots=True)
class SystemView:
    """The cluster state and this node's own doings, for one statement."""

    local: LocalView
    context: StatementContext
    describe_views: DescribeViews

    @property
    def state(self) -> ClusterState:
        return self.local.state


Provider = Callable[[SystemView], Iterable[Row]]
