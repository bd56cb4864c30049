"""Rows of the sys tables that each node gives about itself: node, shards, jobs, operations, sessions.

Figures of the machine come from psutil. What CrateDB reports about its virtual machine or Lucene and has no counterpart
here is NULL, except where clients compute with it (``heap`` is this process's memory against the machine's).
"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import psutil

from cratepy import CRATEDB_VERSION, __version__, limits
from cratepy.execution.local_view import JobLogEntry, LocalView
from cratepy.execution.system.view import Provider, Row, SystemView
from cratepy.model.state import NodeInfo, ShardCopy
from cratepy.storage.shard import Shard

#: Percentiles of sys.jobs_metrics.
PERCENTILES: Final = (25, 50, 75, 90, 95, 99)


def _node_reference(local: LocalView) -> dict[str, Any]:
    node = local.node
    return {"id": local.node_id, "name": node.name if node is not None else ""}


def _nodes(view: SystemView) -> Iterator[Row]:
    local, now = view.local, view.context.now_ms
    node = local.node
    if node is None:
        return
    if local.speaks_for_all and view.state.master_id is None:
        # Nobody knows who is still there: the others as they were known last.
        yield from (_known_node(view, other) for other in view.state.nodes.values() if other.id != node.id)
    memory = psutil.virtual_memory()
    process = psutil.Process()
    load = os.getloadavg()
    yield {
        **_known_node(view, node),
        "hostname": socket.gethostname(),
        "cluster_state_version": view.state.version,
        "load": {"1": load[0], "5": load[1], "15": load[2], "probe_timestamp": now},
        "mem": {
            "free": memory.available,
            "used": memory.total - memory.available,
            "free_percent": round(100 * memory.available / memory.total),
            "used_percent": 100 - round(100 * memory.available / memory.total),
            "probe_timestamp": now,
        },
        "heap": {
            "used": process.memory_info().rss,
            "max": memory.total,
            "free": memory.total - process.memory_info().rss,
            "probe_timestamp": now,
        },
        "version": {
            "number": CRATEDB_VERSION,
            "build_hash": f"cratepy-{__version__}",
            "build_snapshot": False,
            "minimum_index_compatibility_version": "6.0.0",
            "minimum_wire_compatibility_version": "6.0.0",
        },
        "os": {
            "timestamp": now,
            "probe_timestamp": now,
            "uptime": now - round(psutil.boot_time() * 1000),
            "cpu": _cpu(),
        },
        "os_info": {
            "available_processors": os.cpu_count(),
            "name": platform.system(),
            "arch": platform.machine(),
            "version": platform.release(),
            "jvm": {
                "version": platform.python_version(),
                "vm_name": platform.python_implementation(),
                "vm_vendor": "Python Software Foundation",
                "vm_version": platform.python_version(),
            },
        },
        "process": {
            "open_file_descriptors": process.num_fds(),
            "max_open_file_descriptors": process.rlimit(psutil.RLIMIT_NOFILE)[0],
            "probe_timestamp": now,
            "cpu": {"percent": round(process.cpu_percent(interval=None))},
        },
        "fs": _file_systems(local),
        "connections": _connections(local),
        "thread_pools": [],
    }


def _known_node(view: SystemView, node: NodeInfo) -> Row:
    """What the cluster state says of a node."""
    roles = [role for role, has in (("data", node.is_data), ("master_eligible", node.is_master_eligible)) if has]
    return {
        "id": node.id,
        "name": node.name,
        "hostname": node.host,
        "rest_url": f"{node.host}:{node.http_port}",
        "roles": roles,
        "is_master": view.state.master_id == node.id,
        "attributes": dict(node.attributes),
        "port": {"http": node.http_port, "psql": node.psql_port, "transport": node.transport_port},
    }


def _cpu() -> dict[str, Any]:
    times = psutil.cpu_times_percent(interval=None)
    return {"used": round(100 - times.idle), "user": round(times.user), "system": round(times.system)}


def _file_systems(local: LocalView) -> dict[str, Any]:
    usage = psutil.disk_usage(local.data_path)
    device = _device(local.data_path)
    counters = psutil.disk_io_counters()
    total: dict[str, Any] = {"size": usage.total, "used": usage.used, "available": usage.free}
    if counters is not None:
        total |= {
            "reads": counters.read_count,
            "bytes_read": counters.read_bytes,
            "writes": counters.write_count,
            "bytes_written": counters.write_bytes,
        }
    disk = {"dev": device, "size": usage.total, "used": usage.used, "available": usage.free}
    return {"total": total, "disks": [disk], "data": [{"dev": device, "path": local.data_path}]}


def _device(path: str) -> str:
    """The device that a path is on: that of the longest mount point above it."""
    above = [part for part in psutil.disk_partitions(all=True) if Path(path).is_relative_to(part.mountpoint)]
    return max(above, key=lambda part: len(part.mountpoint)).device if above else "/"


def _connections(local: LocalView) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for session in local.sessions():
        counts[session.protocol] = counts.get(session.protocol, 0) + 1
    return {protocol: {"open": counts.get(protocol, 0)} for protocol in ("http", "psql", "transport")}


def _shards(view: SystemView) -> Iterator[Row]:
    """One row per copy assigned to this node; the master also tells of the copies no node has."""
    local = view.local
    open_shards = {(shard.table_uuid, shard.shard): shard for shard in local.shards()}
    is_master = view.state.master_id == local.node_id
    for uuid, table in view.state.tables.items():
        for routing in table.routing:
            for copy in routing.copies:
                if copy.node_id == local.node_id:
                    shard = open_shards.get((uuid, routing.shard))
                    row = _shard_row(view, uuid, routing.shard, copy)
                    yield row if shard is None else row | _shard_figures(shard)
                elif copy.node_id is None and is_master:
                    yield _shard_row(view, uuid, routing.shard, copy)


def _shard_row(view: SystemView, uuid: str, shard: int, copy: ShardCopy) -> dict[str, Any]:
    definition = view.state.tables[uuid].definition
    return {
        "schema_name": definition.name.schema,
        "table_name": definition.name.name,
        "id": shard,
        "partition_ident": "",
        "partition_uuid": uuid,
        "primary": copy.is_primary,
        "state": copy.state.upper(),
        "routing_state": copy.state.upper(),
        "closed": definition.is_closed,
        "orphan_partition": False,
        "num_docs": 0,
        "size": 0,
        "node": _node_reference(view.local) if copy.node_id is not None else None,
        "recovery": {"stage": "DONE" if copy.state == "started" else "INIT", "type": "EXISTING_STORE"},
    }


def _shard_figures(shard: Shard) -> dict[str, Any]:
    stats = shard.stats()
    files = sum(segment.files for segment in stats.segments)
    # Nothing is copied from elsewhere: what is there was there when it was opened, or was written since.
    found = 0 if stats.was_created else stats.size_bytes
    figures: dict[str, Any] = {
        "num_docs": stats.docs,
        "size": stats.size_bytes,
        "path": stats.path,
        "seq_no_stats": {
            "max_seq_no": stats.max_seq_no,
            "local_checkpoint": stats.local_checkpoint,
            "global_checkpoint": stats.local_checkpoint,
        },
        "translog_stats": {
            "size": stats.translog_bytes,
            "uncommitted_size": stats.uncommitted_bytes,
            "number_of_operations": stats.translog_operations,
            "uncommitted_operations": stats.translog_operations,
        },
        "retention_leases": {"primary_term": stats.primary_term, "version": 0, "leases": []},
        "refresh_stats": {
            "count": stats.refresh_count,
            "pending_count": 0,
            "total_time_ns": round(stats.refresh_s * 1e9),
        },
        "flush_stats": {"count": stats.flush_count, "periodic_count": 0, "total_time_ns": round(stats.flush_s * 1e9)},
        "merge_stats": {
            "count": stats.merge_count,
            "total_time_ms": round(stats.merge_s * 1000),
            "total_size_bytes": stats.merged_bytes,
            "current_count": stats.merges_running,
            "current_num_docs": sum(segment.rows for segment in stats.segments if segment.is_merging),
            "current_size_bytes": sum(segment.size_bytes for segment in stats.segments if segment.is_merging),
            "bytes_per_sec_auto_throttle": limits.MERGE_BYTES_PER_S,
        },
        "recovery": {
            "stage": "DONE",
            "type": "EMPTY_STORE" if stats.was_created else "EXISTING_STORE",
            "total_time": round(stats.opening_s * 1000),
            "size": {"used": found, "reused": found, "recovered": 0, "percent": 100.0},
            "files": {
                "used": 0 if stats.was_created else files,
                "reused": 0 if stats.was_created else files,
                "recovered": 0,
                "percent": 100.0,
            },
        },
    }
    # The routing still says STARTED until the master has heard of it.
    return figures if stats.failure is None else figures | {"state": "FAILED"}


def _segments(view: SystemView) -> Iterator[Row]:
    for shard in view.local.shards():
        table = view.state.tables.get(shard.table_uuid)
        if table is None:
            continue
        for segment in shard.stats().segments:
            yield {
                "table_schema": table.definition.name.schema,
                "table_name": table.definition.name.name,
                "partition_ident": "",
                "shard_id": shard.shard,
                "node": _node_reference(view.local),
                "segment_name": segment.name,
                "generation": segment.generation,
                "num_docs": segment.rows - segment.deleted,
                "deleted_docs": segment.deleted,
                "size": segment.size_bytes,
                # Columns are mapped, not held.
                "memory": -1,
                "committed": segment.is_committed,
                "primary": True,
                "search": True,
                "version": str(segment.format),
                "compound": False,
                "merge_id": f"{shard.allocation_id}/merge" if segment.is_merging else None,
                "attributes": {"codec": "best_compression" if segment.is_compressed else "default"},
            }


def _jobs(view: SystemView) -> Iterator[Row]:
    for job in view.local.jobs():
        yield {
            "id": job.id,
            "username": job.username,
            "stmt": job.statement,
            "started": job.started_ms,
            "session_id": job.session_id,
            "progress": _progress(view.local, job.id),
            "node": _node_reference(view.local),
        }


def _progress(local: LocalView, job_id: str) -> dict[str, Any] | None:
    progress = local.progress(job_id)
    if progress is None:
        return None
    return {"bytes": progress.bytes_done, "bytes_total": progress.bytes_total, "rows": progress.rows}


def _jobs_log(view: SystemView) -> Iterator[Row]:
    for entry in view.local.jobs_log():
        job = entry.job
        yield {
            "id": job.id,
            "username": job.username,
            "stmt": job.statement,
            "started": job.started_ms,
            "ended": entry.ended_ms,
            "error": entry.error,
            "session_id": job.session_id,
            "classification": {"type": job.classification, "labels": []},
            "node": _node_reference(view.local),
        }


def _jobs_metrics(view: SystemView) -> Iterator[Row]:
    groups: dict[str, list[JobLogEntry]] = {}
    for entry in view.local.jobs_log():
        groups.setdefault(entry.job.classification, []).append(entry)
    for classification, entries in sorted(groups.items()):
        durations = sorted(entry.duration_ms for entry in entries)
        mean = sum(durations) / len(durations)
        variance = sum((duration - mean) ** 2 for duration in durations) / len(durations)
        yield {
            "classification": {"type": classification, "labels": []},
            "total_count": len(entries),
            "failed_count": sum(1 for entry in entries if entry.error is not None),
            "total_affected_row_count": sum(max(0, entry.rowcount) for entry in entries),
            "sum_of_durations": round(sum(durations)),
            "mean": mean,
            "stdev": variance**0.5,
            "min": round(durations[0]),
            "max": round(durations[-1]),
            "percentiles": {
                str(p): round(durations[min(len(durations) - 1, len(durations) * p // 100)]) for p in PERCENTILES
            },
            "node": _node_reference(view.local),
        }


def _operations(view: SystemView) -> Iterator[Row]:
    for operation in view.local.operations():
        yield {
            "id": operation.id,
            "job_id": operation.job_id,
            "name": operation.name,
            "started": operation.started_ms,
            "used_bytes": operation.used_bytes,
            "node": _node_reference(view.local),
        }


def _operations_log(view: SystemView) -> Iterator[Row]:
    for entry in view.local.operations_log():
        operation = entry.operation
        yield {
            "id": operation.id,
            "job_id": operation.job_id,
            "name": operation.name,
            "started": operation.started_ms,
            "ended": entry.ended_ms,
            "used_bytes": operation.used_bytes,
            "error": entry.error,
        }


def _sessions(view: SystemView) -> Iterable[Row]:
    node = view.local.node
    for session in view.local.sessions():
        yield {
            "id": session.id,
            "session_user": session.username,
            "auth_user": session.username,
            "handler_node": node.name if node is not None else None,
            "client_address": session.client_address,
            "protocol": session.protocol,
            "ssl": session.is_ssl,
            "time_created": session.started_ms,
            "last_statement": session.last_statement,
            "last_job_id": session.last_job_id,
            "settings": dict(session.settings),
        }


PROVIDERS: Final[Mapping[str, Provider]] = {
    "jobs": _jobs,
    "jobs_log": _jobs_log,
    "jobs_metrics": _jobs_metrics,
    "nodes": _nodes,
    "operations": _operations,
    "operations_log": _operations_log,
    "segments": _segments,
    "sessions": _sessions,
    "shards": _shards,
}
