"""``GET /``: who answers here, as CrateDB prints it (pretty-printed in Jackson's style), plus what this server is."""

from __future__ import annotations

import cratepy


def root_body(*, node_name: str, cluster_name: str, is_ok: bool) -> bytes:
    """The JSON page; ``status`` is the HTTP status it is sent with. Clients branch on version.number (crash, SQLAlchemy)
    and cut the date out of build_timestamp (cr8)."""

    def text(value: str) -> str:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'

    lines = (
        "{",
        f'  "ok" : {"true" if is_ok else "false"},',
        f'  "status" : {200 if is_ok else 503},',
        f'  "name" : {text(node_name)},',
        f'  "cluster_name" : {text(cluster_name)},',
        '  "version" : {',
        f'    "number" : {text(cratepy.CRATEDB_VERSION)},',
        '    "build_hash" : "NA",',
        '    "build_timestamp" : "NA",',
        '    "build_snapshot" : false,',
        '    "lucene_version" : "NA"',
        "  },",
        '  "cratepy" : {',
        f'    "version" : {text(cratepy.__version__)}',
        "  }",
        "}",
        "",
    )
    return "\n".join(lines).encode()
