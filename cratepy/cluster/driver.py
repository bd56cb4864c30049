"""The driver: hosts the coordination core on trio. It persists, then sends, then applies, and decides nothing.

Whoever brings an event feeds the core: messages from the transport, broken connections, timers, submitted commands. Its
effects are performed in order; a :class:`Persist` runs on a thread of its own (:mod:`cratepy.cluster.saving`) and is waited
for before anything after it, also before the next event. A failed write of the state ends the node (its outcome is unknown, and a
restart finds out); a full disk is waited for.

States travel as differences to the state before them; a node that has another one asks for the whole.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, assert_never

import msgspec
import trio

from cratepy import limits
from cratepy.cluster.coordination.coordinator import Coordinator
from cratepy.cluster.coordination.messages import (
    Answered,
    Apply,
    Commit,
    Connected,
    Disconnected,
    Effect,
    Event,
    FollowerCheck,
    Join,
    JoinRequest,
    LeaderCheck,
    Leave,
    Message,
    ModeChanged,
    OutcomeLost,
    Persist,
    Publish,
    Received,
    Refused,
    Report,
    Send,
    SetTimer,
    TimerFired,
)
from cratepy.cluster.diff import BaseMismatch, StateDiff, diff, patch
from cratepy.cluster.saving import Done
from cratepy.cluster.state_log import StateLogFull
from cratepy.cluster.transport import Transport
from cratepy.model.state import ClusterState, NodeInfo, TableState
from cratepy.records import dataclass

logger = logging.getLogger(__name__)
ACTION: Final = "cluster/coordination"
LEAVE_ACTION: Final = "cluster/leave"


class PublishDiff(msgspec.Struct, frozen=True, tag_field="$", tag="publish_diff"):
    """A :class:`Publish` for a node that has the state before."""

    diff: StateDiff


class SendWhole(msgspec.Struct, frozen=True, tag_field="$", tag="send_whole"):
    """The difference fits no state here: send the whole."""

    term: int
    version: int


class Goodbye(msgspec.Struct, frozen=True):
    """The node stops."""


Packet = Message | PublishDiff | SendWhole


@dataclass(frozen=True, slots=True)
class Arrived:
    """A packet as it came; it becomes an event when its turn comes, because only then the state before it is known."""

    source: str
    packet: Packet


class Saver(Protocol):
    """:class:`cratepy.cluster.saving.StateSaver`."""

    @property
    def state(self) -> ClusterState: ...
    def save(self, term: int, state: ClusterState, change: StateDiff | None, done: Done) -> None: ...
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None: ...


class Driver:
    """Runs one :class:`Coordinator`. Callbacks are called on the trio thread, in the order of the effects."""

    def __init__(
        self,
        *,
        core: Coordinator,
        saver: Saver,
        transport: Transport,
        on_apply: Callable[[ClusterState], None],
        on_mode: Callable[[ModeChanged], None],
        on_answer: Callable[[Answered | Refused | OutcomeLost], None],
        on_new_tables: Callable[[Iterable[TableState], int], None],
        learn: Callable[[NodeInfo], None],
    ) -> None:
        self._core = core
        self._saver = saver
        self._transport = transport
        self._on_apply = on_apply
        self._on_mode = on_mode
        self._on_answer = on_answer
        self._on_new_tables = on_new_tables
        self._learn = learn
        self._events: deque[Event | Arrived] = deque()
        #: What the core wants done, in order; empty unless a write is waited for.
        self._effects: deque[Effect] = deque()
        self._is_stopped = True
        self._is_advancing = False
        self._is_saving = False
        self._failure: Exception | None = None
        #: When ``run`` looks by itself.
        self._alarm = trio.CancelScope()
        #: What a full disk had no space for, and when it is tried again.
        self._refused: tuple[int, ClusterState] | None = None
        self._retry_at = 0.0
        self._is_told_full = False
        #: The state that was made or heard of last, until it is saved, and the difference it came from.
        self._change: tuple[ClusterState, StateDiff] | None = None
        self._timers: list[tuple[float, int, str]] = []
        #: Packets of nodes this one has no connection to yet: it could not answer, so they wait until it can.
        self._held: dict[str, list[Arrived]] = {}
        # One publication goes to many nodes: it is computed once.
        self._packed: tuple[Publish, PublishDiff] | None = None
        packet_type: Any = Packet
        transport.register(ACTION, packet_type, self._on_packet)
        transport.register(LEAVE_ACTION, Goodbye, self._on_goodbye)
        transport.on_connect(self._on_connect)
        transport.on_disconnect(self._on_disconnect)

    # --- events ------------------------------------------------------------------------------------------------------

    def post(self, event: Event | Arrived) -> None:
        """Queue an event. Messages are dropped when the queue is full, as a network would."""
        if len(self._events) >= limits.COORDINATION_QUEUE_MAX and isinstance(event, Arrived):
            return
        self._events.append(event)
        self._advance()

    def _on_packet(self, source: str, packet: Packet) -> None:
        arrived = Arrived(source, packet)
        if isinstance(packet, Join | JoinRequest):
            if self._is_living_twin(packet.node):
                logger.warning(
                    "node %s (%s) at %s:%d may not join: a node with its id is alive, so its data directory is a copy",
                    packet.node.name,
                    packet.node.id,
                    packet.node.host,
                    packet.node.transport_port,
                )
                return
            self._learn(packet.node)
        elif isinstance(packet, Publish) and source in packet.state.nodes:
            self._learn(packet.state.nodes[source])
        if self._transport.connected(source):
            self.post(arrived)
            return
        held = self._held.setdefault(source, [])
        if len(held) < limits.COORDINATION_HELD_MAX:
            held.append(arrived)
        self._transport.retry_now()

    def _is_living_twin(self, node: NodeInfo) -> bool:
        known = self._core.kernel.accepted.nodes.get(node.id)
        return (
            known is not None
            and known.ephemeral_id != node.ephemeral_id
            and self._transport.peer_ephemeral_id(node.id) == known.ephemeral_id
        )

    def _on_connect(self, node_id: str) -> None:
        self.post(Connected(node_id))
        for held in self._held.pop(node_id, ()):
            self.post(held)

    def _on_disconnect(self, node_id: str) -> None:
        self._held.pop(node_id, None)
        self.post(Disconnected(node_id))

    def _on_goodbye(self, source: str, _: Goodbye) -> None:
        self.post(Received(source, Leave()))

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Feed the core until cancelled. Raises OSError if the state could not be written."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._saver.run)
            self._effects.extend(self._core.start())
            self._is_stopped = False
            try:
                while self._failure is None:
                    with trio.CancelScope(deadline=self._wake_at) as self._alarm:
                        await trio.sleep_forever()
                    if self._refused is not None and trio.current_time() >= self._retry_at:
                        self._save(*self._refused)
                    self._advance()
            finally:
                self._is_stopped = True
            nursery.cancel_scope.cancel()
        assert self._failure is not None
        raise self._failure

    def _advance(self) -> None:
        """Feed the core what there is, until there is nothing more or a write must be waited for.

        Called by whoever brings an event, so that nothing waits for a task to have its turn; what is posted meanwhile is fed, too.
        """
        if self._is_stopped or self._is_advancing or self._is_saving:
            return
        self._is_advancing = True
        try:
            while not self._is_saving:
                if self._effects:
                    self._perform(self._effects.popleft())
                    continue
                event = self._next_event()
                if event is None:
                    break
                self._effects.extend(self._core.step(event, trio.current_time()))
        except Exception as error:  # whoever brought the event has no part in it: it is ``run``'s
            self._fail(error)
        finally:
            self._is_advancing = False
            self._set_alarm()

    def _fail(self, error: Exception) -> None:
        self._is_stopped = True
        self._failure = error
        self._set_alarm()

    @property
    def _wake_at(self) -> float:
        """When ``run`` has to do something by itself."""
        if self._failure is not None or (self._effects and not self._is_saving):
            return -math.inf
        if self._is_saving:
            return math.inf if self._refused is None else self._retry_at
        return self._timers[0][0] if self._timers else math.inf

    def _set_alarm(self) -> None:
        if self._alarm.deadline != (wake_at := self._wake_at):
            self._alarm.deadline = wake_at

    def _next_event(self) -> Event | None:
        while True:
            if self._timers and self._timers[0][0] <= trio.current_time():
                _, generation, name = heapq.heappop(self._timers)
                return TimerFired(name, generation)
            if not self._events:
                return None
            event = self._events.popleft()
            if not isinstance(event, Arrived):
                return event
            received = self._unpack(event)
            if received is not None:
                return received

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Persist(term, state):
                self._save(term, state)
            case Send(target, message):
                self._send(target, message)
            case SetTimer(name, delay_s, generation):
                heapq.heappush(self._timers, (trio.current_time() + delay_s, generation, name))
            case Apply(state):
                self._on_apply(state)
            case ModeChanged():
                self._on_mode(effect)
            case Answered() | Refused() | OutcomeLost():
                self._on_answer(effect)
            case Report(text):
                logger.info("%s", text)
            case _:
                assert_never(effect)

    # --- writing -----------------------------------------------------------------------------------------------------

    def _save(self, term: int, state: ClusterState) -> None:
        """Begin to make it durable; until it is nothing else is done."""
        self._is_saving, self._refused = True, None
        known, self._change = self._change, None
        change = known[1] if known is not None and known[0] is state else None
        self._saver.save(term, state, change, lambda failure: self._on_saved(term, state, failure))
        if change is not None and change.new_tables:
            self._on_new_tables(change.new_tables.values(), state.version)

    def _on_saved(self, term: int, state: ClusterState, failure: Exception | None) -> None:
        """On a full disk it is tried again until there is space; to the others this node is silent."""
        if isinstance(failure, StateLogFull):
            if not self._is_told_full:
                self._is_told_full = True
                logger.error(
                    "the disk is full, and so is the space that was reserved for the cluster state (%s): this node takes no "
                    "part in changes of tables, settings and nodes until there is space",
                    failure,
                )
            self._refused, self._retry_at = (term, state), trio.current_time() + limits.STATE_LOG_RETRY_S
            self._set_alarm()
            return
        if failure is not None:
            if isinstance(failure, OSError):
                logger.critical(
                    "the cluster state could not be made durable, and nobody knows how much of it the disk has (%s): this node stops. "
                    "Started again, with a disk that is well, it reads what is there and goes on",
                    failure,
                )
            self._fail(failure)
            return
        if self._is_told_full:
            self._is_told_full = False
            logger.info("there is space for the cluster state again")
        self._is_saving = False
        self._advance()

    # --- messages ----------------------------------------------------------------------------------------------------

    def _send(self, target: str, message: Message) -> None:
        packet: Packet = message
        if isinstance(message, Publish) and target in self._saver.state.nodes:
            packet = self._pack(message)
        is_sent = self._transport.notify(target, ACTION, packet)
        if not is_sent and isinstance(message, Publish | Commit | FollowerCheck | LeaderCheck):
            self.post(Disconnected(target))

    def _pack(self, message: Publish) -> Packet:
        """The difference to the state saved last, which is the one before as long as the new one is not saved."""
        before = self._saver.state
        if (before.coordination.term, before.version) != message.base:
            return message
        if self._packed is None or self._packed[0] is not message:
            change = diff(before, message.state)
            self._packed, self._change = (message, PublishDiff(change)), (message.state, change)
        return self._packed[1]

    def _unpack(self, arrived: Arrived) -> Received | None:
        match arrived.packet:
            case PublishDiff(change):
                try:
                    state = patch(self._core.kernel.accepted, change)
                except BaseMismatch:
                    wanted = SendWhole(change.coordination.term, change.version)
                    self._transport.notify(arrived.source, ACTION, wanted)
                    return None
                self._change = (state, change)
                return Received(arrived.source, Publish(state, change.base))
            case SendWhole(term, version):
                accepted = self._core.kernel.accepted
                if (term, version) == self._core.kernel.accepted_at:
                    self._transport.notify(arrived.source, ACTION, Publish(accepted, (0, 0)))
                return None
            case message:
                return Received(arrived.source, message)
