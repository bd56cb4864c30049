"""Prepared statements and portals of a PostgreSQL session.

A prepared statement keeps its plan until the cluster state or the session's view changes; it also keeps the decoders of
its parameters and the encoders of its rows, so that a repeated Bind/Execute chooses nothing anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from cratepy.errors import ProtocolViolation, UnsupportedFeature
from cratepy.execution.results import Result
from cratepy.model.plan import CompiledStatement
from cratepy.model.relations import OutputColumn
from cratepy.model.types import DataType, type_oid
from cratepy.protocols.postgres.encoder import column_formats
from cratepy.protocols.postgres.messages import Bind
from cratepy.protocols.postgres.oids import UNSPECIFIED_OIDS, parameter_type
from cratepy.protocols.postgres.parameters import (
    ColumnDecoder,
    Decoder,
    column_decoder,
    is_read_at_once,
    parameter_decoder,
)
from cratepy.protocols.postgres.repeats import RepeatedColumn
from cratepy.protocols.postgres.rows import RowEncoder
from cratepy.server.session import Session


def decoded(decoders: Sequence[Decoder], values: Sequence[bytes | None]) -> list[object]:
    """The values of a Bind. Raises what the decoders raise."""
    return [None if value is None else decode(value) for decode, value in zip(decoders, values, strict=True)]


class PreparedStatement:
    """A statement of a Parse message; ``compiled`` is None for an empty one."""

    def __init__(self, name: str, text: str, type_oids: tuple[int, ...]) -> None:
        self.name = name
        self.text = text
        self.type_oids = type_oids
        self.declared_types: tuple[DataType | None, ...] = tuple(parameter_type(oid) for oid in type_oids)
        self.compiled: CompiledStatement | None = None
        #: Columns the client may have been told.
        self._columns: tuple[OutputColumn, ...] | None = None
        self._state_version = -1
        self._view_key: tuple[Any, ...] = ()
        self._is_used = False
        self._decoders: dict[tuple[int, ...], list[Decoder]] = {}
        self._encoders: dict[tuple[int, ...], RowEncoder] = {}
        #: What ``postgres_reads`` keeps from one execution to the next.
        self.key_reads: object = None

    def current(self, session: Session) -> CompiledStatement | None:
        """The plan, if it was made for this cluster state and the session's view and may be used (again)."""
        compiled = self.compiled
        if (
            compiled is not None
            and self._state_version == session.services.cluster.state.version
            and (self._view_key is session.view_key or self._view_key == session.view_key)
            and (compiled.is_cacheable or not self._is_used)
        ):
            return compiled
        return None

    async def prepare(self, session: Session) -> CompiledStatement:
        """The plan, compiled again if the cluster state or the session's view is not the one it was made for.

        Raises UnsupportedFeature in PostgreSQL's words (drivers look for them) if the result columns changed.
        """
        current = self.current(session)
        if current is not None:
            return current
        compiled = self.compiled
        version = session.services.cluster.state.version
        fresh = await session.compile(self.text, self.declared_types)
        if compiled is not None:
            if _shape(fresh.columns) != _shape(self._columns):
                self.compiled = None
                raise UnsupportedFeature("cached plan must not change result type")
            if fresh.parameter_types != compiled.parameter_types:
                self._decoders.clear()
        else:
            self._columns = fresh.columns
        self.compiled = fresh
        self._state_version = version
        self._view_key = session.view_key
        self._is_used = False
        return fresh

    def mark_used(self) -> None:
        """A plan that is good only once has been."""
        self._is_used = True

    def parameter_oids(self) -> list[int]:
        """What ParameterDescription tells: the declared OIDs, the inferred types' otherwise."""
        assert self.compiled is not None
        declared = self.type_oids
        return [
            declared[i] if i < len(declared) and declared[i] not in UNSPECIFIED_OIDS else type_oid(data_type)
            for i, data_type in enumerate(self.compiled.parameter_types)
        ]

    def decoders(self, formats: tuple[int, ...]) -> list[Decoder]:
        """One decoder per parameter; ``formats`` as in Bind."""
        found = self._decoders.get(formats)
        if found is None:
            types = self._wire_types()
            found = [
                parameter_decoder(data_type, self._declared_oid(i), is_binary=bool(code))
                for i, (data_type, code) in enumerate(zip(types, column_formats(formats, len(types)), strict=True))
            ]
            self._decoders[formats] = found
        return found

    def column_decoders(self, formats: tuple[int, ...]) -> list[ColumnDecoder]:
        """One decoder per parameter that takes the values of many Binds."""
        types = self._wire_types()
        return [
            column_decoder(data_type, self._declared_oid(i), is_binary=bool(code))
            for i, (data_type, code) in enumerate(zip(types, column_formats(formats, len(types)), strict=True))
        ]

    def are_read_at_once(self, formats: tuple[int, ...], columns: Sequence[RepeatedColumn]) -> bool:
        """Whether these values of many Binds are decoded column by column, quickly."""
        types = self._wire_types()
        return all(
            is_read_at_once(data_type, self._declared_oid(i), column, is_binary=bool(code))
            for i, (data_type, code, column) in enumerate(
                zip(types, column_formats(formats, len(types)), columns, strict=True)
            )
        )

    def _wire_types(self) -> tuple[DataType, ...]:
        """How the client writes the parameters: as it declared them, else as it was told."""
        assert self.compiled is not None
        declared = self.declared_types
        return tuple(
            (declared[i] if i < len(declared) else None) or data_type
            for i, data_type in enumerate(self.compiled.parameter_types)
        )

    def _declared_oid(self, position: int) -> int:
        return self.type_oids[position] if position < len(self.type_oids) else 0

    def encoder(self, columns: tuple[OutputColumn, ...], formats: tuple[int, ...]) -> RowEncoder:
        """The row encoder of the result."""
        found = self._encoders.get(formats)
        if found is None or found.columns != columns:
            found = RowEncoder(columns, formats)
            self._encoders[formats] = found
        return found

    def check_bind(self, bind: Bind) -> None:
        """Counts of parameters and formats; raises ProtocolViolation."""
        assert self.compiled is not None
        wanted = len(self.compiled.parameter_types)
        if len(bind.parameters) != wanted:
            raise ProtocolViolation(
                f"bind message supplies {len(bind.parameters)} parameters, "
                f'but prepared statement "{self.name}" requires {wanted}'
            )


def check_result_formats(formats: tuple[int, ...], columns: tuple[OutputColumn, ...] | None) -> None:
    """As many formats as columns, one for all, or none."""
    count = len(columns or ())
    if len(formats) > 1 and len(formats) != count:
        raise ProtocolViolation(f"bind message has {len(formats)} result formats but query has {count} columns")


def _shape(columns: tuple[OutputColumn, ...] | None) -> list[tuple[str, DataType]] | None:
    return None if columns is None else [(column.name, column.type) for column in columns]


class Portal:
    """A bound statement and, once executed, what is left of its result.

    ``rows`` are rows that were received and not sent; ``batch`` the same as a batch. The portal owns the Result.
    """

    def __init__(
        self,
        statement: PreparedStatement,
        compiled: CompiledStatement | None,
        parameters: Sequence[Any],
        result_formats: tuple[int, ...],
    ) -> None:
        self.statement = statement
        self.compiled = compiled
        self.parameters = parameters
        self.result_formats = result_formats
        self.result: Result | None = None
        self.rows: deque[tuple[Any, ...]] = deque()
        self.batch: pa.RecordBatch | None = None
        self.is_complete = False
        #: The transaction status before it ran, which its tag depends on.
        self.status_before = "I"

    async def aclose(self) -> None:
        """Give up what was not fetched."""
        self.rows.clear()
        self.batch = None
        result, self.result = self.result, None
        if result is not None and not self.is_complete:
            await result.aclose()
