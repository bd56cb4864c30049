"""The settings of a cluster: names, kinds of value, defaults, and which may change while it runs.

Facts, kept as text: CrateDB's names and defaults (docs: config/cluster; defaults as a fresh node of CrateDB 6.4 shows them in
``sys.cluster``). ``sql`` checks SET GLOBAL against them, ``execution`` shows them. That a setting is here says that it can be
set, not that something reads it: what has an effect is in docs/operations/clusters.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cratepy.model.schema import SettingValue
from cratepy.records import dataclass

_TABLE: Final = """
boolean cluster.auto_shrink_voting_configuration true
boolean cluster.graceful_stop.force false
boolean cluster.routing.allocation.disk.threshold_enabled true
boolean stats.enabled true
integer cluster.max_shards_per_node 1000 >=1
integer cluster.routing.allocation.cluster_concurrent_rebalance 2 >=0
integer cluster.routing.allocation.node_concurrent_recoveries 2 >=0
integer cluster.routing.allocation.node_initial_primaries_recoveries 4 >=0
integer cluster.routing.allocation.total_shards_per_node -1 >=-1
integer indices.recovery.max_concurrent_file_chunks 2 >=1
integer overload_protection.dml.initial_concurrency 5 >=0
integer overload_protection.dml.max_concurrency 100 >=0
integer overload_protection.dml.min_concurrency 1 >=0
integer overload_protection.dml.queue_size 25 >=0
integer replication.logical.ops_batch_size 50000 >=16
integer replication.logical.recovery.max_concurrent_file_chunks 2 >=1
integer stats.jobs_log_size 10000 >=0
integer stats.operations_log_size 10000 >=0
time bulk.request_timeout 1m
time cluster.graceful_stop.timeout 7200000ms
time cluster.info.update.interval 30s
time indices.recovery.internal_action_long_timeout 1800000ms
time indices.recovery.internal_action_timeout 15m
time indices.recovery.recovery_activity_timeout 1800000ms
time indices.recovery.retry_delay_network 5s
time indices.recovery.retry_delay_state_sync 500ms
time indices.replication.retry_timeout 60s
time replication.logical.reads_poll_duration 50ms
time statement_timeout 0ms
time stats.jobs_log_expiration 0s
time stats.operations_log_expiration 0s
time stats.service.interval 24h
size indices.recovery.max_bytes_per_sec 40mb
size memory.operation_limit 0
size replication.logical.recovery.chunk_size 1mb
size stats.service.max_bytes_per_sec 40mb
share cluster.routing.allocation.disk.watermark.flood_stage 95%
share cluster.routing.allocation.disk.watermark.high 90%
share cluster.routing.allocation.disk.watermark.low 85%
share indices.breaker.query.limit 60%
share indices.breaker.request.limit 60%
share indices.breaker.total.limit 95%
share stats.breaker.log.jobs.limit 5%
share stats.breaker.log.operations.limit 5%
number cluster.routing.allocation.balance.index 0.55
number cluster.routing.allocation.balance.shard 0.45
number cluster.routing.allocation.balance.threshold 1.0
none|primaries|full cluster.graceful_stop.min_availability PRIMARIES
write|all cluster.no_master_block write
always|indices_primaries_active|indices_all_active cluster.routing.allocation.allow_rebalance indices_all_active
all|none|primaries|new_primaries cluster.routing.allocation.enable all
all|none|primaries|replicas cluster.routing.rebalance.enable all
on-heap|off-heap memory.allocation.type on-heap
text cluster.routing.allocation.awareness.attributes
text indices.breaker.policy CURRENT
text stats.jobs_log_filter true
text stats.jobs_log_persistent_filter false
boolean fdw.allow_local false fixed
boolean udc.enabled true fixed
integer gateway.expected_data_nodes -1 fixed
integer gateway.expected_nodes -1 fixed
integer gateway.recover_after_data_nodes -1 fixed
integer gateway.recover_after_nodes -1 fixed
integer statement_max_length 262144 fixed
time gateway.recover_after_time 0ms fixed
time udc.initial_delay 10m fixed
time udc.interval 24h fixed
text udc.url https://udc.crate.io/ fixed
"""


@dataclass(frozen=True, slots=True)
class ClusterSetting:
    """``kind`` is boolean, integer, time, size, share, number, text, or empty where ``words`` are all there is."""

    name: str
    kind: str
    words: tuple[str, ...]
    default: SettingValue
    minimum: int | None
    #: Whether SET GLOBAL may change it; the others are for crate.yml.
    is_dynamic: bool


def _read(line: str) -> ClusterSetting:
    kind, name, *rest = line.split()
    is_dynamic = "fixed" not in rest
    minimum = next((int(part.removeprefix(">=")) for part in rest if part.startswith(">=")), None)
    text = rest[0] if rest and rest[0] != "fixed" else ""
    default: SettingValue = {"boolean": text == "true"}.get(kind, text)
    if kind == "integer" or text == "0":
        default = int(text)
    elif kind == "number":
        default = float(text)
    words = tuple(kind.split("|")) if "|" in kind else ()
    return ClusterSetting(name, "" if words else kind, words, default, minimum, is_dynamic)


CLUSTER_SETTINGS: Final[Mapping[str, ClusterSetting]] = {
    setting.name: setting for setting in map(_read, _TABLE.strip().splitlines())
}
