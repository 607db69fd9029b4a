"""POST /v1/responses. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sprat_agent.api import sse
from sprat_agent.api.dialect import Call, End, Json, Origin, Whole
from sprat_agent.api.faults import ApiError
from sprat_agent.api.openai import response_schema
from sprat_agent.runtime.wire import Done, Piece, ToolCallPart


class Response:
    """The dialect."""

    stream_type = sse.MEDIA_TYPE

    def read(self, body: bytes) -> Call:
        """Understand a request; see `Dialect`."""
        asked = response_schema.parse(body)
        form = _ResponseForm(asked)
        return Call(asked.model, (response_schema.meaning(asked),), bool(asked.stream), form)

    def error_event(self, error: ApiError) -> bytes:
        """Return the event of an error in mid-stream; as the last one it needs no number."""
        told = {"code": error.code, "message": error.message, "param": error.param}
        return sse.event({"type": "error", **told, "sequence_number": 0}, "error")


class _ResponseForm:
    def __init__(self, asked: response_schema.Request) -> None:
        self._asked = asked

    def whole(self, origin: Origin, answers: Sequence[Whole]) -> Json:
        (answer,) = answers
        output: list[Json] = []
        if answer.text or not answer.tool_calls:
            output.append(_message(_item_id("msg", origin, 0), answer.text))
        for call in answer.tool_calls:
            item_id = _item_id("fc", origin, len(output))
            output.append(_call(item_id, call.id, call.name, call.arguments))
        return ended(self._asked, origin, output, answer.end)

    def events(self, origin: Origin) -> _ResponseEvents:
        return _ResponseEvents(self._asked, origin)


class _ResponseEvents:
    """The stream: items open one after the other, and each is told whole when it ends."""

    def __init__(self, asked: response_schema.Request, origin: Origin) -> None:
        self._asked = asked
        self._origin = origin
        self._number = 0  # of the next event
        self._output: list[Json] = []  # items that ended
        self._open: _OpenItem | None = None

    def first(self) -> Iterable[bytes]:
        body = {"response": _body(self._asked, self._origin, "in_progress")}
        yield self._event("response.created", body)
        yield self._event("response.in_progress", body)

    def piece(self, index: int, piece: Piece) -> Iterable[bytes]:
        del index  # there is one answer only
        if piece.text:
            yield from self._enter(None)
            yield from self._grow("response.output_text.delta", piece.text)
        for part in piece.tool_calls:
            yield from self._enter(part)
            if part.arguments:
                yield from self._grow("response.function_call_arguments.delta", part.arguments)

    def over(self, index: int, end: End) -> Iterable[bytes]:
        del index
        if self._open is None:  # an empty answer is a message as well
            yield from self._enter(None)
        yield from self._leave()
        response = ended(self._asked, self._origin, self._output, end)
        yield self._event(f"response.{response['status']}", {"response": response})

    def last(self, ends: Sequence[End]) -> Iterable[bytes]:
        del ends
        return ()

    def _enter(self, part: ToolCallPart | None) -> Iterator[bytes]:
        """Open the item that a text (None) or a bit of a call belongs to, if it is not open."""
        if self._open and self._open.holds(part):
            return
        yield from self._leave()
        at = len(self._output)
        item_id = _item_id("fc" if part else "msg", self._origin, at)
        self._open = _OpenItem(item_id, at, part)
        item = {**self._open.item(), "status": "in_progress"}
        if part is None:
            item["content"] = []
        yield self._event("response.output_item.added", {"output_index": at, "item": item})
        if part is None:
            place = self._open.place()
            yield self._event("response.content_part.added", {**place, "part": _part("")})

    def _grow(self, kind: str, delta: str) -> Iterator[bytes]:
        if self._open is None:
            raise RuntimeError("no item is open")
        self._open.text += delta
        more: Json = {"logprobs": []} if self._open.call is None else {}
        yield self._event(kind, {**self._open.place(), "delta": delta, **more})

    def _leave(self) -> Iterator[bytes]:
        """End the open item, if there is one."""
        one = self._open
        if one is None:
            return
        self._open = None
        place = one.place()
        if one.call is None:
            told: Json = {**place, "text": one.text, "logprobs": []}
            yield self._event("response.output_text.done", told)
            yield self._event("response.content_part.done", {**place, "part": _part(one.text)})
        else:
            told = {**place, "name": one.call.name, "arguments": one.text}
            yield self._event("response.function_call_arguments.done", told)
        item = one.item()
        self._output.append(item)
        yield self._event("response.output_item.done", {"output_index": one.at, "item": item})

    def _event(self, kind: str, body: Json) -> bytes:
        number, self._number = self._number, self._number + 1
        return sse.event({"type": kind, "sequence_number": number, **body}, kind)


class _OpenItem:
    """An item of the output in the making."""

    def __init__(self, item_id: str, at: int, call: ToolCallPart | None) -> None:
        self.id = item_id
        self.at = at  # its place in the output
        self.call = call  # its first bit; None: a message
        self.text = ""  # of the message, or of the call's arguments

    def holds(self, part: ToolCallPart | None) -> bool:
        """Tell whether a text (None) or a bit of a call belongs to this item."""
        if part is None or self.call is None:
            return part is self.call
        return part.index == self.call.index

    def place(self) -> Json:
        """Return where deltas belong."""
        place: Json = {"item_id": self.id, "output_index": self.at}
        return {**place, "content_index": 0} if self.call is None else place

    def item(self) -> Json:
        """Return the item with what it has so far."""
        if self.call is None:
            return _message(self.id, self.text)
        return _call(self.id, self.call.id, self.call.name, self.text)


def ended(asked: response_schema.Request, origin: Origin, output: Sequence[Json], end: End) -> Json:
    """Return the response when its answer is complete; `incomplete` if a limit cut it."""
    is_cut = end.done.finish == "length"
    return {
        **_body(asked, origin, "incomplete" if is_cut else "completed"),
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "output": list(output),
        "usage": _usage(end.done),
        "timings": end.timings,
    }


def _body(asked: response_schema.Request, origin: Origin, status: str) -> Json:
    """Return the response without its output."""
    wanted = asked.text.format if asked.text and asked.text.format else None
    return {
        "id": f"resp_{origin.id}",
        "object": "response",
        "created_at": int(origin.created.timestamp()),
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "metadata": {},
        "model": origin.asked_model,
        "output": [],
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "previous_response_id": None,
        "store": False,
        "temperature": asked.temperature,
        "text": {"format": wanted or {"type": "text"}},
        "tool_choice": asked.tool_choice or "auto",
        "tools": asked.tools or [],
        "top_p": asked.top_p,
        "truncation": "disabled",
        "usage": None,
        "system_fingerprint": origin.loadable.digest[:16],
    }


def _message(item_id: str, text: str) -> Json:
    kind = {"id": item_id, "type": "message", "role": "assistant", "status": "completed"}
    return {**kind, "content": [_part(text)]}


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _call(item_id: str, call_id: str, name: str, arguments: str) -> Json:
    kind = {"id": item_id, "type": "function_call", "status": "completed"}
    return {**kind, "call_id": call_id, "name": name, "arguments": arguments}


def _item_id(kind: str, origin: Origin, at: int) -> str:
    return f"{kind}_{origin.id}_{at}"


def _usage(done: Done) -> Json:
    return {
        "input_tokens": done.prompt_tokens,
        "input_tokens_details": {"cached_tokens": done.cached_tokens},
        "output_tokens": done.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": done.prompt_tokens + done.completion_tokens,
    }
