"""The conversation with the controller: connect, speak, listen, connect again; for ever.

Nothing here is needed for the device to work: it serves and carries out executions all the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic

from sprat_proto.link import MessageTooLargeError
from sprat_proto.v1.link_pb2 import Assignment, AuditAck, ControllerMessage, Welcome

from sprat_agent.audit.journal import Journal
from sprat_agent.errors import StateError
from sprat_agent.link import backoff
from sprat_agent.link.carrier import Carrier, Connection, LinkError, LinkLostError
from sprat_agent.sync.dialogue import Dialogue, Voice
from sprat_agent.sync.flows import AuditFlow, ReportFlow
from sprat_agent.sync.outbox import Outbox

_LOG = logging.getLogger(__name__)


class Conversation:
    """Holds the link up and speaks over it."""

    def __init__(
        self,
        carriers: Sequence[Carrier],
        voice: Voice,
        *,
        outbox: Outbox,
        journal: Journal,
        check_ack: Callable[[AuditAck], None],
        take: Callable[[Assignment], None],
        welcomed: Callable[[Welcome], None],
        uniform: Callable[[float, float], float],
    ) -> None:
        """Speak over the first of the carriers that works.

        Args:
            carriers: In order of preference.
            voice: What the device says of itself.
            outbox: Reports to bring over.
            journal: Audit to bring over.
            check_ack: Raises AckRefusedError for an acknowledgement of audit that the controller
                did not sign.
            take: Told each plan; judges it later.
            welcomed: Told each Welcome.
            uniform: As `random.uniform`.
        """
        self._carriers = carriers
        self._voice = voice
        self._outbox = outbox
        self._journal = journal
        self._check_ack = check_ack
        self._take = take
        self._welcomed = welcomed
        self._uniform = uniform
        self._woken = asyncio.Event()
        self._dialogue: Dialogue | None = None
        self._carrier = ""
        self._spread_s = 0
        self._is_to_end = False
        self._heard_at = monotonic()

    @property
    def silence_s(self) -> float:
        """Since the controller last said anything; before that, since this was made."""
        return monotonic() - self._heard_at

    @property
    def carrier(self) -> str:
        """Name of the carrier over which the controller answers now; empty while there is none."""
        return self._carrier if self._dialogue and self._dialogue.is_welcome else ""

    def wake(self) -> None:
        """There may be something to send; call it in the event loop."""
        self._woken.set()

    def ask_for_welcome(self) -> None:
        """Get a new Welcome, with a new credential."""
        if self._dialogue:
            self._dialogue.ask_for_welcome(_now())
            self._woken.set()

    def greet_again(self) -> None:
        """Tell this device's hardware anew, before anything else."""
        if self._dialogue:
            self._dialogue.greet_again(_now())
            self._woken.set()

    def beat_now(self) -> None:
        """Say at once what runs."""
        if self._dialogue:
            self._dialogue.beat_now(_now())
            self._woken.set()

    def connect_anew(self) -> None:
        """End the present connection, if there is one: this device has a new certificate."""
        self._is_to_end = True
        self._woken.set()

    async def run(self) -> None:
        """Connect and speak, for ever."""
        failures = 0
        while True:
            was_welcome = await self._try_carriers()
            if was_welcome:
                failures = 0
                spread_s = backoff.first_delay_s(self._spread_s, self._uniform)
                # Never at once: two agents of one name would throw each other out in a tight loop.
                await asyncio.sleep(max(spread_s, self._uniform(0.0, backoff.BASE_S)))
            else:
                failures += 1
                await asyncio.sleep(backoff.delay_s(failures, self._uniform))

    async def _try_carriers(self) -> bool:
        """Speak over the first carrier that works; tell whether the controller answered on it."""
        for carrier in self._carriers:
            if await self._speak_over(carrier):
                return True
        return False

    async def _speak_over(self, carrier: Carrier) -> bool:
        # Before the certificate is read: a newer one from now on is a reason to connect anew.
        self._is_to_end = False
        try:
            async with carrier.connect() as connection:
                self._carrier = carrier.name
                await self._speak(connection)
        except LinkError as error:
            _LOG.info("%s: %s", carrier.name, error)
        except StateError as error:
            _LOG.warning("%s: the conversation ends: %s", carrier.name, error)
        except Exception:  # noqa: BLE001 - a bug in the conversation must not end the device's work
            _LOG.exception("%s: the conversation ends", carrier.name)
        was_welcome = self._dialogue is not None and self._dialogue.is_welcome
        self._dialogue = None
        return was_welcome

    async def _speak(self, connection: Connection) -> None:
        """Speak until the connection ends, by an error."""
        reports = ReportFlow(self._outbox)
        audit = AuditFlow(self._journal, self._voice.device_id, self._check_ack)
        dialogue = self._dialogue = Dialogue(self._voice, reports, audit, _now())
        listening = asyncio.create_task(self._listen(connection, dialogue), name="link: listen")
        try:
            while not listening.done() and not self._is_to_end:
                self._woken.clear()
                await self._say(connection, dialogue)
                await self._wait(listening, dialogue)
            if listening.done():
                listening.result()
        finally:
            listening.cancel()
            await asyncio.wait({listening})
            if not listening.cancelled():
                listening.exception()  # said already, or of no interest any more

    async def _say(self, connection: Connection, dialogue: Dialogue) -> None:
        if dialogue.is_unanswered(_now()):
            raise LinkLostError("connected, and nobody answers: trying the next carrier")
        for message in dialogue.due(_now()):
            try:
                await connection.send(message)
            except MessageTooLargeError as error:
                _LOG.error("%s is not sent: %s", message.WhichOneof("body"), error)

    async def _wait(self, listening: asyncio.Task[None], dialogue: Dialogue) -> None:
        """Wait until there may be something to say, or the connection ended."""
        waking = asyncio.create_task(self._woken.wait())
        # Never much beyond the patience for a Welcome, and never a busy loop.
        timeout_s = min(max(dialogue.next_due - _now(), 0.01), 30.0)
        await asyncio.wait(
            {listening, waking}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        waking.cancel()

    async def _listen(self, connection: Connection, dialogue: Dialogue) -> None:
        async for message in connection:
            self._heard_at = monotonic()
            self._hear(message, dialogue)
            self._woken.set()
        raise LinkLostError("the controller ended the conversation")

    def _hear(self, message: ControllerMessage, dialogue: Dialogue) -> None:
        match message.WhichOneof("body"):
            case "welcome":
                self._spread_s = message.welcome.reconnect_spread_s
                dialogue.welcome(message.welcome, _now())
                self._welcomed(message.welcome)
            case "assignment":
                self._take(message.assignment)
            case "report_ack":
                dialogue.reports.acknowledged(message.report_ack.up_to, _now())
            case "audit_ack":
                dialogue.audit.acknowledged(message.audit_ack, _now())
            case None:
                _LOG.info("the controller says something that this agent does not understand")


def _now() -> float:
    return asyncio.get_running_loop().time()
