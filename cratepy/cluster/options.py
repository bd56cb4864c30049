"""What a node's operator says about its place in the cluster; the server makes it from the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cratepy.cluster.coordination.settings import CoordinationSettings


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
        return self.is_single_node or not (self.seed_hosts or self.initial_master_nodes)
