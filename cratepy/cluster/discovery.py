"""Discovery: from seed addresses to connections with every node there is, and to the first voting configuration.

A node that has no master asks its seed hosts, and every node it has heard of, who they are and whom they know; whoever is
asked connects back. So a full mesh grows from one live address, and any member can be asked. Own, dead and foreign
addresses do no harm: they answer nothing, or refuse the handshake, which is logged once per reason.

Bootstrap happens once in the life of a cluster: the nodes named in ``cluster.initial_master_nodes`` become the first
voting configuration as soon as they have found each other. After a while a majority of them is enough; the missing ones
keep their place under a placeholder that nobody can vote for (CrateDB: ``ClusterBootstrapService``).
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
import trio

from cratepy import limits
from cratepy.cluster.seeds import Address, Seeds, parse_address
from cratepy.cluster.transport import HandshakeRefused, Transport
from cratepy.errors import CrateError, PeerUnavailable, RequestTimeout
from cratepy.model.state import NodeInfo

logger = logging.getLogger(__name__)

PEERS_ACTION: Final = "cluster/peers"
#: Between two questions to one address: the first; ``discovery.find_peers_interval`` is the longest.
_ASK_FIRST_S: Final = 0.05
#: So often a seed is asked by a node that needs nobody, if it does not answer.
_ASKS_IN_ANY_CASE: Final = 5
#: How long a majority of the initial master nodes waits for the others.
BOOTSTRAP_PATIENCE_S: Final = 1.0
PLACEHOLDER: Final = "{bootstrap-placeholder}-"


class PeersRequest(msgspec.Struct, frozen=True):
    """Who asks, so that the node asked can connect back; the cluster it belongs to for ever, if to any."""

    node: NodeInfo
    cluster_uuid: str = ""


class PeersReply(msgspec.Struct, frozen=True):
    """The node asked and all it is connected to."""

    nodes: tuple[NodeInfo, ...]
    master_id: str | None
    cluster_uuid: str = ""


def names_node(entry: str, node: NodeInfo) -> bool:
    """Whether an entry of ``cluster.initial_master_nodes`` means this node: its name, or its transport address."""
    if entry == node.name:
        return True
    try:
        host, port = parse_address(entry)
    except ValueError:
        return False
    return host == node.host and (port == node.transport_port or entry == node.host)


def bootstrap_config(
    initial: Sequence[str], *, me: NodeInfo, known: Iterable[NodeInfo], is_patient: bool
) -> tuple[str, ...] | None:
    """The first voting configuration, or None while it must wait (always on nodes that are not named themselves).

    ``is_patient``: wait for all named nodes; else a majority is enough.
    """
    nodes = [me, *(node for node in known if node.id != me.id and node.is_master_eligible)]
    found: dict[str, str] = {}
    for entry in dict.fromkeys(initial):
        for node in nodes:
            if names_node(entry, node) and node.id not in found.values():
                found[entry] = node.id
                break
    entries = list(dict.fromkeys(initial))
    if me.id not in found.values() or 2 * len(found) <= len(entries):
        return None
    if is_patient and len(found) < len(entries):
        return None
    return tuple(sorted(found.get(entry, f"{PLACEHOLDER}{entry}") for entry in entries))


class Discovery:
    """Finds nodes while there is no master; costs nothing while there is one."""

    def __init__(
        self,
        *,
        transport: Transport,
        seeds: Seeds,
        me: NodeInfo,
        master_id: Callable[[], str | None],
        cluster_uuid: Callable[[], str],
        find_interval_s: float = 1.0,
        request_timeout_s: float = 3.0,
    ) -> None:
        self._transport = transport
        self._seeds = seeds
        self._me = me
        self._master_id = master_id
        self._cluster_uuid = cluster_uuid
        self._find_interval_s = find_interval_s
        self._request_timeout_s = request_timeout_s
        self._searching = trio.Event()
        self._asked: set[Address] = set()
        #: What the seed providers said last.
        self._wanted: set[Address] = set()
        self._refusals: dict[Address, str] = {}
        #: Why addresses gave no answer when they were asked last.
        self._failures: dict[Address, str] = {}
        self._nursery: trio.Nursery | None = None
        #: Nodes heard of, by id.
        self.known: dict[str, NodeInfo] = {}
        #: The cluster that a node asked belongs to; empty while none has been found.
        self.found_cluster = ""
        transport.register(PEERS_ACTION, PeersRequest, self._on_peers_request)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask seeds and known nodes whenever there is no master, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._tell_why_alone)
            task_status.started()
            while True:
                found = await self._seeds.addresses()
                self._wanted = set(found)
                for seed in found:
                    self._ask_from_now_on(seed)
                await trio.sleep(self._find_interval_s)
                await self._searching.wait()

    async def _tell_why_alone(self) -> None:
        """As long as no master is found: say now and then what was."""
        while True:
            await self._searching.wait()
            await trio.sleep(limits.NO_MASTER_TOLD_S)
            if self._searching.is_set() and self._master_id() is None:
                logger.warning("no master is known yet: %s", self._situation())

    def _situation(self) -> str:
        there = sorted(node.name for node in self.known.values() if self._transport.connected(node.id))
        failed = [f"{host}:{port} ({reason})" for (host, port), reason in sorted(self._failures.items())]
        if len(failed) > limits.NO_MASTER_TOLD_MAX:
            failed[limits.NO_MASTER_TOLD_MAX :] = [f"{len(failed) - limits.NO_MASTER_TOLD_MAX} more"]
        parts = [
            f"connected to {', '.join(there)}" if there else "connected to no other node",
            f"no answer from {', '.join(failed)}" if failed else "",
            "" if self._asked else "no seed addresses are known",
        ]
        return "; ".join(part for part in parts if part)

    def search(self, is_searching: bool) -> None:
        """Begin or stop to ask."""
        if is_searching:
            self._searching.set()
            self._transport.retry_now()
        elif self._searching.is_set():
            self._searching = trio.Event()

    def learn(self, node: NodeInfo) -> None:
        """There is such a node: keep a connection to it, and remember it."""
        if node.id == self._me.id:
            return
        address = (node.host, node.transport_port)
        self._transport.add_peer(node.id, address)
        if self.known.get(node.id) == node:
            return
        if node.id in self.known or len(self.known) < limits.DISCOVERY_PEERS_MAX:
            self.known[node.id] = node
            self._ask_from_now_on(address)

    def keep_only(self, members: Iterable[NodeInfo]) -> None:
        """A state was applied: its nodes are the peers, and those found since that are connected."""
        nodes = {node.id: node for node in members if node.id != self._me.id}
        for node in self.known.values():
            if self._transport.connected(node.id):
                nodes.setdefault(node.id, node)
        self.known = nodes
        self._transport.keep_peers({node.id: (node.host, node.transport_port) for node in nodes.values()})

    def _on_peers_request(self, source: str, request: PeersRequest) -> PeersReply:
        mine = self._cluster_uuid()
        if request.node.id == source and not (mine and request.cluster_uuid and mine != request.cluster_uuid):
            self.learn(request.node)
        nodes = [node for node in self.known.values() if self._transport.connected(node.id)]
        return PeersReply((self._me, *nodes), self._master_id(), self._cluster_uuid())

    def _ask_from_now_on(self, address: Address) -> None:
        if self._nursery is not None and address not in self._asked and len(self._asked) < limits.DISCOVERY_PEERS_MAX:
            if address != (self._me.host, self._me.transport_port):
                self._asked.add(address)
                self._nursery.start_soon(self._ask_again_and_again, address)

    async def _ask_again_and_again(self, address: Address) -> None:
        wait_s = _ASK_FIRST_S
        # A node with a cluster of its own asks, too, until it has heard once: it may be meant for another.
        asks_in_any_case = _ASKS_IN_ANY_CASE
        while self._is_wanted(address):
            is_heard = await self._ask(address)
            asks_in_any_case = 0 if is_heard else asks_in_any_case - 1
            await trio.sleep(wait_s)
            wait_s = min(wait_s * 2, self._find_interval_s)
            if not self._searching.is_set() and asks_in_any_case <= 0:
                await self._searching.wait()
                wait_s = _ASK_FIRST_S
        self._asked.discard(address)
        self._failures.pop(address, None)

    def _is_wanted(self, address: Address) -> bool:
        return address in self._wanted or any(
            address == (node.host, node.transport_port) for node in self.known.values()
        )

    async def _ask(self, address: Address) -> bool:
        """Whether there was an answer."""
        try:
            node_id = await self._transport.connect(address)
            reply = await self._transport.request(
                node_id,
                PEERS_ACTION,
                PeersRequest(self._me, self._cluster_uuid()),
                reply_type=PeersReply,
                timeout_s=self._request_timeout_s,
            )
        except HandshakeRefused as refused:
            self._failures[address] = str(refused)
            self._complain(address, str(refused))
            return True
        except socket.gaierror as error:
            self._failures[address] = f"cannot resolve the host name: {error.strerror}"
            self._complain(address, self._failures[address])
            return False
        except (OSError, PeerUnavailable, RequestTimeout) as error:
            self._failures[address] = _reason(error)
            return False  # Not there (yet): asked again soon.
        except CrateError as error:
            logger.warning("seed %s:%d: %s", *address, error)
            return True
        self._failures.pop(address, None)
        mine = self._cluster_uuid()
        if reply.cluster_uuid:
            self.found_cluster = reply.cluster_uuid
            if mine and mine != reply.cluster_uuid:
                self._complain(
                    address,
                    f"it is a node of cluster {reply.cluster_uuid}, but this node belongs to cluster {mine} and never joins "
                    "another; to move it, stop it and run `cratepy node detach-cluster`, or give it an empty data directory",
                )
                return True
        for node in reply.nodes:
            self.learn(node)
        return True

    def _complain(self, address: Address, reason: str) -> None:
        if self._refusals.get(address) != reason:
            self._refusals[address] = reason
            logger.warning("seed %s:%d: %s", *address, reason)


def _reason(error: Exception) -> str:
    """What the operating system says, which trio wraps when it has tried all addresses of a host."""
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup) and cause.exceptions:
        cause = cause.exceptions[0]
    said = cause if isinstance(cause, OSError) else error
    return os.strerror(said.errno) if isinstance(said, OSError) and said.errno else str(said) or type(said).__name__
