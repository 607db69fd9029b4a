"""What the agent and an engine worker say to each other over their socket pair.

A frame is a length (four bytes, big-endian) and one JSON message with a `type`. Several requests
may be open at once, told apart by their id, so that an engine may batch them. The model file
travels as an inherited descriptor, never as a path that could change in between.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

MAX_FRAME_BYTES: Final = 8 << 20  # requests are at most 1 MiB of JSON before it is escaped again
_LENGTH: Final = struct.Struct(">I")


class WireError(Exception):
    """The other end sent what the contract does not know."""


class Message(Struct, frozen=True):
    """One turn of a conversation."""

    role: str
    content: str


class Chat(Struct, frozen=True):
    """What an engine is asked; sampling defaults are llama.cpp's."""

    messages: tuple[Message, ...]
    temperature: float = 0.8  # 0 is greedy
    top_p: float = 0.95
    max_tokens: int | None = None  # None: until the context is full
    stop: tuple[str, ...] = ()
    seed: int | None = None
    # Compute the whole prompt again: reuse of a prefix changes the shape of batches and with it,
    # at a near tie, the greedy answer. Probes compare answers, so they ask for this.
    is_fresh: bool = False


class Load(Struct, frozen=True, tag="load"):
    """Load a model; sent once, first."""

    path: str  # of the first file: below /proc/self/fd, or links to there
    context: int  # tokens
    threads: int
    template: str  # Jinja, from the signed manifest


class Generate(Struct, frozen=True, tag="generate"):
    """Answer a chat."""

    id: int
    chat: Chat


class Cancel(Struct, frozen=True, tag="cancel"):
    """Stop answering; `Done` follows all the same."""

    id: int


class Ping(Struct, frozen=True, tag="ping"):
    """Tell that you live."""

    number: int


AgentMessage: TypeAlias = Load | Generate | Cancel | Ping


class Loaded(Struct, frozen=True, tag="loaded"):
    """The model is ready."""

    context: int  # tokens
    slots: int  # requests answered at once


class LoadFailed(Struct, frozen=True, tag="load_failed"):
    """The engine refused the file."""

    message: str


class Piece(Struct, frozen=True, tag="piece"):
    """Text that was generated."""

    id: int
    text: str


class Done(Struct, frozen=True, tag="done"):
    """The last message on a request that went well."""

    id: int
    finish: Literal["stop", "length", "cancelled"]
    prompt_tokens: int
    completion_tokens: int
    prefill_ms: float
    decode_ms: float


class Failed(Struct, frozen=True, tag="failed"):
    """The last message on a request that could not be answered."""

    id: int
    code: str
    message: str


class Pong(Struct, frozen=True, tag="pong"):
    """The answer to a ping; `stalled_s`: how long the engine has been busy without progress."""

    number: int
    stalled_s: float


Answer: TypeAlias = Piece | Done | Failed
WorkerMessage: TypeAlias = Loaded | LoadFailed | Answer | Pong

_FROM_AGENT: Final[msgspec.json.Decoder[AgentMessage]] = msgspec.json.Decoder(AgentMessage)
_FROM_WORKER: Final[msgspec.json.Decoder[WorkerMessage]] = msgspec.json.Decoder(WorkerMessage)


def frame(message: AgentMessage | WorkerMessage) -> bytes:
    """Return the message as it goes over the wire.

    Raises:
        WireError: It is too long for a frame.
    """
    body = msgspec.json.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise WireError(f"a message of {len(body)} bytes does not fit a frame of {MAX_FRAME_BYTES}")
    return _LENGTH.pack(len(body)) + body


def read_agent_message(body: bytes) -> AgentMessage:
    """Read one message that the agent sent.

    Raises:
        WireError: It is not in the contract.
    """
    try:
        return _FROM_AGENT.decode(body)
    except msgspec.DecodeError as error:
        raise WireError(f"expected a message of the agent, found other bytes: {error}") from error


def read_worker_message(body: bytes) -> WorkerMessage:
    """Read one message that a worker sent.

    Raises:
        WireError: It is not in the contract.
    """
    try:
        return _FROM_WORKER.decode(body)
    except msgspec.DecodeError as error:
        raise WireError(f"expected a message of a worker, found other bytes: {error}") from error


async def receive_from_worker(reader: asyncio.StreamReader) -> WorkerMessage | None:
    """Return the next message, or None when the worker's end is closed.

    Raises:
        WireError: The frame is too long or not in the contract.
    """
    try:
        length = body_length(await reader.readexactly(_LENGTH.size))
        return read_worker_message(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def body_length(header: bytes) -> int:
    """Return how many bytes follow a frame's header.

    Raises:
        WireError: More than a frame may have.
    """
    (length,) = _LENGTH.unpack(header)
    if length > MAX_FRAME_BYTES:
        raise WireError(f"expected a frame of up to {MAX_FRAME_BYTES} bytes, found {length}")
    return length


class WorkerEnd:
    """The worker's blocking end: one thread receives, any thread sends."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, message: WorkerMessage) -> None:
        """Send one message whole; raises OSError when the agent is gone."""
        data = frame(message)
        with self._sending:
            self._connection.sendall(data)

    def receive(self) -> AgentMessage | None:
        """Return the next message, or None when the agent is gone.

        Raises:
            WireError: The frame is too long or not in the contract.
        """
        header = self._exactly(_LENGTH.size)
        body = self._exactly(body_length(header)) if header else b""
        return read_agent_message(body) if body else None

    def _exactly(self, size: int) -> bytes:
        """Return `size` bytes, or none when the stream ends before them."""
        data = bytearray()
        while len(data) < size:
            try:
                part = self._connection.recv(size - len(data))
            except ConnectionError:
                return b""
            if not part:
                return b""
            data += part
        return bytes(data)
