"""``cratepy node …``: repairs of a stopped node, asked about before they are done.

In: the command line (settings as for ``start``), answers on standard input. Out: what was done, on standard output; exit
status 0, 1 if nothing was changed. Each tool takes the node's lock, so a running node is refused. What they do is in
:mod:`cratepy.cluster.tools`. Names and meaning: CrateDB's ``crate-node``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from cratepy import __version__
from cratepy.clock import Clock
from cratepy.cluster import tools
from cratepy.cluster.persistence import DirectoryInUse, NodeDirectory
from cratepy.cluster.state_log import StateDamaged, StateLog
from cratepy.cluster.tools import ToolError
from cratepy.config import NodeConfig, load_config
from cratepy.errors import CrateError

_Tool = Callable[["_Run"], None]


class _Refused(Exception):
    """The operator said no."""


class _Run:
    """One invocation: the directory, taken, and the conversation with the operator."""

    def __init__(self, parsed: argparse.Namespace, config: NodeConfig, directory: NodeDirectory, clock: Clock) -> None:
        self.parsed = parsed
        self.config = config
        self.directory = directory
        self.clock = clock

    def log(self) -> StateLog:
        return self.directory.open_log(cluster_name=None)

    def confirm(self, *consequences: str) -> None:
        """Say what will be and may be lost; go on only with ``--yes`` or a ``y``. Raises _Refused."""
        for line in consequences:
            print(line)
        if self.parsed.yes:
            return
        print("Confirm [y/N] ", end="", flush=True)
        try:
            answer = sys.stdin.readline()
        except KeyboardInterrupt:
            answer = ""
        if not answer:
            print()
        if answer.strip().lower() not in ("y", "yes"):
            raise _Refused


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command ``node`` and its tools."""
    node = commands.add_parser(
        "node",
        help="repair the data of a stopped node",
        description="Repairs for a node that is stopped: the last resort when a cluster has lost its quorum for ever.",
    )
    tools_of_node = node.add_subparsers(dest="tool", metavar="TOOL", required=True)
    for name, (help_text, _) in _TOOLS.items():
        tool = tools_of_node.add_parser(name, help=help_text, description=help_text)
        tool.add_argument(
            "-C", dest="settings", metavar="key=value", action="append", default=[], help="a setting, as for start"
        )
        tool.add_argument("--data", type=Path, metavar="DIR", help="data directory (setting path.data; default ./data)")
        tool.add_argument("--config", type=Path, metavar="FILE", help="settings file (crate.yml)")
        tool.add_argument("--yes", "-y", action="store_true", help="do not ask")
        if name == "remove-settings":
            tool.add_argument("patterns", metavar="SETTING", nargs="+", help="a name, or a pattern with *")


def run_tool(parsed: argparse.Namespace, clock: Clock) -> int:
    """Run the tool of a parsed command line; returns the exit status."""
    try:
        config = load_config(parsed.settings, file=parsed.config, data=parsed.data)
        path = config.path_data / "nodes" / "0"
        if not NodeDirectory.exists(path):
            raise ToolError(f"there is no node in {config.path_data}")
        directory = NodeDirectory(path, new_node_id="")
    except (CrateError, StateDamaged, OSError) as error:
        return _failed(error)
    except DirectoryInUse as error:
        return _failed(f"{error}: stop the node first")
    try:
        _TOOLS[parsed.tool][1](_Run(parsed, config, directory, clock))
    except _Refused:
        print("nothing was changed")
        return 1
    except (CrateError, StateDamaged, OSError) as error:
        return _failed(error)
    finally:
        directory.close()
    return 0


def _failed(error: Exception | str) -> int:
    message = error.message if isinstance(error, CrateError) else str(error)
    print(f"cratepy: {message}", file=sys.stderr)
    return 1


def _unsafe_bootstrap(run: _Run) -> None:
    if not run.config.node_master:
        raise ToolError("this node is not master-eligible (node.master: false): it cannot lead a cluster")
    log = run.log()
    run.confirm(
        f"This node has cluster state term {log.state.coordination.term}, version {log.state.version}.",
        "It becomes the only voter of a new cluster. Changes of tables that only the lost nodes knew are LOST, and so are",
        "rows that only they held. Choose the node with the highest term and version (`cratepy node show-state`).",
        "The other nodes of the old cluster must be detached (`cratepy node detach-cluster`) before they can join.",
    )
    tools.unsafe_bootstrap(log, run.directory.node_id, new_uuid=run.clock.new_id())
    print("Master node was successfully bootstrapped. Start it, then detach the other nodes and start them.")


def _detach_cluster(run: _Run) -> None:
    log = run.log()
    run.confirm(
        f"This node leaves cluster {log.state.coordination.cluster_uuid} and joins whatever cluster it finds next.",
        "The cluster it joins decides which tables there are; rows here that it does not know of are LOST.",
        "Do this only if the old cluster is gone for ever.",
    )
    tools.detach_cluster(log)
    print("Node was successfully detached from the cluster.")


def _repurpose(run: _Run) -> None:
    path, config = run.directory.path, run.config
    if config.node_data:
        raise ToolError("nothing to repurpose: this node holds data (set -C node.data=false to take that from it)")
    shards = tools.shards_on_disk(path)
    removes_state = not config.node_master
    consequences = [f"{len(shards)} shard copies are deleted; rows that only this node holds are LOST."]
    if removes_state:
        consequences.append("The cluster state and the id of the node are deleted, too: it starts as a new node.")
    if not shards and not removes_state:
        print("No shard data to clean up.")
        return
    run.confirm(*consequences)
    tools.remove_shards(path)
    if removes_state:
        tools.remove_state(path)
    print(f"Node successfully repurposed: {len(shards)} shard copies deleted.")


def _remove_settings(run: _Run) -> None:
    log = run.log()
    names = tools.matching_settings(log, run.parsed.patterns)
    run.confirm(
        f"These persistent cluster settings are removed from this node's state: {', '.join(names)}.",
        "Do this on every master-eligible node, while all are stopped.",
    )
    for name in tools.remove_settings(log, run.parsed.patterns):
        print(f"removed {name}")


def _override_version(run: _Run) -> None:
    version = run.directory.version
    if version == __version__:
        print(f"the data was written by version {version}, which is this one: nothing to override")
        return
    run.confirm(
        f"The data was written by version {version or 'unknown'}, this is {__version__}.",
        "An older version may not understand what a newer one wrote: rows may be LOST or damaged.",
    )
    run.directory.set_version(__version__)
    print(f"Successfully overwrote the node's version: {__version__}.")


def _show_state(run: _Run) -> None:
    print(tools.as_json(tools.shown_state(run.directory, run.log())))


_TOOLS: dict[str, tuple[str, _Tool]] = {
    "unsafe-bootstrap": ("make this node the master of a new cluster with its tables", _unsafe_bootstrap),
    "detach-cluster": ("let this node join another cluster", _detach_cluster),
    "repurpose": ("delete the data of a node that shall hold none (node.data=false)", _repurpose),
    "remove-settings": ("remove persistent cluster settings that keep the node from starting", _remove_settings),
    "override-version": ("let this version start on data that a newer one wrote", _override_version),
    "show-state": ("print the node's id, terms, voters, nodes, tables and settings as JSON", _show_state),
}
