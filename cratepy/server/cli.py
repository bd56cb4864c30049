"""The command line: ``cratepy start`` runs one node in the foreground, ``cratepy node`` repairs a stopped one.

``-C key=value`` (or ``-Ckey=value``) may be given many times and overrides ``crate.yml``. Exit status 0 after SIGTERM or
SIGINT, 1 if the node could not start or had to stop, 2 for a wrong command line.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cratepy import CRATEDB_VERSION, __version__, limits
from cratepy.clock import SystemClock
from cratepy.config import load_config
from cratepy.errors import CrateError
from cratepy.server.logs import configure_logging
from cratepy.server.names import random_node_name
from cratepy.server.node_tools import add_parser, run_tool

log = logging.getLogger("cratepy.node")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if parsed.command == "start":
        return _start(parsed)
    if parsed.command == "node":
        return run_tool(parsed, SystemClock())
    parser.print_help()
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cratepy", description="A shared-nothing distributed SQL database.")
    version = f"cratepy {__version__} (speaks CrateDB {CRATEDB_VERSION})"
    parser.add_argument("--version", "-v", action="version", version=version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    start = commands.add_parser(
        "start",
        help="run one node in the foreground",
        description="Run one node in the foreground. A single node needs no option at all; its data goes to ./data.",
    )
    start.add_argument(
        "-C", dest="settings", metavar="key=value", action="append", default=[], help="a setting; may be repeated"
    )
    start.add_argument("--data", type=Path, metavar="DIR", help="data directory (setting path.data; default ./data)")
    start.add_argument("--config", type=Path, metavar="FILE", help="settings file (crate.yml)")
    add_parser(commands)
    start.add_argument("--verbose", action="store_true", help="log at level DEBUG")
    return parser


def _start(parsed: argparse.Namespace) -> int:
    try:
        config = load_config(parsed.settings, file=parsed.config, data=parsed.data)
    except CrateError as error:
        print(f"cratepy: {error.message}", file=sys.stderr)
        return 2
    sys.setswitchinterval(limits.THREAD_SWITCH_S)
    clock = SystemClock()
    node_name = config.node_name or random_node_name(clock)
    configure_logging(node_name, level=logging.DEBUG if parsed.verbose else logging.INFO)
    # Nothing here multiplies matrices: threads of numpy's for it would compute beside the imports, and take memory.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.disable()  # nothing that imports make is garbage; to look for it is a tenth of their time
    from cratepy.server.node import run_node  # takes longer than the refusal of a wrong option should

    gc.freeze()
    gc.enable()
    try:
        run_node(config, node_name=node_name, clock=clock)
    except CrateError as error:
        log.error("%s", error.message)
        return 1
    return 0
