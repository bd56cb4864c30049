"""From process start to the first answer, and the memory of an idle node. The peers are fixed bounds: one second, 150 MiB."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.common import Claim
from demo.processes import Cluster, polls


def run() -> list[Claim]:
    with tempfile.TemporaryDirectory(prefix="bench-idle-") as directory:
        cluster = Cluster(Path(directory), size=1)
        node = cluster.nodes[0]
        started = time.perf_counter()
        node.start()
        try:
            for _ in polls(30, interval_s=0.005):
                if node.is_ready():
                    break
            seconds = time.perf_counter() - started
            assert node.process is not None
            process = psutil.Process(node.process.pid)
            time.sleep(3)
            process.cpu_percent(None)
            time.sleep(3)
            cpu = process.cpu_percent(None)
            mebibytes = process.memory_info().rss / 2**20
        finally:
            cluster.stop()
    return [
        Claim("start to first answer", seconds, 1.0, "s", "bound", 1, True),
        Claim("memory of an idle node", mebibytes, 150, "MiB", "bound", 1, True),
        Claim("CPU of an idle node", cpu, 1.0, "%", "bound", 1, True),
    ]
