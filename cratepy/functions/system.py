"""System information and PostgreSQL's catalog helpers. What depends on the statement reads its context.

Source: CrateDB's scalar.systeminformation and PostgreSQL's catalog functions. Object definitions that are not in reach
of a function (index and constraint definitions, comments) are NULL, as in CrateDB; privileges are checked when a
statement is compiled, so the ``has_*_privilege`` family answers for the superuser and for oneself.
"""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Callable
from typing import Any, Final

from cratepy import CRATEDB_VERSION, POSTGRES_VERSION, __version__
from cratepy.clock import SystemClock
from cratepy.errors import FunctionUnknown, RoleUnknown, SettingUnknown, SQLParseError
from cratepy.functions.catalog_names import format_type, type_name, type_oid_of_name
from cratepy.functions.signatures import Declaration, signatures
from cratepy.model.names import CATALOG_NAME, DEFAULT_SCHEMA
from cratepy.model.oids import DATABASE_OID, SUPERUSER_OID, procedure_oid
from cratepy.model.pg_types import is_procedure
from cratepy.model.session_settings import DEFINITIONS, SILENT_SETTINGS
from cratepy.model.types import DataType

#: PostgreSQL's numbers of encodings.
_ENCODINGS: Final = {0: "SQL_ASCII", 6: "UTF8"}
_ENCODING_NUMBERS: Final = {"SQL_ASCII": 0, "UTF8": 6}
_SUPERUSER: Final = "crate"
_SIZES: Final = ("bytes", "kB", "MB", "GB", "TB", "PB")
_SIZE_STEP: Final = 10 * 1024
_PRIVILEGES: Final = {
    "schema": frozenset({"create", "usage"}),
    "database": frozenset({"connect", "create", "temp", "temporary"}),
    "table": frozenset({"select", "insert", "update", "delete", "truncate", "references", "trigger"}),
    "function": frozenset({"execute"}),
    "column": frozenset({"select", "insert", "update", "references"}),
    "any_column": frozenset({"select", "insert", "update", "references"}),
    "sequence": frozenset({"usage", "select", "update"}),
    "language": frozenset({"usage"}),
    "type": frozenset({"usage"}),
    "tablespace": frozenset({"create"}),
    "server": frozenset({"usage"}),
    "foreign_data_wrapper": frozenset({"usage"}),
}
_CLOCK: Final = SystemClock()
#: Drivers look for "PostgreSQL <number>" to know the catalog.
_VERSION: Final = f"CratePy {__version__} (CrateDB {CRATEDB_VERSION}, PostgreSQL {POSTGRES_VERSION} compatible)"


def _current_schemas(context: Any, with_implicit: bool) -> list[str]:
    path = [schema for schema in context.search_path if schema != "pg_catalog"]
    return ["pg_catalog", *path] if with_implicit else path


def _current_schema(context: Any) -> str:
    return next((schema for schema in context.search_path if schema != "pg_catalog"), DEFAULT_SCHEMA)


def _current_setting(context: Any, name: str, missing_ok: bool = False) -> str | None:
    name = name.lower()
    if name in context.settings:
        return str(context.settings[name])
    if name == "search_path":
        return ", ".join(schema for schema in context.search_path if schema != "pg_catalog")
    if name in DEFINITIONS:
        return DEFINITIONS[name].default
    if name in SILENT_SETTINGS:
        return SILENT_SETTINGS[name]
    if not missing_ok:
        raise SettingUnknown(f"Unrecognised Setting: {name}")
    return None


def _set_config(context: Any, name: str, value: str, is_local: bool) -> str:
    """The new value. A local one would end with the transaction, and every statement is one here: nothing is kept."""
    if not is_local:
        context.written_settings[name.lower()] = value
    return value


def _has_privilege(kind: str, object_parts: int = 1) -> Callable[..., bool]:
    """``object_parts`` name what the privilege is about (a column: its table, too); a role may stand before them."""
    known = _PRIVILEGES[kind]

    def has_privilege(_context: Any, *arguments: Any) -> bool:
        *who, named = arguments[:-object_parts]
        if who:
            _refuse_unknown_role(who[0])
        if kind in _OBJECT_CHECKS:
            _OBJECT_CHECKS[kind](named)
        for privilege in arguments[-1].split(","):
            word = privilege.strip().lower()
            if word not in known:
                raise SQLParseError(f"Unrecognized permission: {word}")
        return True

    return has_privilege


def _refuse_unknown_role(role: str | int) -> None:
    if role not in (_SUPERUSER, SUPERUSER_OID, "public"):
        shown = f"'{role}'" if isinstance(role, str) else f"with OID '{role}'"
        raise RoleUnknown(f"Role {shown} does not exist")


def _refuse_unknown_database(database: str | int) -> None:
    if isinstance(database, str):
        if database != CATALOG_NAME:
            raise SQLParseError(f'database "{database}" does not exist')
    elif database != DATABASE_OID:
        raise SQLParseError(f'database with OID "{database}" does not exist')


#: A function as it is called, ``abs(integer)``.
_FUNCTION_CALL: Final = re.compile(r"\s*(?:pg_catalog\.)?([^\s()]+)\s*\(.*\)\s*", re.DOTALL)


def _refuse_unknown_function(function: str | int) -> None:
    if isinstance(function, int):
        if not is_procedure(function):
            raise SQLParseError(f"Function with oid '{function}' does not exist")
        return
    call = _FUNCTION_CALL.fullmatch(function)
    if call is None:
        raise SQLParseError("Not a valid function call")
    if not is_procedure(procedure_oid(call[1].lower())):
        raise FunctionUnknown(f"Unknown function: {function.strip()}")


_OBJECT_CHECKS: Final[dict[str, Callable[[Any], None]]] = {
    "database": _refuse_unknown_database,
    "function": _refuse_unknown_function,
}


_WHO: Final = ("", "text,", "integer,")
_PRIVILEGE_TYPES: Final = tuple(f"{who}{what},text -> boolean" for who in _WHO for what in ("text", "integer"))
_COLUMN_TYPES: Final = tuple(
    f"{who}{table},{column},text -> boolean"
    for who in _WHO
    for table in ("text", "integer")
    for column in ("text", "smallint")
)
_ROLE_TYPES: Final = tuple(f"{who}{role},text -> boolean" for who in _WHO for role in ("text", "integer"))


def _pretty_size(size: int) -> str:
    magnitude, unit = abs(size), 0
    while magnitude >= _SIZE_STEP and unit + 1 < len(_SIZES):
        magnitude = (magnitude + 512) // 1024
        unit += 1
    return f"{'-' if size < 0 else ''}{magnitude} {_SIZES[unit]}"


def _typeof_row(arguments: tuple[DataType, ...], _result: DataType) -> Callable[[Any], str]:
    name = type_name(arguments[0])
    return lambda _value: name


def _to_regtype(name: str) -> int | None:
    return type_oid_of_name(name)


def _regrole(role: int | str) -> int | str:
    """The name of a role's oid, or the oid of a name."""
    if isinstance(role, str):
        if role != _SUPERUSER:
            raise RoleUnknown(f"Role '{role}' does not exist")
        return SUPERUSER_OID
    return _SUPERUSER if role == SUPERUSER_OID else str(role)


def _no_wait(seconds: float) -> None:
    """The engine waits where it can be stopped, before a fragment starts; row by row nothing is waited for."""
    if seconds < 0:
        raise SQLParseError("timeout value is negative")


def _text_id() -> str:
    """20 characters of base64url: 15 random bytes."""
    return base64.urlsafe_b64encode(uuid.UUID(_CLOCK.new_id()).bytes[:15]).decode()


def _info(
    name: str, types: str, row: Callable[..., Any], *, aliases: tuple[str, ...] = (), doc: str = ""
) -> Declaration:
    """A function of the statement's context."""
    return Declaration(
        name=name,
        aliases=aliases,
        signatures=signatures(*types.split("; ")),
        row=row,
        takes_context=True,
        is_deterministic=False,
        doc=doc,
    )


def _plain(name: str, types: str, row: Callable[..., Any], *, takes_null: bool = False, doc: str = "") -> Declaration:
    return Declaration(name=name, signatures=signatures(*types.split("; ")), row=row, takes_null=takes_null, doc=doc)


def _null(*_arguments: Any) -> None:
    return None


DECLARATIONS: Final[tuple[Declaration, ...]] = (
    _plain("version", "-> text", lambda: _VERSION),
    _info("current_user", "-> text", lambda context: context.user, aliases=("session_user", "user", "current_role")),
    _info("current_schema", "-> text", _current_schema),
    _info("current_schemas", "boolean -> text[]", _current_schemas),
    _plain("current_database", "-> text", lambda: CATALOG_NAME),
    _plain("current_catalog", "-> text", lambda: CATALOG_NAME),
    _info("current_setting", "text -> text; text,boolean -> text", _current_setting),
    _info("set_config", "text,text,boolean -> text", _set_config),
    _info("pg_backend_pid", "-> integer", lambda _context: -1),
    _info("pg_postmaster_start_time", "-> timestamptz", lambda context: context.now_ms),
    _info("pg_is_in_recovery", "-> boolean", lambda _context: False),
    _info("txid_current", "-> bigint", lambda context: context.now_ms),
    *(
        _info(f"has_{kind}_privilege", "; ".join(_PRIVILEGE_TYPES), _has_privilege(kind))
        for kind in _PRIVILEGES
        if kind != "column"
    ),
    _info("has_column_privilege", "; ".join(_COLUMN_TYPES), _has_privilege("column", 2)),
    _plain(
        "pg_get_userbyid",
        "integer -> text",
        lambda oid: _SUPERUSER if oid in (0, SUPERUSER_OID) else f"unknown (OID={oid})",
    ),
    _plain("_regrole", "integer -> text; text -> integer", _regrole),
    _plain("getdatabaseencoding", "-> text", lambda: "UTF8"),
    _plain("pg_client_encoding", "-> text", lambda: "UTF8"),
    _plain("pg_encoding_to_char", "integer -> text", lambda number: _ENCODINGS.get(number)),
    _plain("pg_get_expr", "text,integer -> text; text,integer,boolean -> text", lambda text, *_rest: text),
    _plain("pg_get_partkeydef", "integer -> text", _null),
    _plain("pg_get_serial_sequence", "text,text -> text", _null),
    _plain("pg_get_statisticsobjdef_columns", "integer -> text", _null),
    _plain("pg_get_triggerdef", "integer -> text; integer,boolean -> text", _null),
    _plain("pg_get_ruledef", "integer -> text; integer,boolean -> text", _null),
    _plain("obj_description", "integer,text -> text; integer -> text", _null),
    _plain("shobj_description", "integer,text -> text", _null),
    _plain("col_description", "integer,integer -> text", _null),
    *(
        _plain(f"pg_{kind}_is_visible", "integer -> boolean", lambda _oid: True)
        for kind in (
            "type",
            "operator",
            "opclass",
            "opfamily",
            "collation",
            "conversion",
            "statistics_obj",
            "ts_config",
            "ts_dict",
            "ts_parser",
            "ts_template",
        )
    ),
    _plain("pg_tablespace_location", "integer -> text", lambda _oid: ""),
    _plain("pg_get_functiondef", "integer -> text", _null),
    _plain("pg_get_function_sqlbody", "integer -> text", _null),
    _plain("pg_get_partition_constraintdef", "integer -> text", _null),
    _plain("pg_get_statisticsobjdef", "integer -> text", _null),
    _plain("pg_advisory_unlock_all", "-> text", _null, doc="there are no advisory locks"),
    _plain("pg_tablespace_size", "integer -> bigint; text -> bigint", lambda _name: 0),
    _plain("pg_database_size", "integer -> bigint; text -> bigint", lambda _name: 0),
    _plain("pg_indexes_size", "integer -> bigint", lambda _oid: 0),
    _plain("pg_my_temp_schema", "-> integer", lambda: 0),
    _plain("pg_is_other_temp_schema", "integer -> boolean", lambda _oid: False),
    _plain(
        "pg_char_to_encoding", "text -> integer", lambda name: _ENCODING_NUMBERS.get(name.upper().replace("-", ""), -1)
    ),
    _info("pg_has_role", "; ".join(_ROLE_TYPES), lambda _context, *_arguments: True),
    _plain("pg_relation_is_publishable", "integer -> boolean", lambda _oid: False),
    _plain("pg_relation_size", "integer -> bigint; integer,text -> bigint", lambda *_arguments: 0),
    _plain("pg_table_size", "integer -> bigint", lambda _oid: 0),
    _plain("pg_total_relation_size", "integer -> bigint", lambda _oid: 0),
    _plain("pg_size_pretty", "bigint -> text", _pretty_size),
    _plain("format_type", "integer,integer -> text", format_type, takes_null=True),
    _plain("to_regtype", "text -> regtype", _to_regtype),
    Declaration(name="pg_typeof", signatures=signatures("V -> text"), row_of=_typeof_row, takes_null=True),
    Declaration(
        name="pg_sleep",
        signatures=signatures("double -> boolean"),
        row=_no_wait,
        is_deterministic=False,
        doc="waits; the executor does the waiting before the statement runs",
    ),
    Declaration(name="gen_random_text_uuid", signatures=signatures("-> text"), row=_text_id, is_deterministic=False),
    Declaration(
        name="gen_random_uuid",
        signatures=signatures("-> uuid"),
        row=_CLOCK.new_id,
        is_deterministic=False,
    ),
)
