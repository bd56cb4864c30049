"""The grammar of SET, RESET, SHOW, transactions, cursors, and what clients send that has no effect here."""

from __future__ import annotations

from cratepy.errors import UnsupportedFeature
from cratepy.sql.parse import tree
from cratepy.sql.parse.columns import parse_setting_name, parse_setting_value, parse_settings
from cratepy.sql.parse.expressions import parse_expression
from cratepy.sql.parse.queries import parse_qualified_name, parse_query
from cratepy.sql.parse.tokens import NUMBER, STRING, Cursor
from cratepy.sql.parse.tree import Node, Statement


def parse_set(cursor: Cursor) -> Statement:
    cursor.advance()
    if cursor.take("global"):
        scope = "global persistent" if cursor.take("persistent") else "global"
        if scope == "global":
            cursor.take("transient")
        return tree.SetStatement(scope=scope, values=_assignments(cursor))
    scope = "session"
    if cursor.key in ("session", "local") and cursor.peek() not in ("=", "to", "."):
        scope = cursor.advance()
        if cursor.take_words("characteristics", "as"):
            return _transaction_modes(cursor)
    if cursor.key == "transaction" and cursor.peek() not in ("=", "to"):
        return _transaction_modes(cursor)
    if cursor.take_words("time", "zone"):
        return tree.SetStatement(scope=scope, values=(("timezone", _time_zone(cursor)),))
    if cursor.take("names"):
        value: tuple[Node, ...] | None = None if cursor.take("default") else (parse_setting_value(cursor),)
        return tree.SetStatement(scope=scope, values=(("client_encoding", value),))
    if cursor.take_words("session", "authorization") or cursor.take("authorization"):
        value = None if cursor.take("default") else (parse_setting_value(cursor),)
        return tree.SetStatement(scope=scope, values=(("session_authorization", value),))
    return tree.SetStatement(scope=scope, values=_assignments(cursor))


def _time_zone(cursor: Cursor) -> tuple[Node, ...] | None:
    if cursor.take("default") or cursor.take("local"):
        return None
    if cursor.key == "interval":
        cursor.advance()
        text = cursor.string()
        cursor.take_words("hour", "to", "minute")
        return (tree.StringWord(text),)
    return (parse_setting_value(cursor),)


def _transaction_modes(cursor: Cursor) -> Statement:
    """ISOLATION LEVEL …, READ ONLY, DEFERRABLE: read over."""
    cursor.take("transaction")
    _modes(cursor)
    return tree.NoOperation("SET")


def _modes(cursor: Cursor) -> None:
    while True:
        if cursor.take_words("isolation", "level"):
            for level in (("read", "uncommitted"), ("read", "committed"), ("repeatable", "read"), ("serializable",)):
                if cursor.take_words(*level):
                    break
            else:
                raise cursor.error()
        elif not (
            cursor.take_words("read", "only")
            or cursor.take_words("read", "write")
            or cursor.take_words("not", "deferrable")
            or cursor.take("deferrable")
        ):
            return
        cursor.take(",")


def _assignments(cursor: Cursor) -> tuple[tuple[str, tuple[Node, ...] | None], ...]:
    values: list[tuple[str, tuple[Node, ...] | None]] = []
    while True:
        name = parse_setting_name(cursor)
        if not cursor.take("="):
            cursor.expect("to")
        if cursor.take("default"):
            values.append((name, None))
        else:
            items = [parse_setting_value(cursor)]
            # ``SET search_path = a, b``; in SET GLOBAL ``a = 1, b = 2`` a name and an equals sign begin the next.
            while cursor.key == "," and not _begins_assignment(cursor):
                cursor.advance()
                items.append(parse_setting_value(cursor))
            values.append((name, tuple(items)))
        if not cursor.take(","):
            return tuple(values)


def _begins_assignment(cursor: Cursor) -> bool:
    ahead = 2
    while cursor.peek(ahead) == ".":
        ahead += 2
    return cursor.peek(ahead) in ("=", "to")


def parse_reset(cursor: Cursor) -> Statement:
    cursor.advance()
    if cursor.take("global"):
        names = [parse_setting_name(cursor)]
        while cursor.take(","):
            names.append(parse_setting_name(cursor))
        return tree.ResetStatement(names=tuple(names), is_global=True)
    if cursor.take("all"):
        return tree.ResetStatement(names=None)
    if cursor.take_words("session", "authorization"):
        return tree.ResetStatement(names=("session_authorization",))
    if cursor.take_words("time", "zone"):
        return tree.ResetStatement(names=("timezone",))
    return tree.ResetStatement(names=(parse_setting_name(cursor),))


def parse_show(cursor: Cursor) -> Statement:
    cursor.advance()
    if cursor.key == "tables":
        cursor.advance()
        schema = cursor.name() if cursor.take("from") or cursor.take("in") else None
        like, where = _show_filter(cursor)
        return tree.ShowStatement(kind="tables", schema=schema, like=like, where=where)
    if cursor.key == "schemas":
        cursor.advance()
        like, where = _show_filter(cursor)
        return tree.ShowStatement(kind="schemas", like=like, where=where)
    if cursor.key == "columns" and cursor.peek() in ("from", "in"):
        cursor.advance()
        cursor.advance()
        name = parse_qualified_name(cursor)
        schema = cursor.name() if cursor.take("from") or cursor.take("in") else None
        like, where = _show_filter(cursor)
        return tree.ShowStatement(kind="columns", name=name, schema=schema, like=like, where=where)
    if cursor.take_words("create", "table"):
        return tree.ShowStatement(kind="create_table", name=parse_qualified_name(cursor))
    if cursor.take("all"):
        return tree.ShowStatement(kind="all")
    if cursor.take_words("transaction", "isolation", "level"):
        return tree.ShowStatement(kind="setting", name=("transaction_isolation",))
    if cursor.take_words("time", "zone"):
        return tree.ShowStatement(kind="setting", name=("timezone",))
    if cursor.take_words("session", "authorization"):
        return tree.ShowStatement(kind="setting", name=("session_authorization",))
    return tree.ShowStatement(kind="setting", name=(parse_setting_name(cursor),))


def _show_filter(cursor: Cursor) -> tuple[str | None, Node | None]:
    if cursor.take("like"):
        return cursor.string(), None
    if cursor.take("where"):
        return None, parse_expression(cursor)
    return None, None


# --- transactions and cursors ----------------------------------------------------------------------------------------


def parse_transaction(cursor: Cursor) -> Statement:
    word = cursor.advance()
    if word == "start":
        cursor.expect("transaction")
    elif not cursor.take("work"):
        cursor.take("transaction")
    match word:
        case "begin" | "start":
            _modes(cursor)
            return tree.TransactionStatement(action="begin")
        case "commit" | "end":
            _chain(cursor)
            return tree.TransactionStatement(action="commit")
        case _:
            if cursor.take("to"):
                cursor.take("savepoint")
                return tree.TransactionStatement(action="rollback_to", name=cursor.name())
            _chain(cursor)
            return tree.TransactionStatement(action="rollback")


def _chain(cursor: Cursor) -> None:
    if cursor.take_words("and", "no", "chain"):
        return
    cursor.take_words("and", "chain")


def parse_savepoint(cursor: Cursor) -> Statement:
    if cursor.advance() == "release":
        cursor.take("savepoint")
        return tree.TransactionStatement(action="release", name=cursor.name())
    return tree.TransactionStatement(action="savepoint", name=cursor.name())


def parse_declare(cursor: Cursor) -> Statement:
    cursor.advance()
    name = cursor.name()
    is_scrollable = is_holdable = False
    while not cursor.take("cursor"):
        if cursor.take_words("no", "scroll"):
            is_scrollable = False
        elif cursor.take("scroll"):
            is_scrollable = True
        elif cursor.take("binary"):
            raise UnsupportedFeature("BINARY mode in DECLARE is not supported")
        elif not (cursor.take("asensitive") or cursor.take("insensitive")):
            raise cursor.error("expecting 'CURSOR'")
    if cursor.take_words("with", "hold"):
        is_holdable = True
    else:
        cursor.take_words("without", "hold")
    cursor.expect("for")
    return tree.DeclareStatement(
        name=name, query=parse_query(cursor), is_scrollable=is_scrollable, is_holdable=is_holdable
    )


def parse_fetch(cursor: Cursor) -> Statement:
    is_move = cursor.advance() == "move"
    direction, count = _direction(cursor)
    if not cursor.take("from"):
        cursor.take("in")
    return tree.FetchStatement(name=cursor.name(), direction=direction, count=count, is_move=is_move)


def _direction(cursor: Cursor) -> tuple[str, int | None]:
    key = cursor.key
    if key == NUMBER or (key == "-" and cursor.peek() == NUMBER):
        count = _signed(cursor)
        return ("forward", count) if count >= 0 else ("backward", -count)
    if key == "all":
        cursor.advance()
        return "forward", None
    if key in ("next", "prior", "first", "last") and cursor.peek() != "":
        return cursor.advance(), 1
    if key in ("absolute", "relative") and cursor.peek() in (NUMBER, "-"):
        cursor.advance()
        return key, _signed(cursor)
    if key in ("forward", "backward") and cursor.peek() != "":
        cursor.advance()
        if cursor.take("all"):
            return key, None
        return key, _signed(cursor) if cursor.key in (NUMBER, "-") else 1
    return "next", 1


def _signed(cursor: Cursor) -> int:
    is_negative = cursor.take("-")
    return -cursor.integer() if is_negative else cursor.integer()


def parse_close(cursor: Cursor) -> Statement:
    cursor.advance()
    return tree.CloseStatement(None if cursor.take("all") else cursor.name())


def parse_deallocate(cursor: Cursor) -> Statement:
    cursor.advance()
    cursor.take("prepare")
    return tree.DeallocateStatement(name=None if cursor.take("all") else cursor.name())


def parse_discard(cursor: Cursor) -> Statement:
    cursor.advance()
    if cursor.take("all"):
        return tree.DeallocateStatement(name=None, discards_session=True)
    if cursor.key not in ("plans", "sequences", "temp", "temporary"):
        raise cursor.error()
    cursor.advance()
    return tree.NoOperation("DISCARD")


def parse_notification(cursor: Cursor) -> Statement:
    """LISTEN, UNLISTEN, NOTIFY: accepted, nobody ever hears anything."""
    word = cursor.advance()
    if not (word == "unlisten" and cursor.take("*")):
        cursor.name()
    if word == "notify" and cursor.take(","):
        cursor.string()
    return tree.NoOperation(word.upper())


def parse_alter_cluster(cursor: Cursor) -> Statement:
    """After ALTER CLUSTER."""
    if cursor.take("decommission"):
        return tree.AlterClusterStatement("decommission", _node_name(cursor))
    if cursor.take_words("step", "down"):
        return tree.AlterClusterStatement("step_down", _node_name(cursor) if cursor.take("to") else None)
    if cursor.take_words("reroute", "retry", "failed"):
        return tree.AlterClusterStatement("retry_failed")
    if cursor.take_words("gc", "dangling", "artifacts"):
        return tree.AlterClusterStatement("gc")
    if cursor.take_words("swap", "table"):
        source = parse_qualified_name(cursor)
        cursor.expect("to")
        target = parse_qualified_name(cursor)
        options = parse_settings(cursor) if cursor.take("with") else ()
        return tree.SwapTablesNode(source=source, target=target, options=options)
    raise cursor.error("expecting {'DECOMMISSION', 'GC', 'REROUTE', 'STEP', 'SWAP'}")


def _node_name(cursor: Cursor) -> tree.Node:
    if cursor.key in (STRING, "?", "$"):
        return parse_expression(cursor)
    return tree.StringWord(cursor.name())


def parse_kill(cursor: Cursor) -> Statement:
    cursor.advance()
    if cursor.take("all"):
        return tree.KillStatement(None)
    if cursor.key not in (STRING, "?", "$"):
        raise cursor.error("expecting {ALL, '?', '$', STRING}")
    return tree.KillStatement(parse_expression(cursor))
