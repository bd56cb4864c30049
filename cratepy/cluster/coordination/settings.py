"""Timings of coordination in one place, by CrateDB's setting names, with defaults that fail over within seconds.

CrateDB's defaults make it slow to notice what does not break a connection: checks every second with ten seconds of
patience and three attempts find a silent node after half a minute, and the first publication of the next master waits 30 s
for it; 61 to 90 s were measured until writes were acknowledged again. Here a dead process is noticed when its connection
breaks, at once; a silent one after ``interval + retries × timeout`` = 3.5 s, which a node that is merely busy does not
reach: checks are answered on the event loop, which nothing may hold for more than milliseconds.
"""

from __future__ import annotations

from cratepy.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinationSettings:
    """Seconds, except where the name says otherwise. CrateDB's default in brackets where ours differs."""

    #: cluster.election.initial_timeout: the first candidate waits a random part of this.
    election_initial_timeout_s: float = 0.1
    #: cluster.election.back_off_time: what each further attempt adds.
    election_back_off_s: float = 0.1
    #: cluster.election.max_timeout
    election_max_timeout_s: float = 10.0
    #: cluster.election.duration: how long an attempt is given before the next begins.
    election_duration_s: float = 0.5
    #: cluster.fault_detection.follower_check.interval [1 s], .timeout [10 s], .retry_count: the master asks its followers.
    follower_check_interval_s: float = 0.5
    follower_check_timeout_s: float = 1.0
    follower_check_retries: int = 3
    #: cluster.fault_detection.leader_check.interval [1 s], .timeout [10 s], .retry_count: a follower asks its master.
    leader_check_interval_s: float = 0.5
    leader_check_timeout_s: float = 1.0
    leader_check_retries: int = 3
    #: cluster.publish.timeout [30 s]: a publication not committed by then has failed, and the master steps down. It must be
    #: longer than the checks take to find a silent node, which then fails the publication's target at once.
    publish_timeout_s: float = 5.0
    #: After the commit, how long the next publication waits for nodes that have not applied it [30 s: cluster.publish.timeout].
    apply_grace_s: float = 0.5
    #: cluster.follower_lag.timeout [90 s]: a node that has not applied a state by then is removed.
    lag_timeout_s: float = 15.0
    #: cluster.auto_shrink_voting_configuration, where SET GLOBAL has not said otherwise.
    auto_shrink: bool = True

    def __post_init__(self) -> None:
        assert self.follower_check_retries > 0
        assert self.leader_check_retries > 0
        assert 0 < self.election_initial_timeout_s <= self.election_max_timeout_s
        assert self.apply_grace_s < self.publish_timeout_s < self.lag_timeout_s
