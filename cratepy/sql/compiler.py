"""The SQL handler's front door: text in, compiled statements out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from cratepy.model.expressions import Expression
from cratepy.model.plan import CompiledStatement
from cratepy.model.state import ClusterState
from cratepy.model.types import DataType

if TYPE_CHECKING:
    from cratepy.sql.session_view import SessionView

#: Folds the deterministic column-free calls among expressions into literals, in order.
Fold = Callable[[Sequence[Expression]], list[Expression]]


def compile_text(
    text: str,
    *,
    parameter_types: Sequence[DataType | None],
    session: SessionView,
    state: ClusterState,
    handler_id: str,
    fold: Fold,
    new_id: Callable[[], str],
    now_ms: int,
    estimates: Mapping[str, int] = {},
) -> list[CompiledStatement]:
    """Compile every statement of the text."""
    raise NotImplementedError
