"""What the benchmarks share: a cratepy node, a PostgreSQL server, pgbench, and the printing of claims."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo.processes import Cluster, Node, free_ports

PGBENCH_SECONDS: Final = int(os.environ.get("BENCH_SECONDS", "5"))


@dataclass(frozen=True)
class Claim:
    """One figure: ours against the peer's; ``aim`` bounds the ratio from above or below."""

    name: str
    ours: float
    peer: float
    unit: str
    peer_name: str
    aim: float
    is_upper_bound: bool

    @property
    def ratio(self) -> float:
        return self.ours / self.peer

    @property
    def is_met(self) -> bool:
        return self.ratio <= self.aim if self.is_upper_bound else self.ratio >= self.aim


def print_claims(claims: Sequence[Claim]) -> None:
    for claim in claims:
        sign = "≤" if claim.is_upper_bound else "≥"
        verdict = "ok" if claim.is_met else "MISSED"
        print(
            f"  {claim.name:<46} {claim.ours:>12,.2f} : {claim.peer:>12,.2f} {claim.unit:<7} ({claim.peer_name}) "
            f"= {claim.ratio:6.2f} ×   aim {sign} {claim.aim:g}   {verdict}",
            flush=True,
        )


@contextlib.contextmanager
def cratepy_node() -> Iterator[Node]:
    """One node of ours with an empty data directory."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, Cluster(Path(directory), size=1) as cluster:
        yield cluster.nodes[0]


@dataclass(frozen=True)
class Postgres:
    """A running PostgreSQL server with default settings."""

    port: int

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"


@contextlib.contextmanager
def postgres_server() -> Iterator[Postgres]:
    """PostgreSQL from Debian's package, data in a temporary directory; as user postgres if we are root."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not found:
        raise SystemExit("the benchmarks compare with PostgreSQL: apt-get install -y postgresql")
    binaries, (port,) = found[-1], free_ports(1)
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    directory = tempfile.mkdtemp(prefix="bench-pg-")
    if as_user:
        owner = pwd.getpwnam("postgres")
        os.chown(directory, owner.pw_uid, owner.pw_gid)
    data = f"{directory}/data"
    try:
        run = [*as_user, f"{binaries}/initdb", "-D", data, "-A", "trust", "-U", "postgres"]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL, cwd="/")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory}"
        control = [*as_user, f"{binaries}/pg_ctl", "-D", data, "-l", f"{directory}/log", "-w"]
        subprocess.run([*control, "-o", options, "start"], check=True, stdout=subprocess.DEVNULL, cwd="/")
        try:
            yield Postgres(port)
        finally:
            subprocess.run([*control, "-m", "fast", "stop"], check=True, stdout=subprocess.DEVNULL, cwd="/")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@dataclass(frozen=True)
class PgbenchResult:
    p50_us: float
    p99_us: float
    per_second: float


def pgbench(
    port: int,
    script: str,
    *,
    user: str,
    database: str,
    clients: int = 1,
    mode: str = "prepared",
    seconds: int = PGBENCH_SECONDS,
) -> PgbenchResult:
    """Run one pgbench script; percentiles come from its per-transaction log."""
    with tempfile.TemporaryDirectory(prefix="pgbench-") as directory:
        file = Path(directory) / "script.sql"
        file.write_text(script)
        command = ["pgbench", "-n", "-f", str(file), "-M", mode, "-c", str(clients), "-j", str(min(2, clients))]
        command += [
            "-T",
            str(seconds),
            "-l",
            "--log-prefix",
            f"{directory}/log",
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "-U",
            user,
            database,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"pgbench: {done.stderr}")
        failed = re.search(r"number of failed transactions: (\d+)", done.stdout)
        if failed is not None and int(failed[1]):
            raise RuntimeError(f"pgbench: {done.stdout}\n{done.stderr}")
        rate = re.search(r"tps = ([\d.]+)", done.stdout)
        assert rate is not None, done.stdout
        times = [
            float(line.split()[2])
            for log in glob.glob(f"{directory}/log.*")
            for line in Path(log).read_text().splitlines()
        ]
    quantiles = statistics.quantiles(times, n=100) if len(times) > 1 else [times[0]] * 99
    return PgbenchResult(quantiles[49], quantiles[98], float(rate[1]))
