"""The coordinator: modes, elections, joins and checks around the safety kernel.

``step(event, now)`` gives effects in the order they must be performed. The host's one rule: a :class:`Persist` is durable
before any effect after it is performed and before the next event is fed. Nothing here reads a clock, draws a number of
its own or touches a socket; the same events give the same effects.

Three modes. A candidate has no master: it asks everybody it is connected to (pre-vote), joins a master if somebody knows
one, and else holds an election when a majority would vote for it. A follower checks its master; the master
(:mod:`cratepy.cluster.coordination.leadership`) checks its followers. A broken connection counts as a failed check at
once. Source: CrateDB's ``Coordinator``, ``PreVoteCollector``, ``JoinHelper``, ``LeaderChecker``, ``FollowersChecker``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from cratepy.cluster.coordination.kernel import CoordinationState, Rejected, Vote
from cratepy.cluster.coordination.leadership import BecomeLeader, Leadership, NodeJoin
from cratepy.cluster.coordination.messages import (
    Applied,
    Apply,
    Bootstrapped,
    Commit,
    Connected,
    Disconnected,
    Effect,
    Event,
    FollowerCheck,
    FollowerCheckAnswer,
    HealthChanged,
    Join,
    JoinRefused,
    JoinRequest,
    LeaderCheck,
    LeaderCheckAnswer,
    Leave,
    Message,
    ModeChanged,
    Persist,
    PreVote,
    PreVoteAnswer,
    Publish,
    Published,
    PublishRejected,
    Received,
    Refused,
    Report,
    StartJoin,
    StepDown,
    Submitted,
    TimerFired,
)
from cratepy.cluster.coordination.outbox import Outbox
from cratepy.cluster.coordination.settings import CoordinationSettings
from cratepy.cluster.coordination.transitions import Mode as Mode
from cratepy.cluster.coordination.transitions import is_allowed
from cratepy.model.state import ClusterState, NodeInfo


class Coordinator:
    """The coordination of one node, from the durable ``term`` and ``accepted`` it had when it stopped."""

    def __init__(
        self,
        *,
        me: NodeInfo,
        term: int,
        accepted: ClusterState,
        settings: CoordinationSettings,
        random: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self.me = me
        self.kernel = CoordinationState(term=term, accepted=accepted)
        self.mode = Mode.CANDIDATE
        self.leader_id: str | None = None
        self._settings = settings
        self._random = random
        self._new_id = new_id
        self._outbox = Outbox()
        self._leadership: Leadership | None = None
        self._connected: dict[str, None] = {}
        self._max_term = term
        self._attempt = 0
        self._round = 0
        self._pre_votes: set[str] | None = None
        #: To whom the last vote went.
        self._vote: tuple[str, Vote] | None = None
        #: The last term in which another node asked for votes, too, and the next attempt was brought forward.
        self._split_term = 0
        #: Who voted for this node in its term.
        self._voters: dict[str, NodeInfo] = {}
        #: The master this node gave up: not a member of the next state, unless it votes.
        self._lost_leader: str | None = None
        self._check_failures = 0
        #: Why the master did not take this node.
        self._refusal = ""
        #: Why this node takes no part in elections; None while it is well.
        self._problem: str | None = None
        #: Set while this master is asked to step down: the heir, or None for the best.
        self._step_down: StepDown | None = None

    # --- the front door ----------------------------------------------------------------------------------------------

    @property
    def pending_changes(self) -> int:
        """What waits in the master's queue."""
        return 0 if self._leadership is None else self._leadership.pending

    def start(self) -> list[Effect]:
        """The first effects, before any event."""
        self._become_candidate("start")
        return self._outbox.take()

    def step(self, event: Event, now: float) -> list[Effect]:
        """What to do about an event. ``now`` is in seconds; only timers depend on it, through their delays."""
        assert now >= 0
        try:
            self._handle(event)
        except Rejected:
            pass  # Late or repeated news: the guard that refused it is the answer.
        self._settle()
        self.kernel.check()
        return self._outbox.take()

    def _handle(self, event: Event) -> None:
        match event:
            case Received(source, message):
                assert source != self.me.id
                self._on_message(source, message)
            case TimerFired(name, generation):
                if self._outbox.is_due(name, generation):
                    self._on_timer(name)
            case Submitted(ticket, command):
                if self._leadership is None:
                    self._outbox.add(Refused(ticket))
                else:
                    self._leadership.submit(ticket, command)
            case Connected(node_id):
                self._connected[node_id] = None
                if self.mode is Mode.CANDIDATE and self._round:
                    self._outbox.send(node_id, PreVote(self.kernel.term, self._round))
            case Disconnected(node_id):
                self._on_disconnected(node_id)
            case Bootstrapped(config):
                self.kernel.set_initial(config)
                self._outbox.add(Persist(self.kernel.term, self.kernel.accepted))
                self._outbox.add(Report(f"bootstrapped the cluster with voting configuration {', '.join(config)}"))
                self._attempt = 0
                self._schedule_election()
            case StepDown():
                self._step_down = event if self._leadership is not None else None
            case HealthChanged(problem):
                self._on_health(problem)
            case _:
                assert_never(event)

    def _on_message(self, source: str, message: Message) -> None:
        match message:
            case PreVote():
                self._on_pre_vote(source, message)
            case PreVoteAnswer():
                self._on_pre_vote_answer(source, message)
            case StartJoin():
                self._on_start_join(source, message)
            case Join(vote, node):
                self._on_join(source, vote, node)
            case JoinRequest():
                self._on_join_request(source, message)
            case JoinRefused(reason):
                if reason != self._refusal:  # it asks again and again
                    self._outbox.add(Report(f"the master refuses this node: {reason}"))
                self._refusal = reason
            case Publish(state):
                self._on_publish(source, state)
            case Published() if self._leadership is not None:
                self._leadership.on_published(source, message)
            case PublishRejected():
                self._see_term(message.current_term)
                if self._leadership is not None:
                    self._leadership.on_rejected(source, message)
            case Commit(term, version):
                self._on_commit(source, term, version)
            case Applied(term, version) if self._leadership is not None and term == self.kernel.term:
                self._leadership.on_applied(source, version)
            case LeaderCheck(term):
                is_ok = self._leadership is not None and source in self.kernel.accepted.nodes
                self._outbox.send(source, LeaderCheckAnswer(is_ok and term == self.kernel.term))
            case LeaderCheckAnswer(is_ok):
                self._on_leader_answer(source, is_ok)
            case FollowerCheck(term):
                self._on_follower_check(source, term)
            case FollowerCheckAnswer(term):
                self._see_term(term)
                if self._leadership is not None:
                    self._leadership.on_follower_answer(source, message)
            case Leave() if self._leadership is not None:
                self._leadership.remove(source, "stopped")
            case Published() | Applied() | Leave():
                pass  # For the master this node has been.
            case _:
                assert_never(message)

    def _on_timer(self, name: str) -> None:
        kind, _, node_id = name.partition(":")
        if self._leadership is not None:
            match kind:
                case "publication":
                    self._leadership.on_publish_timeout()
                case "apply_grace":
                    self._leadership.on_grace_over()
                case "gather":
                    self._leadership.on_gathered()
                case "follower_check":
                    self._leadership.on_follower_check_due(node_id)
                case "follower_timeout":
                    self._leadership.on_follower_timeout(node_id)
                case "lag":
                    self._leadership.on_lag_timeout(node_id)
        elif kind == "election":
            self._on_election_due()
        elif kind == "leader_check":
            self._check_leader()
        elif kind == "leader_timeout":
            self._on_leader_check_failed()

    def _settle(self) -> None:
        """A master goes on with what waits, until it must wait itself."""
        while (leadership := self._leadership) is not None:
            if leadership.has_failed:
                self._become_candidate("publication failed")
            elif leadership.publication is not None:
                return
            elif self._max_term > self.kernel.term:
                # Somebody is in a later term; only an election there brings its vote back.
                self._start_election()
            elif self._step_down is not None:
                self._abdicate(leadership, self._step_down.heir)
            elif self._is_voted_out:
                self._abdicate(leadership, None)
            elif not leadership.pump():
                return

    @property
    def _is_voted_out(self) -> bool:
        """The voting configuration without this node is committed; until then it takes this node to commit it.

        A master that was made one without having a vote gets one by its first state.
        """
        now = self.kernel.accepted.coordination
        is_settled = now.term == self.kernel.term and now.committed_config == now.accepted_config
        return is_settled and self.me.id not in now.accepted_config

    # --- modes -------------------------------------------------------------------------------------------------------

    def _become_candidate(self, reason: str) -> None:
        if self._leadership is not None:
            self._leadership.abandon()
            self._leadership = None
        if self.mode is not Mode.CANDIDATE:
            self._outbox.add(Report(f"no master: {reason}"))
        self._enter(Mode.CANDIDATE)
        self.leader_id, self._pre_votes, self._attempt = None, None, 0
        self._step_down = None
        self._outbox.cancel_all_timers()
        self._outbox.add(ModeChanged(self.kernel.term, None))
        self._schedule_election()

    def _become_follower(self, leader_id: str) -> None:
        if self.mode is Mode.FOLLOWER and self.leader_id == leader_id:
            return
        if self._leadership is not None:
            self._leadership.abandon()
            self._leadership = None
        self._enter(Mode.FOLLOWER)
        self.leader_id, self._pre_votes, self._lost_leader = leader_id, None, None
        self._check_failures = 0
        self._outbox.cancel_all_timers()
        self._outbox.add(ModeChanged(self.kernel.term, leader_id))
        self._outbox.set_timer("leader_check", self._settings.leader_check_interval_s)

    def _become_leader(self) -> None:
        self._enter(Mode.LEADER)
        self.leader_id, self._pre_votes = self.me.id, None
        self._outbox.cancel_all_timers()
        self._outbox.add(ModeChanged(self.kernel.term, self.me.id))
        self._leadership = Leadership(
            me=self.me,
            kernel=self.kernel,
            outbox=self._outbox,
            settings=self._settings,
            new_id=self._new_id,
            count_vote=self._count_late_vote,
        )
        reachable = frozenset(node_id for node_id in self._connected if node_id != self._lost_leader)
        voters = tuple(self._voters[node_id] for node_id in sorted(self._voters))
        self._leadership.enqueue(BecomeLeader(reachable, voters))
        self._lost_leader = None

    def _enter(self, mode: Mode) -> None:
        assert mode is self.mode or is_allowed(self.mode, mode), f"no way from {self.mode} to {mode}"
        self.mode = mode

    def _see_term(self, term: int) -> None:
        self._max_term = max(self._max_term, term)

    def _ensure_term_at_least(self, source: str, term: int) -> Vote | None:
        """Move to a newer term and vote there for whoever showed it."""
        self._see_term(term)
        if term <= self.kernel.term:
            return None
        vote = self.kernel.start_join(term)
        self._vote, self._voters = (source, vote), {}
        self._outbox.add(Persist(self.kernel.term, self.kernel.accepted))
        if self.mode is not Mode.CANDIDATE:
            self._become_candidate(f"term {term} of node {source}")
        return vote

    def _on_disconnected(self, node_id: str) -> None:
        self._connected.pop(node_id, None)
        if self.mode is Mode.FOLLOWER and node_id == self.leader_id:
            self._lost_leader = node_id
            self._become_candidate("connection to the master broke")
        elif self._leadership is not None:
            self._leadership.remove(node_id, "disconnected")

    # --- elections ---------------------------------------------------------------------------------------------------

    def _schedule_election(self) -> None:
        settings = self._settings
        longest = settings.election_initial_timeout_s + self._attempt * settings.election_back_off_s
        delay_s = self._random() * min(longest, settings.election_max_timeout_s)
        if self._attempt > 0:
            delay_s += settings.election_duration_s
        self._attempt += 1
        self._outbox.set_timer("election", delay_s)

    def _on_election_due(self) -> None:
        """Ask everybody: who is master, and would you vote for me?"""
        assert self.mode is Mode.CANDIDATE
        self._round += 1
        self._pre_votes = set()
        for node_id in self._connected:
            self._outbox.send(node_id, PreVote(self.kernel.term, self._round))
        self._schedule_election()
        self._count_pre_vote(self.me.id)

    def _on_pre_vote(self, source: str, message: PreVote) -> None:
        self._see_term(message.term)
        last_term, last_version = self.kernel.accepted_at
        leader_id = self.leader_id if self.leader_id != source else None
        is_willing = self._problem is None
        self._outbox.send(
            source,
            PreVoteAnswer(self.kernel.term, last_term, last_version, leader_id, message.round, is_willing),
        )

    def _on_pre_vote_answer(self, source: str, message: PreVoteAnswer) -> None:
        self._see_term(message.term)
        if self.mode is not Mode.CANDIDATE or message.leader_id == self.me.id:
            return
        if message.leader_id is not None:
            self._ask_to_join(message.leader_id)
        elif message.is_willing and message.round == self._round and self._pre_votes is not None:
            if (message.last_term, message.last_version) <= self.kernel.accepted_at:
                self._count_pre_vote(source)

    def _ask_to_join(self, leader_id: str) -> None:
        """Somebody knows a master: join it, do not disturb it."""
        if self._problem is not None:
            return
        coordination = self.kernel.accepted.coordination
        vote = None
        if self._vote is not None and self._vote[0] == leader_id and self._vote[1].term == self.kernel.term:
            vote = self._vote[1]
        uuid = coordination.cluster_uuid if coordination.is_cluster_uuid_committed else ""
        self._outbox.send(leader_id, JoinRequest(self.kernel.term, self.me, uuid, vote))

    def _count_pre_vote(self, source: str) -> None:
        assert self._pre_votes is not None
        self._pre_votes.add(source)
        if self.me.is_master_eligible and self._problem is None and self.kernel.is_election_quorum(self._pre_votes):
            self._pre_votes = None
            self._start_election()

    def _start_election(self) -> None:
        coordination = self.kernel.accepted.coordination
        if self.me.id not in coordination.accepted_config and self.me.id not in coordination.committed_config:
            if self._leadership is not None:
                self._become_candidate("not in the voting configuration")
            return
        term = max(self.kernel.term, self._max_term) + 1
        for node_id in self._connected:
            self._outbox.send(node_id, StartJoin(term))
        vote = self._ensure_term_at_least(self.me.id, term)
        assert vote is not None
        self._on_join(self.me.id, vote, self.me)

    def _abdicate(self, leadership: Leadership, heir: str | None) -> None:
        """Have everybody vote for another node in a new term; without one just stop being master."""
        self._step_down = None
        chosen = heir if heir is not None and heir in self._connected else leadership.heir()
        if chosen is None or chosen not in self._connected:
            self._become_candidate("stepped down, and no other node can take over")
            return
        term = max(self.kernel.term, self._max_term) + 1
        self._outbox.add(Report(f"steps down in favour of node {chosen} in term {term}"))
        for node_id in self._connected:
            self._outbox.send(node_id, StartJoin(term, chosen))
        vote = self._ensure_term_at_least(chosen, term)
        assert vote is not None
        self._outbox.send(chosen, Join(vote, self.me))
        self._leave_it_to_the_heir()

    def _leave_it_to_the_heir(self) -> None:
        """Who has voted for an heir gives it the time of an election to win before it tries itself."""
        self._attempt = max(self._attempt, 1)
        self._schedule_election()

    def _on_start_join(self, source: str, message: StartJoin) -> None:
        candidate = message.heir or source
        vote = self._ensure_term_at_least(candidate, message.term)
        if vote is None:
            self._on_rival(candidate, message.term)
            return
        if candidate == self.me.id:
            self._on_join(self.me.id, vote, self.me)
        else:
            self._outbox.send(candidate, Join(vote, self.me))
            if message.heir is not None:
                self._leave_it_to_the_heir()

    def _on_rival(self, candidate: str, term: int) -> None:
        """Two candidates of one term have voted for themselves: it may have no winner, so the next attempt need not wait
        for the end of this one."""
        is_rival = self.mode is Mode.CANDIDATE and term == self.kernel.term and candidate != self.me.id
        if not is_rival or self._vote is None or self._vote[0] != self.me.id or self._split_term == term:
            return
        self._split_term = term
        settings = self._settings
        # A winner there is all the same is heard of within a round trip or two.
        longest = settings.election_initial_timeout_s + self._attempt * settings.election_back_off_s
        delay_s = settings.election_initial_timeout_s / 2 + self._random() * min(longest, settings.election_duration_s)
        self._outbox.set_timer("election", delay_s)

    def _on_health(self, problem: str | None) -> None:
        if problem == self._problem:
            return
        self._problem = problem
        self._outbox.add(Report("well again" if problem is None else f"takes no part in elections: {problem}"))
        if problem is not None and self._leadership is not None:
            self._step_down = StepDown()

    def _on_join(self, source: str, vote: Vote, node: NodeInfo) -> None:
        self._see_term(vote.term)
        if self._leadership is not None:
            if vote.term == self.kernel.term:
                self._leadership.enqueue(NodeJoin(node))
                self.kernel.join(source, vote)
            return
        has_won = self.kernel.join(source, vote)
        self._voters[source] = node
        if has_won:
            self._become_leader()

    def _on_join_request(self, source: str, message: JoinRequest) -> None:
        self._see_term(message.term)
        if self._leadership is None:
            return
        coordination = self.kernel.accepted.coordination
        if message.cluster_uuid and message.cluster_uuid != coordination.cluster_uuid:
            reason = f"its data is of cluster {message.cluster_uuid}, this one is {coordination.cluster_uuid}"
            self._leadership.refuse_join(message.node, reason)
            return
        self._leadership.enqueue(NodeJoin(message.node))
        if message.vote is not None:
            self.kernel.join(source, message.vote)

    # --- publications of the master ----------------------------------------------------------------------------------

    def _on_publish(self, source: str, state: ClusterState) -> None:
        term, version = state.coordination.term, state.version
        self._ensure_term_at_least(source, term)
        try:
            self.kernel.publish_request(state)
        except Rejected:
            self._outbox.send(source, PublishRejected(term, version, self.kernel.term))
            return
        self._outbox.add(Persist(self.kernel.term, state))
        self._become_follower(source)
        join = None
        if self._vote is not None and self._vote[0] == source and self._vote[1].term == term:
            join = Join(self._vote[1], self.me)
        self._outbox.send(source, Published(term, version, join))

    def _count_late_vote(self, answer: Published, source: str) -> None:
        """A vote that came with an acceptance; one that is missing went elsewhere, and needs another election to come."""
        if answer.join is not None and answer.join.vote.term == self.kernel.term:
            if self._leadership is not None and self.kernel.accepted.nodes.get(source) != answer.join.node:
                # It has started anew since it was a member: its shards are not open any more.
                self._leadership.enqueue(NodeJoin(answer.join.node))
            try:
                self.kernel.join(source, answer.join.vote)
            except Rejected:
                return
        elif source not in self.kernel.join_votes:
            node = self.kernel.accepted.nodes.get(source)
            if node is not None and node.is_master_eligible:
                self._max_term = max(self._max_term, self.kernel.term + 1)

    def _on_commit(self, source: str, term: int, version: int) -> None:
        if self.kernel.commit(term=term, version=version):
            self._outbox.add(Persist(self.kernel.term, self.kernel.accepted))
        self._outbox.add(Apply(self.kernel.accepted))
        self._outbox.send(source, Applied(term, version))

    # --- checks ------------------------------------------------------------------------------------------------------

    def _check_leader(self) -> None:
        if self.mode is Mode.FOLLOWER:
            assert self.leader_id is not None
            self._outbox.send(self.leader_id, LeaderCheck(self.kernel.term))
            self._outbox.set_timer("leader_timeout", self._settings.leader_check_timeout_s)

    def _on_leader_answer(self, source: str, is_ok: bool) -> None:
        if self.mode is not Mode.FOLLOWER or source != self.leader_id or not self._outbox.is_pending("leader_timeout"):
            return
        self._outbox.cancel_timer("leader_timeout")
        if is_ok:
            self._check_failures = 0
            self._outbox.set_timer("leader_check", self._settings.leader_check_interval_s)
        else:
            self._become_candidate("the master does not know this node as a member")

    def _on_leader_check_failed(self) -> None:
        self._check_failures += 1
        if self._check_failures >= self._settings.leader_check_retries:
            self._lost_leader = self.leader_id
            self._become_candidate("the master does not answer")
        else:
            self._check_leader()

    def _on_follower_check(self, source: str, term: int) -> None:
        self._ensure_term_at_least(source, term)
        is_ok = term == self.kernel.term and self._problem is None
        if is_ok and self.mode is not Mode.FOLLOWER:
            # In this term only one node can be master, and it says it is; but a node that has accepted a state of this
            # term and is candidate again has left, and must join.
            if self.mode is Mode.CANDIDATE and self.kernel.accepted_at[0] < self.kernel.term:
                self._become_follower(source)
            else:
                is_ok = False
        self._outbox.send(source, FollowerCheckAnswer(self.kernel.term, is_ok))
