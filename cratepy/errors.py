"""Every error a client, a peer or a retry loop can meet, with its codes.

Three kinds, and only the first is ever shown to a client as it is:

* **Told to the client**: subclasses of :class:`CrateError`. Each carries CrateDB's error code (the HTTP status is its
  first three digits), PostgreSQL's SQLSTATE and the class name that CrateDB prints in front of the message. Where
  CrateDB answers ``XX000`` for something PostgreSQL has a code for, PostgreSQL's code is used.
* **Expected conditions**: subclasses of :class:`Condition`; caught where the retry or report policy lives.
* **Bugs**: everything else. The job edge logs them with a traceback and answers :class:`InternalError`.

Only this module knows codes; only ``protocols`` knows how they look on the wire. Names and codes: CrateDB's
``HttpErrorStatus`` and ``PGErrorStatus`` (docs: interfaces/http, "Error codes").
"""

from __future__ import annotations

from typing import ClassVar, Final


class CrateError(Exception):
    """An error told to the client: a message, CrateDB's code, PostgreSQL's SQLSTATE.

    ``position`` is the 1-based character position in the statement, if the error has a place there.
    """

    code: ClassVar[int] = 5000
    sqlstate: ClassVar[str] = "XX000"
    #: The class name CrateDB prints in ``Name[message]``.
    label: ClassVar[str] = "InternalError"

    def __init__(self, message: str, *, position: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.position = position

    @property
    def http_status(self) -> int:
        """The HTTP status: the first three digits of the code."""
        return int(str(self.code)[:3])

    @property
    def labelled(self) -> str:
        """``Name[message]``, as CrateDB prints it over HTTP."""
        return f"{self.label}[{self.message}]"


# --- 400: the statement or its values --------------------------------------------------------------------------------


class BadRequest(CrateError):
    code, sqlstate, label = 40000, "22023", "IllegalArgumentException"


class ParsingError(CrateError):
    """Syntax error; the message starts with ``line L:C: ``."""

    code, sqlstate, label = 4000, "42601", "ParsingException"


class SQLParseError(CrateError):
    """A statement that parses but cannot be right (CrateDB's SQLParseException)."""

    code, sqlstate, label = 4000, "42601", "SQLParseException"


class StatementTooLong(SQLParseError):
    sqlstate = "54000"


class StatementTooComplex(SQLParseError):
    sqlstate = "54001"


class RequestError(CrateError):
    """An HTTP body that is no request (CrateDB's SQLParseSourceException)."""

    code, sqlstate, label = 4000, "08P01", "SQLParseSourceException"


class AnalyzerUnknown(CrateError):
    code, sqlstate, label = 4001, "42704", "AnalyzerUnknownException"


class InvalidRelationName(CrateError):
    code, sqlstate, label = 4002, "42602", "InvalidRelationName"


class ColumnValidation(CrateError):
    code, sqlstate, label = 4003, "22000", "ColumnValidationException"


class ConversionError(SQLParseError):
    """A constant that cannot be cast to the type wanted."""

    sqlstate = "22P02"


class ValueConversionError(CrateError):
    """A value of a row that cannot be cast to the type wanted."""

    code, sqlstate, label = 4000, "22P02", "ConversionException"


class DivisionByZero(SQLParseError):
    sqlstate = "22012"


class NumericOverflow(SQLParseError):
    sqlstate = "22003"


class TypeMismatch(SQLParseError):
    sqlstate = "42804"


class NotNullViolation(SQLParseError):
    sqlstate = "23502"


class CheckViolation(SQLParseError):
    sqlstate = "23514"


class UnsupportedFeature(CrateError):
    code, sqlstate, label = 4004, "0A000", "UnsupportedFeatureException"


class FunctionUnknown(UnsupportedFeature):
    """``Unknown function: f(…)`` and ``Invalid arguments in: f(…) with (…)``."""

    sqlstate, label = "42883", "UnsupportedFunctionException"


class AmbiguousColumn(CrateError):
    code, sqlstate, label = 4006, "42702", "AmbiguousColumnException"


class AmbiguousAlias(CrateError):
    code, sqlstate, label = 4006, "42712", "AmbiguousColumnAliasException"


class OperationOnInaccessibleRelation(CrateError):
    code, sqlstate, label = 4007, "42809", "OperationOnInaccessibleRelationException"


class InvalidColumnName(CrateError):
    code, sqlstate, label = 4008, "42602", "InvalidColumnNameException"


class DependentObjects(CrateError):
    code, sqlstate, label = 40013, "2BP01", "DependentObjectsExists"


class VersioningValidation(CrateError):
    code, sqlstate, label = 4003, "0A000", "VersioningValidationException"


# --- 401 / 403 -------------------------------------------------------------------------------------------------------


class Unauthorized(CrateError):
    code, sqlstate, label = 4010, "28000", "UnauthorizedException"


class MissingPrivilege(CrateError):
    code, sqlstate, label = 4011, "42501", "MissingPrivilegeException"


class ReadOnlyNode(CrateError):
    code, sqlstate, label = 4031, "25006", "ReadOnlyException"


class RelationClosed(CrateError):
    code, sqlstate, label = 4032, "55000", "OperationOnInaccessibleRelationException"


class ClusterBlock(CrateError):
    """An operation refused by a block: no master, disk full, table read-only."""

    code, sqlstate, label = 4030, "55000", "ClusterBlockException"


# --- 404 -------------------------------------------------------------------------------------------------------------


class RelationUnknown(CrateError):
    code, sqlstate, label = 4041, "42P01", "RelationUnknown"


class ColumnUnknown(CrateError):
    code, sqlstate, label = 4043, "42703", "ColumnUnknownException"


class TypeUnknown(CrateError):
    code, sqlstate, label = 4044, "42704", "TypeUnknown"


class SchemaUnknown(CrateError):
    code, sqlstate, label = 4045, "3F000", "SchemaUnknownException"


class RoleUnknown(CrateError):
    code, sqlstate, label = 40410, "42704", "RoleUnknownException"


class RepositoryUnknown(CrateError):
    code, sqlstate, label = 4047, "42704", "RepositoryMissingException"


class UserFunctionUnknown(CrateError):
    code, sqlstate, label = 4049, "42883", "UserDefinedFunctionUnknownException"


class ResourceUnknown(CrateError):
    code, sqlstate, label = 4040, "42704", "ResourceNotFoundException"


class PublicationUnknown(CrateError):
    code, sqlstate, label = 5000, "42704", "PublicationUnknownException"


class SubscriptionUnknown(CrateError):
    code, sqlstate, label = 5000, "42704", "SubscriptionUnknownException"


class SettingUnknown(SQLParseError):
    """A session, cluster or table setting this server does not have."""

    sqlstate = "42704"


class DocumentMissing(CrateError):
    code, sqlstate, label = 40411, "02000", "DocumentMissingException"


# --- 409 -------------------------------------------------------------------------------------------------------------


class DuplicateKey(CrateError):
    code, sqlstate, label = 4091, "23505", "DuplicateKeyException"


class VersionConflict(CrateError):
    code, sqlstate, label = 4092, "40001", "VersionConflictException"


class RelationAlreadyExists(CrateError):
    code, sqlstate, label = 4093, "42P07", "RelationAlreadyExists"


class SchemaAlreadyExists(CrateError):
    code, sqlstate, label = 40910, "42P06", "SchemaAlreadyExists"


class DuplicateObject(CrateError):
    code, sqlstate, label = 40910, "42710", "DuplicateObjectException"


# --- 413 / 429 -------------------------------------------------------------------------------------------------------


class BodyTooLarge(CrateError):
    code, sqlstate, label = 4130, "54000", "TooLongFrameException"


class TooManyRequests(CrateError):
    code, sqlstate, label = 4290, "53300", "EsRejectedExecutionException"


# --- 500 / 503 -------------------------------------------------------------------------------------------------------


class InternalError(CrateError):
    """A bug. The message names the job so that the log can be searched; it never shows engine text."""


class EngineError(CrateError):
    """An error of the local operators that has no better class."""

    label = "SQLExecutionException"


class OutputFailed(CrateError):
    """A file of COPY TO could not be written; the message gives the reason."""

    code, sqlstate, label = 5000, "58030", "UnhandledServerException"


class RowOverflow(CrateError):
    """Overflow or division by zero met while rows are read (a constant one is a SQLParseError)."""

    code, sqlstate, label = 5000, "22003", "ArithmeticException"


class RowDivisionByZero(RowOverflow):
    sqlstate = "22012"


class CardinalityViolation(CrateError):
    """A scalar subquery that gave more than one row."""

    code, sqlstate, label = 4004, "21000", "UnsupportedFeatureException"


class CircuitBreaking(CrateError):
    """An operation would need more memory than its limit; the message names the limit and its size in bytes."""

    code, sqlstate, label = 5000, "53200", "CircuitBreakingException"


class JobKilled(CrateError):
    code, sqlstate, label = 5005, "57014", "JobKilledException"


class StatementTimeout(JobKilled):
    """``statement_timeout`` passed; the class is its own because clients retry it differently."""


class ShardUnavailable(CrateError):
    """A shard has no copy on a live node; the message names table and shard."""

    code, sqlstate, label = 5002, "58000", "UnavailableShardsException"


class ShardFailed(CrateError):
    """A shard copy is damaged or its disk failed; the message gives the reason."""

    code, sqlstate, label = 5002, "58030", "ShardNotFoundException"


class DiskFull(CrateError):
    code, sqlstate, label = 4030, "53100", "ClusterBlockException"


class NotJoined(CrateError):
    """This node has not joined a cluster yet, so it cannot know what exists."""

    code, sqlstate, label = 5030, "57P03", "ClusterNotJoinedException"


#: What clients are told that want something changed while there is no master.
NO_MASTER: Final = "Master is not discovered: blocked by [SERVICE_UNAVAILABLE/2/no master], reads go on"


class NoMaster(CrateError):
    code, sqlstate, label = 5031, "57P03", "MasterNotDiscoveredException"


class NodeUnavailable(CrateError):
    code, sqlstate, label = 5032, "58000", "NodeNotConnectedException"


class PublicationTimeout(CrateError):
    """The cluster did not confirm a state change in time; the outcome is unknown."""

    code, sqlstate, label = 5034, "57014", "ProcessClusterEventTimeoutException"


class OutcomeUnknown(CrateError):
    """The connection to the node doing the work broke; it may or may not have been done."""

    code, sqlstate, label = 5030, "40003", "NodeDisconnectedException"


# --- PostgreSQL protocol ---------------------------------------------------------------------------------------------


class ProtocolViolation(CrateError):
    code, sqlstate, label = 4000, "08P01", "ProtocolViolation"


class InvalidStatementName(CrateError):
    code, sqlstate, label = 4000, "26000", "IllegalArgumentException"


class InvalidCursorName(CrateError):
    code, sqlstate, label = 4000, "34000", "IllegalArgumentException"


class CursorUnknown(SQLParseError):
    sqlstate = "34000"


class CursorExists(CrateError):
    code, sqlstate, label = 5000, "42P03", "IllegalStateException"


class CursorIsForwardOnly(SQLParseError):
    sqlstate = "55000"


class InFailedTransaction(CrateError):
    code, sqlstate, label = 4000, "25P02", "InFailedTransaction"


# --- expected conditions ---------------------------------------------------------------------------------------------


class Condition(Exception):
    """Something that happens in a healthy cluster; caught where the policy for it lives, never shown raw."""


class PeerUnavailable(Condition):
    """The node is not connected, or its connection broke with the request in flight.

    ``sent`` tells whether the request may have reached the peer (outcome unknown) or surely has not.
    """

    def __init__(self, node_id: str, *, sent: bool) -> None:
        super().__init__(f"node {node_id} is not reachable")
        self.node_id = node_id
        self.sent = sent


class RequestTimeout(Condition):
    """A request to a peer passed its deadline; whether it was done is unknown."""


class StaleRouting(Condition):
    """The node asked does not hold the shard (any more): wait for a newer cluster state and route again."""


def _all_client_errors(root: type[CrateError] = CrateError) -> tuple[type[CrateError], ...]:
    found: list[type[CrateError]] = [root]
    for subclass in root.__subclasses__():
        found.extend(_all_client_errors(subclass))
    return tuple(found)


#: Class name → class: how an error keeps its class on the way from one node to another.
CLIENT_ERRORS: Final[dict[str, type[CrateError]]] = {cls.__name__: cls for cls in _all_client_errors()}


def error_to_wire(error: CrateError) -> tuple[str, str]:
    """The error as (class name, message), for another node."""
    return type(error).__name__, error.message


def error_from_wire(name: str, message: str) -> CrateError:
    """The error another node raised; an unknown class (a newer node) becomes an InternalError with the same text."""
    return CLIENT_ERRORS.get(name, InternalError)(message)
