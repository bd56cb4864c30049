"""What a PostgreSQL connection answers without its task: reads by key, and changes of single rows, whose reply comes with the disk's.

In: bytes that came while the connection's task waits for some (:meth:`AtOnce.take`), and Binds that the task handles. Out: replies; what
cannot be answered so is left for the task, in its order. Its own room because waking a task for every small statement, and again
when the disk has its row, took half of the event loop's time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import trio

from cratepy import limits
from cratepy.protocols.postgres.decoder import FrontendDecoder
from cratepy.protocols.postgres.messages import Bind, FrontendMessage
from cratepy.server.portals import Portal, PreparedStatement
from cratepy.server.postgres_reads import answer_key_read
from cratepy.server.postgres_writes import begin_write
from cratepy.server.session import BULK_PLANS, Session
from cratepy.server.sockets import ClientGone, ClientSocket


class AtOnce:
    """``statements`` and ``portals`` are the connection's; ``is_free`` says whether nothing of it is under way."""

    def __init__(
        self,
        client: ClientSocket,
        decoder: FrontendDecoder,
        session: Session,
        *,
        statements: Mapping[str, PreparedStatement],
        portals: Mapping[str, Portal],
        is_free: Callable[[], bool],
    ) -> None:
        #: The reply to a change is due when the disk has its row; until then no other message may be handled.
        self.awaits_disk = False
        self._client = client
        self._decoder = decoder
        self._session = session
        self._statements = statements
        self._portals = portals
        self._is_free = is_free
        #: A message that is to be handled next, and the error that its handling, or taking it from the decoder, began with.
        self._taken: FrontendMessage | None = None
        self._raised: Exception | None = None
        self._was_told: trio.Event | None = None
        client.take = self.take

    def next_message(self) -> FrontendMessage | None:
        """The message to handle next, or None if more bytes are needed. Raises ProtocolViolation."""
        if self._taken is None:
            if self._raised is not None:
                raise self._raised
            return self._decoder.next_message()
        message, self._taken = self._taken, None
        return message

    def raise_failure(self) -> None:
        """Raise what the handling of the message that :meth:`next_message` gave has raised already."""
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

    def take(self) -> bool:
        """Bytes came while the task waits: answer what can be. False: the rest is the task's."""
        if self.awaits_disk or not self._is_free():
            return False
        client, decoder = self._client, self._decoder
        is_done = False
        try:
            data = client.receive_now()
            if data is None:
                return True
            decoder.feed(data)
            for _ in range(limits.CONNECTION_TURN_MAX):
                self._taken = message = decoder.next_message()
                if message is None:
                    is_done = not client.may_have_more
                    break
                if type(message) is not Bind or self.awaits_disk or not self.answer(message):
                    break
                self._taken = None
            if client.pending_bytes and not self.awaits_disk:
                is_done = client.send_now() and is_done
        except ClientGone:
            return False  # the task finds it so, too
        except Exception as raised:  # raised again where the task handles the message
            self._raised = raised
            return False
        return is_done

    def answer(self, bind: Bind) -> bool:
        """The whole statement that begins with this Bind, if nothing of it has to wait but its reply. Raises CrateError.

        The reply is written, not sent, or sent later if now :attr:`awaits_disk`.
        """
        statement = self._statements.get(bind.statement)
        if statement is None or bind.portal or self._portals:
            return False
        compiled = statement.current(self._session)
        if compiled is None:
            return False
        if type(compiled.plan) not in BULK_PLANS:
            return answer_key_read(bind, statement, compiled, self._session, self._decoder, self._client)
        self.awaits_disk = True
        is_begun = False
        try:
            is_begun = begin_write(bind, statement, compiled, self._session, self._decoder, self._client, self._tell)
        finally:
            if not is_begun:
                self.awaits_disk = False
        return is_begun

    async def wait_for_disk(self) -> None:
        """Until the reply that is due was written."""
        if self.awaits_disk:
            self._was_told = trio.Event()
            await self._was_told.wait()

    def _tell(self, reply: bytes) -> None:
        self.awaits_disk = False
        self._client.write(reply)
        if self._was_told is not None:
            self._was_told.set()
            self._was_told = None
        try:
            if not self._client.send_now():
                self._client.wake()
        except ClientGone:
            pass  # its hang-up ends the connection
