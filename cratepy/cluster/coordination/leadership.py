"""What only a master does: compute states, publish them in two phases, check its followers.

Made when a node wins an election, thrown away when it stops being master. One publication is in flight at a time; what
comes meanwhile waits and becomes one state together::

    queue ──► next state ──► Publish to all ──► quorum accepted ──► Commit to all ──► all applied, or grace over ──► answer
                 ▲                                   │ no quorum possible, or time over: has_failed                  │
                 └───────────────────────────────────┴───────────────────────────────────────────────────────────────┘

A publication of nothing but started shards waits some milliseconds for word of the others of their tables, so that the
shards of a new table, which start on several nodes at about the same time, are one publication.

A command is answered when the nodes that can be reached have applied its state, so that whoever asks any node next finds
it there. A node that does not apply in time is waited for by no later publication, and removed after the lag time-out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import field
from typing import TypeAlias, assert_never

import msgspec

from cratepy import limits
from cratepy.cluster.allocation import change_nodes
from cratepy.cluster.commands import apply
from cratepy.cluster.coordination.gathering import is_worth_gathering
from cratepy.cluster.coordination.kernel import CoordinationState, Rejected, reconfigured
from cratepy.cluster.coordination.messages import (
    Answered,
    Apply,
    Commit,
    FollowerCheck,
    FollowerCheckAnswer,
    JoinRefused,
    OutcomeLost,
    Persist,
    Publish,
    Published,
    PublishRejected,
    Refused,
    Report,
)
from cratepy.cluster.coordination.outbox import Outbox
from cratepy.cluster.coordination.settings import CoordinationSettings
from cratepy.errors import CrateError, TooManyRequests
from cratepy.model.commands import Command
from cratepy.model.state import ClusterState, NodeInfo
from cratepy.records import dataclass

replace = msgspec.structs.replace


@dataclass(frozen=True, slots=True)
class BecomeLeader:
    """The first state of a term: proves the majority, whatever it contains."""

    #: Nodes of the old state that have not voted but are there.
    reachable: frozenset[str]
    voters: tuple[NodeInfo, ...]


@dataclass(frozen=True, slots=True)
class NodeJoin:
    node: NodeInfo


@dataclass(frozen=True, slots=True)
class NodeLeave:
    node_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class CommandTask:
    ticket: int
    command: Command


Task: TypeAlias = BecomeLeader | NodeJoin | NodeLeave | CommandTask


@dataclass(slots=True)
class Publication:
    """One state on its way to all nodes."""

    state: ClusterState
    answers: list[tuple[int, CrateError | None]]
    accepted: set[str] = field(default_factory=set)
    applied: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    is_committed: bool = False

    @property
    def at(self) -> tuple[int, int]:
        return self.state.coordination.term, self.state.version


class Leadership:
    """One term as master."""

    def __init__(
        self,
        *,
        me: NodeInfo,
        kernel: CoordinationState,
        outbox: Outbox,
        settings: CoordinationSettings,
        new_id: Callable[[], str],
        count_vote: Callable[[Published, str], None],
    ) -> None:
        self._me = me
        self._kernel = kernel
        self._outbox = outbox
        self._settings = settings
        self._new_id = new_id
        self._count_vote = count_vote
        self._queue: deque[Task] = deque()
        self._may_reconfigure = False
        #: How many tasks wait for more to come, and whether they have waited long enough.
        self._gathering = 0
        self._has_gathered = False
        self._failures: dict[str, int] = {}
        self._applied: dict[str, int] = {}
        self._lagging: dict[str, int] = {}
        self._committed: tuple[int, int] | None = None
        self.publication: Publication | None = None
        #: Set when this node cannot be master any longer; the coordinator then steps down.
        self.has_failed = False

    # --- the queue ---------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        return len(self._queue)

    def enqueue(self, task: Task) -> None:
        """Take a task into the next state."""
        self._queue.append(task)

    def submit(self, ticket: int, command: Command) -> None:
        """Queue a command, unless too many wait."""
        if len(self._queue) >= limits.MASTER_QUEUE_MAX:
            error = TooManyRequests(f"the master has {len(self._queue)} cluster state changes waiting")
            self._outbox.add(Answered(ticket, self._kernel.accepted.version, error))
            return
        self._queue.append(CommandTask(ticket, command))

    def pump(self) -> bool:
        """Begin the next publication if there is one to make and none in flight; whether it did."""
        if self.publication is not None or not (self._queue or self._may_reconfigure):
            return False
        if self._must_gather():
            return False
        self._outbox.cancel_timer("gather")
        self._has_gathered = False
        self._may_reconfigure = False
        tasks = [self._queue.popleft() for _ in range(min(len(self._queue), limits.MASTER_BATCH_MAX))]
        base = self._kernel.accepted
        state, answers, is_forced = self._next_state(base, tasks)
        if state is base and not is_forced:
            for ticket, error in answers:
                self._outbox.add(Answered(ticket, base.version, error))
            return bool(self._queue)
        self._publish(base, state, answers)
        return True

    def _must_gather(self) -> bool:
        if self._has_gathered or not self._queue:
            return False
        is_waiting = self._outbox.is_pending("gather")
        if is_waiting and len(self._queue) == self._gathering:
            return True
        commands = (task.command if isinstance(task, CommandTask) else None for task in self._queue)
        if not is_worth_gathering(commands, self._kernel.accepted.tables):
            return False
        self._gathering = len(self._queue)
        if not is_waiting:
            self._outbox.set_timer("gather", limits.STARTED_SHARDS_GATHER_S)
        return True

    def on_gathered(self) -> None:
        """Started shards have waited for others long enough."""
        self._has_gathered = True

    def _next_state(
        self, base: ClusterState, tasks: Iterable[Task]
    ) -> tuple[ClusterState, list[tuple[int, CrateError | None]], bool]:
        """The state after the tasks (version and term still those of ``base``), answers, and whether to publish anyway."""
        nodes, commands, is_forced, has_restarted = dict(base.nodes), [], False, False
        for task in tasks:
            match task:
                case BecomeLeader(reachable, voters):
                    is_forced = True
                    has_restarted = not any(_is_same_process(node, base.nodes.get(node.id)) for node in voters)
                    nodes = {node_id: node for node_id, node in nodes.items() if node_id in reachable}
                    nodes.update((node.id, node) for node in voters)
                case NodeJoin(node):
                    namesake = next((n for n in nodes.values() if n.name == node.name and n.id != node.id), None)
                    if namesake is not None:
                        self.refuse_join(node, f"its name is that of node {namesake.id} at {namesake.host}")
                        continue
                    nodes[node.id] = node
                    # It is in no one's following yet if it has not applied what all others have.
                    is_forced |= self._applied.get(node.id) != base.version
                case NodeLeave(node_id):
                    nodes.pop(node_id, None)
                case CommandTask():
                    commands.append(task)
                case _:
                    assert_never(task)
        nodes[self._me.id] = self._me
        silent = self._silent()
        state = base if nodes == base.nodes else change_nodes(base, nodes, silent)
        if has_restarted and state.settings_transient:
            state = replace(state, settings_transient={})
        answers: list[tuple[int, CrateError | None]] = []
        for task in commands:
            try:
                state = apply(state, task.command, silent)
                answers.append((task.ticket, None))
            except CrateError as error:
                answers.append((task.ticket, error))
        coordination = base.coordination
        if coordination.committed_config == coordination.accepted_config:
            config = self._wanted_config(state, coordination.accepted_config)
            if config != coordination.accepted_config:
                state = replace(state, coordination=replace(state.coordination, accepted_config=config))
        return state, answers, is_forced

    def _silent(self) -> frozenset[str]:
        """Followers that have not shown the last state in time or do not answer their checks: they may be gone."""
        return frozenset(self._lagging.keys() | {node_id for node_id, count in self._failures.items() if count})

    def _may_shrink(self, state: ClusterState) -> bool:
        setting = state.setting("cluster.auto_shrink_voting_configuration")
        return self._settings.auto_shrink if setting is None else setting is True

    def _wanted_config(self, state: ClusterState, current: tuple[str, ...]) -> tuple[str, ...]:
        voters = self._kernel.join_votes
        live = [node.id for node in state.nodes.values() if node.is_master_eligible and node.id in voters]
        return reconfigured(
            live=live,
            master_id=self._me.id,
            current=current,
            retired=state.coordination.retired,
            may_shrink=self._may_shrink(state),
        )

    def heir(self) -> str | None:
        """Who should be master next: a voter that has applied the newest state, else the one closest to it."""
        coordination = self._kernel.accepted.coordination
        voters = [n for n in coordination.accepted_config if n in self._failures and n not in coordination.retired]
        return min(voters, key=lambda n: (-self._applied.get(n, 0), n), default=None)

    # --- publication -------------------------------------------------------------------------------------------------

    def _publish(self, base: ClusterState, state: ClusterState, answers: list[tuple[int, CrateError | None]]) -> None:
        coordination = state.coordination
        state = replace(
            state,
            version=base.version + 1,
            master_id=self._me.id,
            coordination=replace(
                coordination,
                term=self._kernel.term,
                cluster_uuid=coordination.cluster_uuid or self._new_id(),
            ),
        )
        try:
            self._kernel.client_value(state)
        except Rejected:
            self._lose(answers)
            self.has_failed = True
            return
        publication = self.publication = Publication(state, answers)
        self._outbox.set_timer("publication", self._settings.publish_timeout_s)
        message = Publish(state, (base.coordination.term, base.version))
        for node_id in state.nodes:
            if node_id != self._me.id:
                self._outbox.send(node_id, message)
                if node_id not in self._failures:
                    self._failures[node_id] = 0
                    self._outbox.set_timer(f"follower_check:{node_id}", self._settings.follower_check_interval_s)
        for node_id in [known for known in self._failures if known not in state.nodes]:
            self._forget(node_id)
        self._kernel.publish_request(state)
        self._outbox.add(Persist(self._kernel.term, state))
        self._on_accepted(self._me.id, publication)

    def _forget(self, node_id: str) -> None:
        del self._failures[node_id]
        self._applied.pop(node_id, None)
        self._lagging.pop(node_id, None)
        for name in ("follower_check", "follower_timeout", "lag"):
            self._outbox.cancel_timer(f"{name}:{node_id}")

    def on_published(self, source: str, answer: Published) -> None:
        """A follower has accepted."""
        publication = self.publication
        if publication is not None and publication.at == (answer.term, answer.version):
            self._count_vote(answer, source)
            self._on_accepted(source, publication)
        elif self._committed == (answer.term, answer.version):
            # Slower than the grace: nobody waits for it, but it must learn that its state is committed.
            self._count_vote(answer, source)
            self._outbox.send(source, Commit(answer.term, answer.version))

    def _on_accepted(self, source: str, publication: Publication) -> None:
        term, version = publication.at
        publication.accepted.add(source)
        if publication.is_committed:
            if source != self._me.id:
                self._outbox.send(source, Commit(term, version))
        elif self._kernel.publish_response(source, term=term, version=version):
            self._commit(publication)
        self._check_progress()

    def _commit(self, publication: Publication) -> None:
        term, version = publication.at
        publication.is_committed = True
        self._committed = publication.at
        # Followers apply while this node does; theirs is the longer way.
        for node_id in sorted(publication.accepted - {self._me.id}):
            self._outbox.send(node_id, Commit(term, version))
        if self._kernel.commit(term=term, version=version):
            self._outbox.add(Persist(self._kernel.term, self._kernel.accepted))
        self._outbox.add(Apply(self._kernel.accepted))
        publication.applied.add(self._me.id)
        self._outbox.cancel_timer("publication")
        self._outbox.set_timer("apply_grace", self._settings.apply_grace_s)

    def on_rejected(self, source: str, answer: PublishRejected) -> None:
        """A node will not accept this publication."""
        publication = self.publication
        if publication is not None and publication.at == (answer.term, answer.version):
            publication.failed.add(source)
            self._check_progress()

    def on_applied(self, source: str, version: int) -> None:
        """A follower shows a state to its clients."""
        self._applied[source] = max(self._applied.get(source, 0), version)
        if version >= self._lagging.get(source, version + 1):
            del self._lagging[source]
            self._outbox.cancel_timer(f"lag:{source}")
        if self.publication is not None and version >= self.publication.state.version:
            self.publication.applied.add(source)
            self._check_progress()

    def _check_progress(self) -> None:
        publication = self.publication
        assert publication is not None
        nodes = publication.state.nodes
        if not publication.is_committed:
            possible = {node_id for node_id in nodes if node_id not in publication.failed}
            if not self._kernel.is_publish_quorum(possible):
                self._fail_publication("too many nodes refused it or are gone")
        elif all(n in publication.applied or n in publication.failed or n in self._lagging for n in nodes):
            self._finish_publication()

    def on_publish_timeout(self) -> None:
        """No quorum in time."""
        if self.publication is not None and not self.publication.is_committed:
            self._fail_publication(f"not accepted by a majority within {self._settings.publish_timeout_s:g} s")

    def on_grace_over(self) -> None:
        """Somebody has not applied the committed state: go on without waiting for it."""
        if self.publication is not None and self.publication.is_committed:
            self._finish_publication()

    def _fail_publication(self, why: str) -> None:
        assert self.publication is not None
        self._outbox.add(Report(f"publication of state {self.publication.state.version} failed: {why}"))
        self._lose(self.publication.answers)
        self.publication = None
        self.has_failed = True

    def _finish_publication(self) -> None:
        publication, self.publication = self.publication, None
        assert publication is not None
        self._outbox.cancel_timer("apply_grace")
        version = publication.state.version
        for node_id in publication.state.nodes:
            is_behind = node_id != self._me.id and self._applied.get(node_id, 0) < version
            if is_behind and node_id in self._failures and node_id not in self._lagging:
                self._lagging[node_id] = version
                self._outbox.set_timer(f"lag:{node_id}", self._settings.lag_timeout_s)
        for ticket, error in publication.answers:
            self._outbox.add(Answered(ticket, version, error))
        self._may_reconfigure = True

    def on_lag_timeout(self, node_id: str) -> None:
        """A node has not applied a state for too long."""
        if self._lagging.pop(node_id, None) is not None:
            self._queue.append(NodeLeave(node_id, "lagging"))

    def _lose(self, answers: Iterable[tuple[int, CrateError | None]]) -> None:
        for ticket, _ in answers:
            self._outbox.add(OutcomeLost(ticket))

    def abandon(self) -> None:
        """This node is master no longer: what is in flight may still take effect, what waits was not tried."""
        if self.publication is not None:
            self._lose(self.publication.answers)
            self.publication = None
        for task in self._queue:
            if isinstance(task, CommandTask):
                self._outbox.add(Refused(task.ticket))
        self._queue.clear()

    # --- followers ---------------------------------------------------------------------------------------------------

    def refuse_join(self, node: NodeInfo, reason: str) -> None:
        """Tell a node why it cannot be a member."""
        self._outbox.send(node.id, JoinRefused(reason))
        self._outbox.add(Report(f"node {node.name} ({node.id}) may not join: {reason}"))

    def on_follower_check_due(self, node_id: str) -> None:
        if node_id in self._failures:
            self._outbox.send(node_id, FollowerCheck(self._kernel.term))
            self._outbox.set_timer(f"follower_timeout:{node_id}", self._settings.follower_check_timeout_s)

    def on_follower_answer(self, source: str, answer: FollowerCheckAnswer) -> None:
        if source not in self._failures or not self._outbox.is_pending(f"follower_timeout:{source}"):
            return
        self._outbox.cancel_timer(f"follower_timeout:{source}")
        if answer.is_ok:
            self._failures[source] = 0
            self._outbox.set_timer(f"follower_check:{source}", self._settings.follower_check_interval_s)
        else:
            self._on_check_failed(source, retry_after_s=self._settings.follower_check_interval_s)

    def on_follower_timeout(self, node_id: str) -> None:
        if node_id in self._failures:
            self._on_check_failed(node_id, retry_after_s=0.0)

    def _on_check_failed(self, node_id: str, *, retry_after_s: float) -> None:
        self._failures[node_id] += 1
        if self._failures[node_id] < self._settings.follower_check_retries:
            self._outbox.set_timer(f"follower_check:{node_id}", retry_after_s)
            return
        self._failures[node_id] = 0
        self._outbox.set_timer(f"follower_check:{node_id}", self._settings.follower_check_interval_s)
        self.remove(node_id, "followers check retry count exceeded")

    def remove(self, node_id: str, reason: str) -> None:
        """The node is gone: take it out of the cluster, and wait for it no more."""
        members: Collection[str] = self._kernel.accepted.nodes
        if node_id == self._me.id or (node_id not in members and node_id not in self._failures):
            return
        self._queue.append(NodeLeave(node_id, reason))
        if self.publication is not None and node_id not in self.publication.applied:
            self.publication.failed.add(node_id)
            self._check_progress()


def _is_same_process(node: NodeInfo, known: NodeInfo | None) -> bool:
    """Whether a voter has run since it was a member: if none has, the whole cluster was restarted, and transient settings are gone."""
    return known is not None and known.ephemeral_id == node.ephemeral_id
