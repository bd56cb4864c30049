"""Log lines in CrateDB's pattern, which tools parse.

::

    [2026-11-20T13:00:00,000][INFO ][o.e.n.Node               ] [node-1] started

Time in UTC with milliseconds, level padded to 5, logger padded to 25, node name. Our loggers are named after modules; the
ones that tools look for are printed under the name CrateDB gives them.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Final

#: Logger of ours → name printed. Everything else is shortened: cratepy.cluster.service → c.c.service.
PRINTED_NAMES: Final = {
    "cratepy.node": "o.e.n.Node",
    "cratepy.http": "o.e.h.n.Netty4HttpServerTransport",
    "cratepy.psql": "psql",
    "cratepy.transport": "o.e.t.TransportService",
}
_LEVELS: Final = {"WARNING": "WARN", "CRITICAL": "FATAL"}


class NodeLogFormatter(logging.Formatter):
    """One line per record; a traceback follows on lines of its own."""

    def __init__(self, node_name: str) -> None:
        super().__init__()
        self._node_name = node_name

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        level = _LEVELS.get(record.levelname, record.levelname)
        name = printed_name(record.name)
        line = f"[{stamp},{int(record.msecs):03d}][{level:<5}][{name:<25}] [{self._node_name}] {record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def printed_name(logger_name: str) -> str:
    """The logger's name as it is printed."""
    if logger_name in PRINTED_NAMES:
        return PRINTED_NAMES[logger_name]
    *packages, last = logger_name.split(".")
    return ".".join([*(package[0] for package in packages if package), last])


def configure_logging(node_name: str, *, level: int = logging.INFO) -> None:
    """Log to standard output. Called once, by the command line."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(NodeLogFormatter(node_name))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
