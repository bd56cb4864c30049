"""What the nodes working on a statement say to each other, besides rows.

All of them are msgspec Structs for ``Transport.request``; rows go through streams (see ``exchange``). A **run** is one
execution of one QueryPlan: a statement has one job id and one run per query in it (subqueries, the query of an INSERT,
a second attempt after stale routing), so streams of different attempts can never be mixed up.

======================  ==================  ============================================================
``job/start``           handler → node      here is the whole plan, do your phases; Started says if it can
``job/failed``          node → handler      a phase failed here; first error wins
``job/cancel``          handler → node      stop the run and forget it
``job/kill``            node → all          KILL: stop statements whose handler you are
======================  ==================  ============================================================
"""

from __future__ import annotations

from typing import Final

import msgspec

from cratepy.model.plan import Phase, StatementContext

START: Final = "job/start"
FAILED: Final = "job/failed"
CANCEL: Final = "job/cancel"
STATUS: Final = "job/status"
KILL: Final = "job/kill"


class RunPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a run that is the same for every node, so that it is encoded once."""

    phases: tuple[Phase, ...]
    context: StatementContext


class StartRun(msgspec.Struct, frozen=True, kw_only=True):
    """``plan`` is a :class:`RunPlan` in msgpack. ``state_version`` is the cluster state it was made with: a node that
    has not applied it yet waits for it before it looks for its shards."""

    run_id: str
    plan: bytes
    state_version: int


class Started(msgspec.Struct, frozen=True):
    """``missing`` names the shards asked for that are not here (``table_uuid/shard``); then nothing was started."""

    missing: tuple[str, ...] = ()


class RunFailed(msgspec.Struct, frozen=True, kw_only=True):
    """``name`` and ``message`` as of ``errors.error_to_wire``."""

    run_id: str
    name: str
    message: str


class CancelRun(msgspec.Struct, frozen=True):
    run_id: str


class RunStatus(msgspec.Struct, frozen=True):
    """Asked by the handler now and then: a node that cannot reach it could not tell how its part ended."""

    run_id: str


class RunFate(msgspec.Struct, frozen=True):
    """``failure`` is the name and message of what the run failed with on that node, None if it did not."""

    failure: tuple[str, str] | None = None


class KillJobs(msgspec.Struct, frozen=True, kw_only=True):
    """``job_id`` None is KILL ALL. ``except_job_id`` is the KILL itself."""

    job_id: str | None
    user: str
    except_job_id: str


class Killed(msgspec.Struct, frozen=True):
    count: int


def encode_plan(plan: RunPlan) -> bytes:
    return _ENCODER.encode(plan)


def decode_plan(data: bytes) -> RunPlan:
    return _DECODER.decode(data)


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(RunPlan)
