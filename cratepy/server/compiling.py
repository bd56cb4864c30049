"""Texts → compiled statements, with the node's cache in front of the compiler.

In: a statement's text, its parameter types, the session's view. Out: one CompiledStatement. A hit costs a dictionary
look-up; the key holds everything a plan depends on besides the cluster state and the sizes of tables, whose versions are
checked. Long texts are
compiled on a worker thread, so that one big INSERT does not stop the clients of the whole node. Shared by all sessions
of a node; used on the event loop only.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import trio

from cratepy import limits
from cratepy.clock import Clock
from cratepy.errors import CrateError, NotJoined, ParsingError, StatementTooLong
from cratepy.model.expressions import Expression
from cratepy.model.plan import CompiledStatement
from cratepy.model.state import ClusterState
from cratepy.model.types import DataType
from cratepy.server.keys_in_texts import KeysInTexts
from cratepy.sql.session_view import SessionView

_PLACE: Final = re.compile(r"line (\d+):(\d+)")


class ClusterView(Protocol):
    """The part of ``cluster.service.ClusterService`` that sessions read."""

    @property
    def node_id(self) -> str: ...
    @property
    def state(self) -> ClusterState: ...
    @property
    def is_joined(self) -> bool: ...


class RowEstimates(Protocol):
    """``execution.row_counts.RowCounts``: ``rows`` by table uuid; plans made before ``version`` grew had other orders of
    magnitude to go by."""

    @property
    def version(self) -> int: ...
    @property
    def rows(self) -> Mapping[str, int]: ...


class CompileText(Protocol):
    """``sql.compiler.compile_text``."""

    def __call__(
        self,
        text: str,
        *,
        parameter_types: Sequence[DataType | None],
        session: SessionView,
        state: ClusterState,
        handler_id: str,
        fold: Callable[[Sequence[Expression]], list[Expression]],
        new_id: Callable[[], str],
        now_ms: int,
        estimates: Mapping[str, int],
    ) -> list[CompiledStatement]: ...


class Compiler:
    """The compiler of one node, and its cache: text, parameter types and view → plan, least recently used first out."""

    def __init__(
        self,
        compile_text: CompileText,
        *,
        cluster: ClusterView,
        fold: Callable[[Sequence[Expression]], list[Expression]],
        clock: Clock,
        check_syntax: Callable[[str], Any] | None = None,
        row_counts: RowEstimates | None = None,
        entries_max: int = limits.PLAN_CACHE_ENTRIES_MAX,
    ) -> None:
        self._compile_text = compile_text
        self._cluster = cluster
        self._fold = fold
        self._clock = clock
        self._check_syntax = check_syntax
        self._row_counts = row_counts
        self._entries_max = entries_max
        self._cache: OrderedDict[tuple[Any, ...], CompiledStatement] = OrderedDict()
        self._reads = KeysInTexts(entries_max)
        #: (cluster state, its master, row counts)
        self._cache_version: tuple[int, str | None, int] = (-1, None, -1)

    async def compile(
        self,
        text: str,
        *,
        parameter_types: tuple[DataType | None, ...],
        view: SessionView,
        view_key: tuple[Any, ...],
        origin: tuple[str, int] | None = None,
    ) -> CompiledStatement:
        """One statement, neither blank nor several. Raises the compiler's CrateErrors.

        ``origin`` is the whole text and the offset of this statement in it: places in error messages are those of the
        whole text.
        """
        if not self._cluster.is_joined:
            raise NotJoined("node has not joined the cluster yet")
        if len(text) > limits.STATEMENT_CHARS_MAX:
            raise StatementTooLong(
                f"Statement exceeds `statement_max_length` ({limits.STATEMENT_CHARS_MAX} allowed, {len(text)} provided). "
                "Try replacing inline values with parameter placeholders (`?`)"
            )
        state = self._cluster.state
        # Without a master a plan reads from fewer nodes; the version of the state is the same.
        version = (state.version, state.master_id, 0 if self._row_counts is None else self._row_counts.version)
        if version != self._cache_version:
            self._cache.clear()
            self._reads.clear()
            self._cache_version = version
        is_kept = len(text) <= limits.PLAN_CACHE_TEXT_CHARS_MAX
        key = (text, parameter_types, view_key)
        if is_kept:
            found = self._cache.get(key)
            if found is not None:
                self._cache.move_to_end(key)
                return found
            found = None if parameter_types else self._reads.find(text, view_key)
            if found is not None:
                return found
        try:
            compiled = await self._run(text, parameter_types, view, state)
        except CrateError as error:
            if origin is not None and origin[1]:
                _shift(error, *origin)
            raise
        if is_kept and compiled.is_cacheable and version == self._cache_version:
            self._cache[key] = compiled
            if not parameter_types:
                self._reads.learn(text, compiled, view_key, state)
            while len(self._cache) > self._entries_max:
                self._cache.popitem(last=False)
        return compiled

    async def check_syntax(self, text: str) -> None:
        """Raise ParsingError if any statement of the text does not parse; several statements fail before the first runs."""
        if self._check_syntax is not None:
            if len(text) > limits.COMPILE_INLINE_CHARS_MAX:
                await trio.to_thread.run_sync(self._check_syntax, text)
            else:
                self._check_syntax(text)

    async def _run(
        self, text: str, parameter_types: tuple[DataType | None, ...], view: SessionView, state: ClusterState
    ) -> CompiledStatement:
        def run() -> list[CompiledStatement]:
            return self._compile_text(
                text,
                parameter_types=parameter_types,
                session=view,
                state=state,
                handler_id=self._cluster.node_id,
                fold=self._fold,
                new_id=self._clock.new_id,
                now_ms=self._clock.wall_ms(),
                estimates={} if self._row_counts is None else self._row_counts.rows,
            )

        compiled = await trio.to_thread.run_sync(run) if len(text) > limits.COMPILE_INLINE_CHARS_MAX else run()
        if len(compiled) != 1:
            raise ParsingError(f"line 1:1: expected one statement, found {len(compiled)}")
        return compiled[0]


def _shift(error: CrateError, whole: str, offset: int) -> None:
    """Turn ``line L:C`` of a statement into the place in the text it was cut out of."""
    match = _PLACE.match(error.message)
    if match is not None:
        line, column = int(match.group(1)), int(match.group(2))
        before = whole[:offset]
        if line == 1:
            column += offset - (before.rfind("\n") + 1)
        error.message = f"line {line + before.count(chr(10))}:{column}{error.message[match.end() :]}"
        error.args = (error.message,)
    if error.position is not None:
        error.position += offset
