"""A mail server in this process that behaves or misbehaves as the test specifies."""

import asyncio
from collections import deque
from collections.abc import Callable
from email import message_from_bytes, policy

from aiosmtpd.controller import Controller

OK = "250 OK"


class MailServer(Controller):
    """
    Speaks SMTP on a free port of the loopback.

    ``answers`` are used up, one for each mail that comes as far as its DATA, and then it is ``OK``:
    a reply, such as ``"451 busy"``; ``"drop"`` keeps the mail and breaks off without a reply; ``"stall"``
    never replies. ``refused`` maps recipients to the reply they get. ``received`` holds every mail whose
    sender might believe it was taken; ``connections`` counts connections.
    """

    def __init__(self) -> None:
        self.answers: deque[str] = deque()
        self.refused: dict[str, str] = {}
        self.received = []
        self.connections = 0
        #: Seconds that it takes for a mail.
        self.delay = 0.0
        #: Called when the next mail has come, before it is answered.
        self.before_answer: Callable[[], object] | None = None
        #: Messages-IDs of mails that were taken and never acknowledged.
        self.unanswered = []
        super().__init__(self, hostname="127.0.0.1", port=0)

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]  # The one that the system gave for 0.
        super()._trigger_server()

    async def handle_EHLO(self, server, session, envelope, hostname, responses):  # noqa: N802
        self.connections += 1
        session.host_name = hostname
        return responses

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):  # noqa: N802
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return OK

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        await asyncio.sleep(self.delay)
        answer = self.answers.popleft() if self.answers else OK
        if answer in {OK, "drop"}:
            self.received.append(message_from_bytes(envelope.content, policy=policy.default))
        if self.before_answer is not None:
            act, self.before_answer = self.before_answer, None
            await asyncio.to_thread(act)
        if answer == "drop":
            self.unanswered.append(self.received[-1]["Message-ID"])
            server.transport.abort()
        elif answer == "stall":
            await asyncio.Event().wait()
        return answer
