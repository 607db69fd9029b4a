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
from collections.abc import Collection
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

MAX_FRAME_BYTES: Final = 8 << 20  # requests are at most 1 MiB of JSON before it is escaped again
_LENGTH: Final = struct.Struct(">I")


class WireError(Exception):
    """The other end sent what the contract does not know."""


class ToolCall(Struct, frozen=True):
    """A call that the model made in an earlier turn; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


class Message(Struct, frozen=True):
    """One turn of a conversation."""

    role: str  # system, user, assistant or tool
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""  # of role tool: the call that this is the result of
    name: str = ""


class Tool(Struct, frozen=True):
    """A function that the model may call; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}


class Conversation(Struct, frozen=True, tag="conversation"):
    """Messages, put to the model by the release's chat template."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    # auto: as the model likes; none; required: at least one call; or the one function to call.
    tool_choice: str = "auto"
    is_parallel: bool = True  # several calls in one answer are allowed
    template_arguments: dict[str, Any] = {}  # more variables for the template: enable_thinking, ...


class Text(Struct, frozen=True, tag="text"):
    """A text that the model is to go on with, as it is."""

    text: str


class Tokens(Struct, frozen=True, tag="tokens"):
    """The same, already in the model's tokens."""

    tokens: tuple[int, ...]


Prompt: TypeAlias = Conversation | Text | Tokens


class Sampling(Struct, frozen=True):
    """How the next token is chosen; the defaults are llama.cpp's."""

    temperature: float = 0.8  # 0 is greedy
    top_p: float = 0.95
    top_k: int = 40  # 0: all
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalty_window: int = 64  # tokens that the penalties look back
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None


class Request(Struct, frozen=True):
    """What an engine is asked."""

    prompt: Prompt
    sampling: Sampling = Sampling()
    max_tokens: int | None = None  # None: until the context is full
    stop: tuple[str, ...] = ()
    schema: dict[str, Any] | bool | None = None  # JSON schema that the answer's text satisfies
    logprobs: int | None = None  # alternatives to tell of each token; None: not even its own
    adapter: str = ""  # a LoRA of this variant, by name
    is_echoed: bool = False  # the prompt's text comes before the answer's
    # Compute the whole prompt again: reuse of a prefix changes the shape of batches and with it,
    # at a near tie, the greedy answer. Probes compare answers, so they ask for this.
    is_fresh: bool = False


class AdapterFile(Struct, frozen=True):
    """A LoRA that requests may ask for."""

    name: str
    path: str  # below /proc/self/fd


def no_adapter(name: str, known: Collection[str]) -> str:
    """Return the sentence for a request with an adapter that is not there."""
    return f"the adapter {name[:100]!r} is not here; there are: {', '.join(known) or 'none'}"


class Load(Struct, frozen=True, tag="load"):
    """Load a model; sent once, first."""

    path: str  # of the first file: below /proc/self/fd, or links to there
    context: int  # tokens that one request may take
    threads: int
    template: str  # Jinja, from the signed manifest
    slots: int = 1  # requests answered at once
    kv_type: str = "f16"  # of keys and values: f16 or q8_0
    adapters: tuple[AdapterFile, ...] = ()
    memory_bytes: int = 0  # what this process may take beyond what it has; 0: unbounded
    prefix_file: int = -1  # a descriptor to keep prefixes of prompts in; -1: none
    prefix_bytes: int = 0  # how long that file may become
    prefix_key: str = ""  # of which model's files they are
    prefix_copies: int = 0  # bytes of memory for copies of a prefix on its way


class Generate(Struct, frozen=True, tag="generate"):
    """Answer a request."""

    id: int
    request: Request


class Embed(Struct, frozen=True, tag="embed"):
    """Return one vector for each input."""

    id: int
    inputs: tuple[Text | Tokens, ...]
    is_truncated: bool = False  # cut an input that is too long instead of refusing it


class Count(Struct, frozen=True, tag="count"):
    """Tell how many tokens a prompt has; the model computes nothing."""

    id: int
    prompt: Prompt


class Score(Struct, frozen=True, tag="score"):
    """Tell how much a text surprises the model; see `worker/batching/scoring.py`."""

    id: int
    text: str
    chunk: int  # tokens
    limit: int  # of scored tokens; one chunk is always scored


class Cancel(Struct, frozen=True, tag="cancel"):
    """Stop answering; `Done` follows all the same."""

    id: int


class Ping(Struct, frozen=True, tag="ping"):
    """Tell that you live."""

    number: int


class UseThreads(Struct, frozen=True, tag="use_threads"):
    """Compute with so many threads from the next step on."""

    count: int


AgentMessage: TypeAlias = Load | Generate | Embed | Count | Score | Cancel | Ping | UseThreads


class Loaded(Struct, frozen=True, tag="loaded"):
    """The model is ready."""

    context: int  # tokens that one request may take
    slots: int  # requests answered at once
    can_generate: bool = True
    embedding_length: int = 0  # 0: it makes no embeddings
    unjailed: tuple[str, ...] = ()  # parts of the jail that this kernel lacks


class LoadFailed(Struct, frozen=True, tag="load_failed"):
    """The engine refused the file."""

    message: str


class Alternative(Struct, frozen=True):
    """A token that might have come, with the natural logarithm of its probability.

    The probabilities are the model's own: before temperature, penalties and constraints.
    """

    data: bytes
    logprob: float


class Chosen(Struct, frozen=True):
    """A token that came; `top` are the likeliest ones, best first."""

    data: bytes
    logprob: float
    top: tuple[Alternative, ...] = ()


class ToolCallPart(Struct, frozen=True):
    """A bit of a call: id and name come once, first; then the text of its arguments."""

    index: int  # of the call in this answer
    id: str = ""
    name: str = ""
    arguments: str = ""


class Piece(Struct, frozen=True, tag="piece"):
    """What was generated since the last one."""

    id: int
    text: str
    tool_calls: tuple[ToolCallPart, ...] = ()
    chosen: tuple[Chosen, ...] = ()  # where log probabilities were asked for


class Done(Struct, frozen=True, tag="done"):
    """The last message on a request that went well."""

    id: int
    finish: Literal["stop", "length", "tool_calls", "cancelled"]
    prompt_tokens: int
    completion_tokens: int
    prefill_ms: float  # from the first step to the first token
    decode_ms: float
    cached_tokens: int = 0  # of the prompt, not computed again
    drafted_tokens: int = 0  # guessed by prompt lookup, rightly or not
    stopped_by: str = ""  # the stop string, if one ended the answer


class Embedded(Struct, frozen=True, tag="embedded"):
    """The last message on an `Embed` that went well: little-endian 32-bit floats, of length 1."""

    id: int
    vectors: tuple[bytes, ...]
    prompt_tokens: int


class Counted(Struct, frozen=True, tag="counted"):
    """The last message on a `Count` that went well."""

    id: int
    prompt_tokens: int


class Scored(Struct, frozen=True, tag="scored"):
    """The last message on a `Score` that went well; perplexity is e to `surprise` a token."""

    id: int
    tokens: int
    surprise: float  # nats, in all


class Failed(Struct, frozen=True, tag="failed"):
    """The last message on a request that could not be answered."""

    id: int
    code: str
    message: str


Answer: TypeAlias = Piece | Done | Embedded | Counted | Scored | Failed


class Answers(Struct, frozen=True, tag="answers"):
    """What one step of the engine made, for all requests."""

    items: tuple[Answer, ...]


class Figures(Struct, frozen=True):
    """What the engine did since it was loaded."""

    steps: int = 0
    decode_s: float = 0.0  # inside llama.cpp
    schedule_s: float = 0.0  # between two calls of it
    prefill_tokens: int = 0
    decode_tokens: int = 0
    cached_tokens: int = 0
    drafted_tokens: int = 0  # guessed by prompt lookup
    accepted_tokens: int = 0  # of these
    spilled_bytes: int = 0  # prefixes written to the file
    restored_tokens: int = 0  # and read back
    busy_slots: int = 0  # now


class Pong(Struct, frozen=True, tag="pong"):
    """The answer to a ping; `stalled_s`: how long the engine has been busy without progress."""

    number: int
    stalled_s: float
    figures: Figures = Figures()


WorkerMessage: TypeAlias = Loaded | LoadFailed | Answers | Pong

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
