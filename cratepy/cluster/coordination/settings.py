"""Timings of coordination in one place, by CrateDB's setting names, with defaults that fail over within seconds.

CrateDB's checks (interval 1 s, timeout 10 s, three retries) find a silent node after half a minute, and its publication
then waits 30 s for it. Here a dead process is noticed when its connection breaks, at once; a silent one after
``interval + retries × timeout`` = 3.5 s, which a node that is merely busy does not reach: checks are answered on the
event loop, which nothing may hold for more than milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinationSettings:
    """Seconds, except where the name says otherwise."""

    #: cluster.election.initial_timeout: the first candidate waits a random part of this.
    election_initial_timeout_s: float = 0.1
    #: cluster.election.back_off_time: what each further attempt adds.
    election_back_off_s: float = 0.1
    #: cluster.election.max_timeout
    election_max_timeout_s: float = 10.0
    #: cluster.election.duration: how long an attempt is given before the next begins.
    election_duration_s: float = 0.5
    #: cluster.fault_detection.leader_check.interval and .follower_check.interval
    check_interval_s: float = 0.5
    #: cluster.fault_detection.*.timeout
    check_timeout_s: float = 1.0
    #: cluster.fault_detection.*.retry_count
    check_retries: int = 3
    #: cluster.publish.timeout: a publication not committed by then has failed, and the master steps down.
    publish_timeout_s: float = 5.0
    #: After the commit, how long the next publication waits for nodes that have not applied it.
    apply_grace_s: float = 0.5
    #: cluster.follower_lag.timeout: a node that has not applied a state by then is removed.
    lag_timeout_s: float = 15.0

    def __post_init__(self) -> None:
        assert self.check_retries > 0
        assert 0 < self.election_initial_timeout_s <= self.election_max_timeout_s
        assert self.apply_grace_s < self.publish_timeout_s < self.lag_timeout_s
