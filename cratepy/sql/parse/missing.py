"""The grammar of statements on kinds of objects that this server has none of: users, functions, repositories, publications …

In: a cursor at DROP or ALTER. Out: a MissingObject, or None: it is another statement. At GRANT, DENY and REVOKE: a PrivilegesNode. Its own room because all that can be
said of such an object is that it is not there, which is what ``DROP … IF EXISTS`` of a client's script asks.
"""

from __future__ import annotations

from cratepy.sql.parse import tree
from cratepy.sql.parse.queries import parse_qualified_name
from cratepy.sql.parse.tokens import Cursor
from cratepy.sql.parse.tree import Statement
from cratepy.sql.parse.typenames import parse_type

#: Words behind DROP or ALTER → the kind of object.
_KINDS: dict[tuple[str, ...], str] = {
    ("user",): "role",
    ("role",): "role",
    ("repository",): "repository",
    ("snapshot",): "snapshot",
    ("server",): "server",
    ("publication",): "publication",
    ("subscription",): "subscription",
    ("function",): "function",
    ("blob", "table"): "blob table",
    ("foreign", "table"): "foreign table",
}
#: Without IF EXISTS, and only to be dropped.
_NEVER_OPTIONAL = frozenset({"repository", "snapshot"})


def parse_missing(cursor: Cursor) -> Statement | None:
    """``DROP kind [IF EXISTS] name``, or ``ALTER kind name …`` with anything behind it."""
    start = cursor.index
    verb = cursor.advance()
    for words, kind in _KINDS.items():
        if not cursor.take_words(*words):
            continue
        if kind == "role" and cursor.key == "mapping":
            break
        if verb == "alter":
            if kind in ("snapshot", "function", "foreign table"):
                break
            return _altered(cursor, kind)
        if_exists = kind not in _NEVER_OPTIONAL and cursor.take_words("if", "exists")
        return _dropped(cursor, kind, if_exists)
    cursor.rewind(start)
    return None


def parse_privileges(cursor: Cursor) -> Statement:
    """``GRANT names [ON kind objects] TO roles``, and DENY and REVOKE alike."""
    verb = cursor.advance()
    names: list[str] = []
    if cursor.take("all"):
        cursor.take("privileges")
    else:
        names = _names(cursor)
    kind, objects = "", []
    if cursor.take("on"):
        if cursor.key not in ("schema", "table", "view"):
            raise cursor.error("expecting {'SCHEMA', 'TABLE', 'VIEW'}")
        kind = cursor.advance()
        objects = [parse_qualified_name(cursor)]
        while cursor.take(","):
            objects.append(parse_qualified_name(cursor))
    cursor.expect("from" if verb == "revoke" else "to")
    return tree.PrivilegesNode(
        verb=verb, names=tuple(names), kind=kind, objects=tuple(objects), roles=tuple(_names(cursor))
    )


def _names(cursor: Cursor) -> list[str]:
    names = [cursor.name()]
    while cursor.take(","):
        names.append(cursor.name())
    return names


def _altered(cursor: Cursor, kind: str) -> tree.MissingObject:
    name = parse_qualified_name(cursor)
    while cursor.key != "":
        cursor.advance()
    return tree.MissingObject(kind=kind, name=name, tag="ALTER")


def _dropped(cursor: Cursor, kind: str, if_exists: bool) -> tree.MissingObject:
    name = parse_qualified_name(cursor)
    types: list[tree.TypeName] = []
    if kind == "function":
        cursor.expect("(")
        while not cursor.take(")"):
            if types:
                cursor.expect(",")
            types.append(parse_type(cursor))
    elif kind == "server":
        _ = cursor.take("cascade") or cursor.take("restrict")
    return tree.MissingObject(kind=kind, name=name, types=tuple(types), if_exists=if_exists, tag="DROP")
