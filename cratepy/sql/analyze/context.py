"""What one statement's analysis keeps while it runs: ids, parameter types, tables read; nothing outlives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from cratepy import limits
from cratepy.errors import SQLParseError
from cratepy.model.expressions import Expression, Parameter
from cratepy.model.types import UNDEFINED, DataType
from cratepy.sql.analyze.catalog import CatalogView
from cratepy.sql.session_view import SessionView

#: Computes deterministic calls of constants (``execution.engine.constants.fold``).
Fold = Callable[[Sequence[Expression]], list[Expression]]
#: Views in views; deeper is surely a circle.
VIEW_DEPTH_MAX: Final = 32


class Context:
    """``is_settled`` turns False if a parameter's type became known after it had been used without one."""

    def __init__(
        self,
        catalog: CatalogView,
        session: SessionView,
        fold: Fold,
        new_id: Callable[[], str],
        parameter_types: Sequence[DataType | None],
    ) -> None:
        self.catalog = catalog
        self.session = session
        self.fold = fold
        self.new_uuid = new_id
        self.parameter_types = list(parameter_types)
        #: Uuids of user tables read, in order.
        self.tables: dict[str, None] = {}
        self.is_cacheable = True
        #: A function asks for names or definitions by oid.
        self.reads_catalog = False
        self.view_depth = 0
        self._expansions = 0
        self._ids = 0
        self._untyped = 0

    def next_id(self) -> int:
        self._ids += 1
        return self._ids

    def count_expansion(self) -> None:
        """A name of WITH or a view is about to be replaced by its query. Raises SQLParseError: too often."""
        self._expansions += 1
        if self._expansions > limits.QUERY_EXPANSIONS_MAX:
            raise SQLParseError(
                f"Names of WITH and views stand for more than {limits.QUERY_EXPANSIONS_MAX} queries in this statement"
            )

    def start_ids_above(self, highest: int) -> None:
        self._ids = max(self._ids, highest)

    def parameter(self, index: int) -> Parameter:
        """The parameter with the type known now."""
        while len(self.parameter_types) <= index:
            self.parameter_types.append(None)
        known = self.parameter_types[index]
        if known is None:
            self._untyped += 1
            return Parameter(index, UNDEFINED)
        return Parameter(index, known)

    def typed_parameter(self, parameter: Parameter, wanted: DataType) -> Parameter | Expression:
        """An untyped parameter takes the type its place wants."""
        known = self.parameter_types[parameter.index]
        if known is None:
            self.parameter_types[parameter.index] = known = wanted
            self._untyped -= 1
            return Parameter(parameter.index, wanted)
        if known == wanted:
            self._untyped -= 1
            return Parameter(parameter.index, wanted)
        # Its type became known in between; the second pass makes the cast.
        return Parameter(parameter.index, wanted)

    def note_type(self, parameter: Parameter, wanted: DataType) -> None:
        """What a place further out wants of a parameter that stands in a plan already; the second pass puts it there."""
        if self.parameter_types[parameter.index] is None:
            self.parameter_types[parameter.index] = wanted

    @property
    def is_settled(self) -> bool:
        return self._untyped == 0

    def check_parameters(self, declared: int) -> None:
        """Every number up to the highest must be known; the wire protocol counts on it."""
        if len(self.parameter_types) < declared:
            raise SQLParseError(f"The query contains {declared} parameter placeholders")
