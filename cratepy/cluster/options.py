"""What a node's operator says about its place in the cluster; the server makes it from the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path

from cratepy.cluster.coordination.settings import CoordinationSettings
from cratepy.cluster.security import TransportSecurity
from cratepy.cluster.seeds import SeedOptions
from cratepy.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """Names follow CrateDB's settings. With nothing configured the node forms a cluster of its own."""

    data_path: Path
    cluster_name: str = "crate"
    node_name: str = ""
    bind_host: str = "127.0.0.1"
    #: The address other nodes reach this one at.
    publish_host: str = "127.0.0.1"
    transport_ports: Sequence[int] = range(4300, 4401)
    http_port: int = 0
    psql_port: int = 0
    seed_hosts: tuple[str, ...] = ()
    #: Other seeds than ``seed_hosts``: discovery.seed_providers and what they need.
    seeds: SeedOptions = field(default_factory=SeedOptions)
    #: None: plaintext.
    security: TransportSecurity | None = None
    #: cluster.no_master_block: ``write`` or ``all``: what is refused while there is no master.
    no_master_block: str = "write"
    #: discovery.find_peers_interval, discovery.request_peers_timeout.
    find_peers_interval_s: float = 1.0
    request_peers_timeout_s: float = 3.0
    #: cluster.bootstrap_expect: so many master-eligible nodes, no more and no fewer, form a new cluster by themselves.
    bootstrap_expect: int = 0
    initial_master_nodes: tuple[str, ...] = ()
    is_single_node: bool = False
    is_master_eligible: bool = True
    is_data: bool = True
    attributes: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    coordination: CoordinationSettings = field(default_factory=CoordinationSettings)

    @property
    def forms_own_cluster(self) -> bool:
        """discovery.type=single-node, or nothing said about any other node."""
        says_nothing = not (
            self.seed_hosts or not self.seeds.is_empty or self.initial_master_nodes or self.bootstrap_expect
        )
        return self.is_single_node or says_nothing
