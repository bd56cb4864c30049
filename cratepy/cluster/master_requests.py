"""What any node asks of the master, and what it answers when it is the master: changes of the state, and to step down.

In: commands and heirs. Out: the version that contains the command, or the new master's id; in bounded time what is known:
refused, done, or unknown. Its own room because the asking goes on over several masters, while the service only shows one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
import trio

from cratepy import limits
from cratepy.cluster.commands import is_repeatable
from cratepy.cluster.coordination.messages import Answered, Event, OutcomeLost, Refused, StepDown, Submitted
from cratepy.cluster.transport import Transport
from cratepy.errors import (
    NO_MASTER,
    Condition,
    CrateError,
    NoMaster,
    OutcomeUnknown,
    PeerUnavailable,
    PublicationTimeout,
)
from cratepy.model.commands import Command
from cratepy.model.state import ClusterState

SUBMIT_ACTION = "cluster/submit"
STEP_DOWN_ACTION = "cluster/step_down"
#: Between two attempts to reach a master that refused or could not be reached.
_RETRY_S = 0.02
#: How long a master that was replaced while it was asked may take to answer.
_REPLACED_PATIENCE_S = 0.1


class SubmitRequest(msgspec.Struct, frozen=True):
    command: Command


class SubmitReply(msgspec.Struct, frozen=True):
    """``version`` of the state that contains the command; None if the node asked is not master, and nothing was done."""

    version: int | None = None
    is_lost: bool = False


class StepDownRequest(msgspec.Struct, frozen=True):
    """Hand over to the node with this id; None: to the best there is."""

    heir: str | None = None


class KnownMaster:
    """Which node is master as far as this one knows, and who waits for another."""

    def __init__(self) -> None:
        self.id: str | None = None
        self._changed = trio.Event()

    def set(self, node_id: str | None) -> None:
        self.id = node_id
        self._changed.set()
        self._changed = trio.Event()

    async def changed(self) -> None:
        await self._changed.wait()

    async def is_none_of(self, *ids: str | None) -> None:
        """Return when it is another one than these."""
        while self.id in ids:
            await self._changed.wait()

    async def required(self) -> None:
        """Return while there is a master; else wait for one for a moment. Raises NoMaster: changes must be refused."""
        if self.id is not None:
            return
        with trio.move_on_after(limits.NO_MASTER_PATIENCE_S):
            await self.is_none_of(None)
        if self.id is None:
            raise NoMaster(NO_MASTER)


class WaitForState(Protocol):
    """:meth:`cratepy.cluster.service.ClusterService.wait_for`."""

    async def __call__(self, predicate: Callable[[ClusterState], bool], *, timeout_s: float) -> ClusterState: ...


class _Ticket:
    """A command this node, as master, is working on."""

    def __init__(self) -> None:
        self.is_done = trio.Event()
        self.answer: Answered | Refused | OutcomeLost | None = None


class MasterRequests:
    """One per node. ``post`` gives an event to this node's coordination core; ``is_leader`` says what it thinks it is."""

    def __init__(
        self,
        *,
        transport: Transport,
        node_id: str,
        master: KnownMaster,
        wait_for: WaitForState,
        post: Callable[[Event], None],
        is_leader: Callable[[], bool],
    ) -> None:
        self._transport = transport
        self._node_id = node_id
        self._master = master
        self._wait_for = wait_for
        self._post = post
        self._is_leader = is_leader
        self._tickets: dict[int, _Ticket] = {}
        self._last_ticket = 0
        transport.register(SUBMIT_ACTION, SubmitRequest, self._on_submit)
        transport.register(STEP_DOWN_ACTION, StepDownRequest, self._on_step_down)

    # --- changes of the state ----------------------------------------------------------------------------------------

    async def submit(self, command: Command, scope: trio.CancelScope) -> int:
        """The version of the state that contains the command. ``scope`` is the one with its deadline.

        Raises the CrateError the command is refused with, NoMaster and OutcomeUnknown.
        """
        without_master_since: float | None = None
        while True:
            leader_id = self._master.id
            try:
                if leader_id is not None:
                    reply = await self._ask_while_leading(
                        leader_id, command, max(scope.deadline - trio.current_time(), 0.001)
                    )
                    if reply.version is not None:
                        return reply.version
                    if reply.is_lost and not is_repeatable(command):
                        raise OutcomeUnknown(
                            f"the master stepped down while it processed {type(command).__name__}; "
                            "it may or may not have been done"
                        )
                    if reply.is_lost:
                        without_master_since = None
            except PeerUnavailable as error:
                if error.sent and not is_repeatable(command):
                    raise OutcomeUnknown(
                        f"the connection to the master broke while it processed {type(command).__name__}; "
                        "it may or may not have been done"
                    ) from error
            now = trio.current_time()
            if without_master_since is None:
                without_master_since = now
            remaining_s = without_master_since + limits.NO_MASTER_PATIENCE_S - now
            if remaining_s <= 0:
                raise NoMaster(NO_MASTER)
            with trio.move_on_after(min(remaining_s, _RETRY_S if self._master.id is not None else remaining_s)):
                await self._master.changed()

    async def _ask_while_leading(self, leader_id: str, command: Command, timeout_s: float) -> SubmitReply:
        """The master's answer, or that it is lost: a master that is replaced while it is asked may never answer."""
        reply, failure = SubmitReply(is_lost=True), None
        async with trio.open_nursery() as nursery:

            async def give_up_when_replaced() -> None:
                await self._master.is_none_of(None, leader_id)
                # It may know the outcome all the same, if it can be reached.
                await trio.sleep(_REPLACED_PATIENCE_S)
                nursery.cancel_scope.cancel()

            nursery.start_soon(give_up_when_replaced)
            try:
                reply = await self._ask(leader_id, command, timeout_s)
            except (CrateError, Condition) as error:
                failure = error  # raised outside of the nursery, which would wrap it
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return reply

    async def _ask(self, leader_id: str, command: Command, timeout_s: float) -> SubmitReply:
        if leader_id == self._node_id:
            return await self._on_submit(self._node_id, SubmitRequest(command))
        reply: SubmitReply = await self._transport.request(
            leader_id, SUBMIT_ACTION, SubmitRequest(command), reply_type=SubmitReply, timeout_s=timeout_s
        )
        return reply

    async def _on_submit(self, _: str, request: SubmitRequest) -> SubmitReply:
        """As master: the outcome of a command. Raises the CrateError it is refused with."""
        if not self._is_leader():
            return SubmitReply()
        self._last_ticket += 1
        number, ticket = self._last_ticket, _Ticket()
        self._tickets[number] = ticket
        try:
            self._post(Submitted(number, request.command))
            await ticket.is_done.wait()
        finally:
            self._tickets.pop(number, None)
        match ticket.answer:
            case Answered(version=version, error=None):
                return SubmitReply(version)
            case Answered(error=error):
                assert error is not None
                raise error
            case OutcomeLost():
                return SubmitReply(is_lost=True)
            case _:
                return SubmitReply()

    def on_answer(self, answer: Answered | Refused | OutcomeLost) -> None:
        """The core's answer to a command that was posted here."""
        ticket = self._tickets.get(answer.ticket)
        if ticket is not None:  # None: nobody waits any longer
            ticket.answer = answer
            ticket.is_done.set()

    # --- stepping down -----------------------------------------------------------------------------------------------

    async def step_down(self, heir: str | None = None) -> str:
        """Have the master hand over, to ``heir`` or to whoever is best; returns the id of the new master.

        An heir that is behind by a state cannot win, and another node does: then that one is asked, and so on. A master
        between two terms does not hear: it is asked again.
        Raises NoMaster, NodeUnavailable (the master could not be asked) and PublicationTimeout (nobody took over in time:
        the old master may have been elected again).
        """
        if self._master.id is None:
            raise NoMaster(NO_MASTER)
        old = self._master.id
        with trio.move_on_after(limits.STEP_DOWN_TIMEOUT_S):
            while True:
                if old != heir and old == self._master.id:
                    await self._ask_to_step_down(old, heir)
                with trio.move_on_after(limits.STEP_DOWN_PATIENCE_S):
                    new = await self._next_master(old, heir)
                    if heir in (None, new):
                        return new
                    old = new
        who = "no other node" if heir is None else f"node {heir}"
        raise PublicationTimeout(f"{who} has not become master within {limits.STEP_DOWN_TIMEOUT_S:g} s")

    async def _next_master(self, old: str, heir: str | None) -> str:
        state = await self._wait_for(
            lambda state: state.master_id is not None and (state.master_id != old or old == heir),
            timeout_s=float("inf"),
        )
        assert state.master_id is not None
        return state.master_id

    async def _ask_to_step_down(self, master: str, heir: str | None) -> None:
        request = StepDownRequest(heir)
        if master == self._node_id:
            self._on_step_down(master, request)
        else:
            await self._transport.request(master, STEP_DOWN_ACTION, request, timeout_s=limits.STEP_DOWN_TIMEOUT_S)

    def _on_step_down(self, _: str, request: StepDownRequest) -> None:
        self._post(StepDown(request.heir))
