"""One node: its parts, wired together and run until a signal ends them.

::

    ports ──► PostgreSQL ─┐                      ┌─► cluster (state, transport, discovery)
    ports ──► HTTP ───────┴─► sessions ─► sql ─► execution ─► engine
                                                 └─► storage (shards of this node)

Client ports listen before the node has joined, so that clients hear "not joined yet" (503 / 57P03) instead of a refused
connection, and nothing else. The last line of the start says that the node is ready and where. Everything is stopped by
cancelling one nursery; parts are closed in the reverse order of their making.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import platform
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Final

import psutil
import trio

from cratepy import CRATEDB_VERSION, __version__, limits
from cratepy.clock import Clock
from cratepy.cluster.coordination.settings import CoordinationSettings
from cratepy.cluster.options import ClusterOptions
from cratepy.cluster.persistence import DirectoryInUse
from cratepy.cluster.security import TransportSecurity, from_files, from_secret, is_loopback
from cratepy.cluster.seeds import SeedOptions
from cratepy.cluster.service import ClusterService
from cratepy.cluster.state_log import StateDamaged
from cratepy.config import NodeConfig, PortRange
from cratepy.errors import CrateError
from cratepy.execution.engine.constants import constant_values, fold
from cratepy.execution.engine.engine import Engine
from cratepy.execution.row_counts import RowCounts
from cratepy.execution.service import ExecutionService
from cratepy.execution.system.tables import SystemTables
from cratepy.model import compute
from cratepy.model.names import RelationName
from cratepy.model.plan import CompiledStatement, StatementContext
from cratepy.model.state import ClusterState
from cratepy.model.types import DataType
from cratepy.records import dataclass
from cratepy.server.compiling import Compiler
from cratepy.server.http import HttpServer
from cratepy.server.postgres import PostgresServer
from cratepy.server.session import SessionServices
from cratepy.server.sockets import listen_on
from cratepy.sql.compiler import compile_text
from cratepy.sql.parse.parser import parse
from cratepy.sql.session_view import SessionView
from cratepy.storage.store import ShardStore

log = logging.getLogger("cratepy.node")
http_log = logging.getLogger("cratepy.http")
psql_log = logging.getLogger("cratepy.psql")

#: The share of the machine's memory that each of the engine's two pools may take.
ENGINE_MEMORY_SHARE: Final = 0.2


class StartError(CrateError):
    """The node cannot start; the message says what to change."""

    label = "StartException"


@dataclass(frozen=True)
class ClientPorts:
    """The listening sockets for clients."""

    http: socket.socket
    psql: socket.socket | None


def run_node(config: NodeConfig, *, node_name: str, clock: Clock) -> None:
    """Run a node until SIGTERM or SIGINT. Raises StartError if it cannot start."""
    log.info("initializing ...")
    log.info("version %s (speaks CrateDB %s), Python %s", __version__, CRATEDB_VERSION, platform.python_version())
    for name in config.without_effect:
        log.warning("setting [%s] has no effect in this version", name)
    with contextlib.ExitStack() as stack:
        try:
            ports = stack.enter_context(_client_ports(config))
            cluster = ClusterService(_cluster_options(config, node_name, ports), clock=clock)
        except DirectoryInUse as error:
            raise StartError(str(error)) from error
        except StateDamaged as error:
            raise StartError(f"the cluster state in {config.path_data} cannot be read: {error}") from error
        except OSError as error:
            raise StartError(f"cannot use data directory {config.path_data}: {error}") from error
        trio.run(_Node(config, cluster, ports, node_name=node_name, clock=clock).run)
    log.info("closed")


@contextlib.contextmanager
def _client_ports(config: NodeConfig) -> Iterator[ClientPorts]:
    with contextlib.ExitStack() as stack:
        http = stack.enter_context(_listen("http.port", config.network_host, config.http_port))
        psql = None
        if config.psql_enabled:
            psql = stack.enter_context(_listen("psql.port", config.network_host, config.psql_port))
        yield ClientPorts(http, psql)


def _listen(setting: str, host: str, ports: PortRange) -> socket.socket:
    try:
        return listen_on(host, range(ports.first, ports.last + 1))
    except OSError as error:
        wanted = str(ports.first) if ports.first == ports.last else f"{ports.first}-{ports.last}"
        raise StartError(f"cannot listen on {host}, port {wanted} ({setting}): {error.strerror or error}") from error


def _cluster_options(config: NodeConfig, node_name: str, ports: ClientPorts) -> ClusterOptions:
    publish_host = config.network_publish_host or config.network_host
    if publish_host == "0.0.0.0":
        publish_host = socket.gethostbyname(socket.gethostname())
    security = _transport_security(config)
    return ClusterOptions(
        data_path=config.path_data,
        cluster_name=config.cluster_name,
        node_name=node_name,
        bind_host=_transport_host(config, security),
        publish_host=publish_host,
        transport_ports=range(config.transport_port.first, config.transport_port.last + 1),
        http_port=ports.http.getsockname()[1],
        psql_port=ports.psql.getsockname()[1] if ports.psql is not None else 0,
        seed_hosts=config.discovery_seed_hosts,
        security=security,
        seeds=SeedOptions(
            providers=config.discovery_seed_providers,
            config_path=config.path_conf,
            srv_query=config.discovery_srv_query,
            srv_resolver=config.discovery_srv_resolver,
            ec2=config.discovery_ec2,
        ),
        find_peers_interval_s=config.discovery_find_peers_interval_s,
        request_peers_timeout_s=config.discovery_request_peers_timeout_s,
        no_master_block=config.cluster_no_master_block,
        bootstrap_expect=config.cluster_bootstrap_expect,
        initial_master_nodes=config.cluster_initial_master_nodes,
        is_single_node=config.discovery_type == "single-node",
        is_master_eligible=config.node_master,
        is_data=config.node_data,
        attributes=config.node_attributes,
        coordination=CoordinationSettings(**config.coordination),  # type: ignore[arg-type]  # the reader gives each field's type
        version=__version__,
    )


def _is_alone(config: NodeConfig) -> bool:
    """Whether no other node is spoken of: then nobody needs to reach the transport port."""
    names_others = (
        config.discovery_seed_hosts
        or config.discovery_seed_providers
        or config.cluster_initial_master_nodes
        or config.cluster_bootstrap_expect
    )
    return config.discovery_type == "single-node" or not names_others


def _transport_host(config: NodeConfig, security: TransportSecurity | None) -> str:
    """Where to listen for nodes: not beyond this machine if nothing protects the port and nobody asked for it."""
    asked = config.transport_insecure or bool(config.ssl_transport_mode)
    if security is None and not asked and not is_loopback(config.network_host):
        log.info("the transport port is for this machine only: nothing protects it, and no other node was named")
        return "127.0.0.1"
    return config.network_host


def _transport_security(config: NodeConfig) -> TransportSecurity | None:
    """What protects the transport port. Raises StartError where it would be open to others without being asked to."""
    if config.ssl_transport_mode == "on":
        files = (config.ssl_certificate, config.ssl_key, config.ssl_authority)
        certificate, key, authority = files
        if certificate is None or key is None or authority is None:
            raise StartError(
                "[ssl.transport.mode] is on: it needs [ssl.certificate_filepath], [ssl.key_filepath] and "
                "[ssl.authority_filepath] (PEM)"
            )
        return from_files(certificate=certificate, key=key, authority=authority)
    if config.cluster_secret:
        return from_secret(config.cluster_secret)
    if config.transport_insecure or config.ssl_transport_mode or is_loopback(config.network_host):
        return None
    if _is_alone(config):
        return None
    raise StartError(
        f"nodes on {config.network_host} would trust whoever reaches the transport port: set the same [cluster.secret] on every "
        "node, or [ssl.transport.mode] to on with certificates; [transport.insecure] = true leaves it open"
    )


class _Node:
    """The parts of a running node; made before the event loop starts, run inside it."""

    def __init__(
        self, config: NodeConfig, cluster: ClusterService, ports: ClientPorts, *, node_name: str, clock: Clock
    ) -> None:
        self._config = config
        self._node_name = node_name
        self._cluster = cluster
        self._ports = ports
        self._clock = clock
        own = config.path_data / "nodes" / "0"
        spill = own / "tmp"
        shutil.rmtree(spill, ignore_errors=True)  # left behind by a crash; nothing in it outlives its job
        spill.mkdir(parents=True)
        memory = max(limits.ENGINE_MEMORY_BYTES, int(psutil.virtual_memory().total * ENGINE_MEMORY_SHARE))
        self._store = ShardStore(own, clock=clock)
        self._engine = Engine(memory_bytes=memory, spill_path=spill, partitions=os.cpu_count() or 1)
        self._execution = ExecutionService(
            cluster=cluster,
            store=self._store,
            engine=self._engine,
            clock=clock,
            system_tables=SystemTables(describe_views=self._describe_views),
            recompile=self._recompile,
            spill_path=spill,
        )
        self._row_counts = RowCounts(cluster=cluster, store=self._store)
        self._described: tuple[int, dict[RelationName, tuple[tuple[str, DataType], ...]]] = (-1, {})

    async def run(self) -> None:
        """Everything, until a signal arrives."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_stop_on_signal, signals, nursery.cancel_scope)
                    self._execution.steering.stop_node = lambda: nursery.start_soon(_stop_soon, nursery.cancel_scope)
                    await self._serve(nursery)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._store.close)

    async def _serve(self, nursery: trio.Nursery) -> None:
        compiler = Compiler(
            compile_text,
            cluster=self._cluster,
            fold=fold,
            clock=self._clock,
            check_syntax=parse,
            row_counts=self._row_counts,
        )
        services = SessionServices(
            clock=self._clock,
            cluster=self._cluster,
            execution=self._execution,
            compiler=compiler,
            constant_values=constant_values,
        )
        self._execution.sessions = services.sessions.entries
        log.info("starting ...")
        host = self._config.network_host
        await nursery.start(HttpServer(services, node_name=self._node_name).serve, [self._ports.http])
        _log_address(http_log, host, self._ports.http)
        if self._ports.psql is not None:
            await nursery.start(PostgresServer(services).serve, [self._ports.psql])
            _log_address(psql_log, host, self._ports.psql)
        await nursery.start(self._execution.run)
        nursery.start_soon(self._row_counts.run)
        nursery.start_soon(self._load_what_data_needs)
        await nursery.start(self._cluster.run)
        # While the others are looked for: what the first statement would do first (system tables' columns, a cold compiler).
        self._compile("SELECT count(*) FROM sys.nodes", SessionView(), ())
        await self._cluster.wait_for(lambda state: state.version > 0, timeout_s=float("inf"))
        gc.freeze()  # what start-up made stays: no need to look through it in every collection
        self._log_ready()

    async def _load_what_data_needs(self) -> None:
        """Once the cluster has a table, and not by the first query; but not in the way of the statements that make and fill it.

        A statement that is faster loads it itself, on a worker thread, as one that needs the engine without any table does.
        """
        await self._cluster.wait_for(lambda state: bool(state.tables), timeout_s=float("inf"))
        latest = trio.current_time() + limits.LOAD_AFTER_TABLE_MAX_S
        before = None
        while (seen := (self._cluster.state.version, self._execution.statements_begun)) != before:
            if trio.current_time() >= latest:
                break
            before = seen
            await trio.sleep(limits.LOAD_AFTER_QUIET_S)
        await trio.to_thread.run_sync(compute.load)
        await trio.to_thread.run_sync(self._engine.prepare)

    def _log_ready(self) -> None:
        http = self._ports.http.getsockname()[1]
        host = self._config.network_host
        psql = ""
        if self._ports.psql is not None:
            psql = f", psql -h {host} -p {self._ports.psql.getsockname()[1]} -U crate doc"
        log.info("started: ready at http://%s:%d%s", host, http, psql)

    # --- what needs both sql and execution ---------------------------------------------------------------------------

    def _recompile(self, compiled: CompiledStatement, context: StatementContext) -> CompiledStatement:
        """The same statement against the newest cluster state."""
        view = SessionView(user=context.user, search_path=context.search_path, settings=context.settings)
        (again,) = self._compile(compiled.text, view, compiled.parameter_types)
        return again

    def _compile(self, text: str, view: SessionView, types: tuple[DataType, ...]) -> list[CompiledStatement]:
        return compile_text(
            text,
            parameter_types=types,
            session=view,
            state=self._cluster.state,
            handler_id=self._cluster.node_id,
            fold=fold,
            new_id=self._clock.new_id,
            now_ms=self._clock.wall_ms(),
            estimates=self._row_counts.rows,
        )

    def _describe_views(self, state: ClusterState) -> dict[RelationName, tuple[tuple[str, DataType], ...]]:
        """Columns of every view; a view whose tables are gone has none. Kept until the state changes."""
        version, described = self._described
        if version != state.version:
            described = {view.name: self._columns_of(view.sql, view.search_path) for view in state.views.values()}
            self._described = (state.version, described)
        return described

    def _columns_of(self, sql: str, search_path: tuple[str, ...]) -> tuple[tuple[str, DataType], ...]:
        try:
            (compiled,) = self._compile(sql, SessionView(search_path=search_path), ())
        except CrateError:
            return ()
        return tuple((column.name, column.type) for column in compiled.columns or ())


async def _stop_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for number in signals:
        log.info("stopping ... (%s)", signal.Signals(number).name)
        scope.cancel()
        return


async def _stop_soon(scope: trio.CancelScope) -> None:
    """A moment later, so that who asked for it hears the answer."""
    log.info("stopping ... (decommissioned)")
    await trio.sleep(limits.DECOMMISSION_ANSWER_S)
    scope.cancel()


def _log_address(logger: logging.Logger, host: str, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    logger.info("publish_address {%s:%d}, bound_addresses {%s:%d}", host, port, host, port)
