"""Requests to the API as its document says, about what there is, and with odd things in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import quote, unquote, urlencode

from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core import NotSet

from simulators.http_world import HOST

Choices = Mapping[str, Sequence[str]]
# What made programs fail before: half a character, NUL, what fits into no column, what is no year.
ODD: Final[tuple[Any, ...]] = (
    *("\0", "a\0b", "\ud800", "\U0010ffff", "", " ", "x" * 5000, "../..", "%", "'", "\n", "٣"),
    *(-1, 1 << 31, 1 << 63, 10**30, 10**400, 0.5, 1e308, float("nan"), float("inf")),
    *(None, True, [], {}, [[]], {"": None}, {"\0": "\0"}, {"\ud800": "a"}, ["\0"], ["\ud800"]),
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1e999", "9" * 20),
)
ODD_BODIES: Final = (
    *(b"", b"\xff\xfe{", b'{"name": "\xff"}', b"{", b"null", b'"\\ud800"', b"[" * 100_000),
    *(b'{"name": 1e999}', b'{"name": NaN}', b"9" * 5000, b'{"name": ' + b"9" * 5000 + b"}"),
)
ODD_PARTS: Final = (
    *("%00", "a%00b", "%FF", "%ED%A0%80", "%2F", "%2e%2e", "%0A", "%25", "%27", "%F0", "%20"),
    *("x" * 3000, "9" * 30, "-1", "%D9%A3", "NaN"),
)


@dataclass(frozen=True)
class Known:
    """What there is to ask about, for an operation."""

    names: Choices = field(default_factory=dict[str, Sequence[str]])  # by the part of the address
    query: Choices = field(default_factory=dict[str, Sequence[str]])
    bodies: Sequence[Any] = ()


@dataclass(frozen=True)
class Asked:
    """A request, and the case that knows what may be answered to it."""

    case: Any  # of schemathesis, whose types are not all known
    method: str
    url: str
    headers: list[tuple[bytes, bytes]]
    content: bytes

    def __repr__(self) -> str:
        """Show what is needed to send it again."""
        return f"{self.method} {self.url[:500]} {self.headers} {self.content[:2000]!r}"

    @property
    def is_elsewhere(self) -> bool:
        """Whether what was filled in has a slash: then the address may be of no operation."""
        path = unquote(self.url.partition("?")[0]).removeprefix(f"https://{HOST}:7770")
        return path.count("/") != self.case.path.count("/")

    @property
    def said(self) -> str:
        """All that it names: an answer may name that as well."""
        return unquote(self.url) + self.content.decode(errors="replace")


@st.composite
def asked(draw: st.DrawFn, operation: Any, known: Known) -> Asked:
    """Return a request for an operation: valid, nearly valid, or not at all."""
    modes = list(GenerationMode) if _can_be_wrong(operation) else [GenerationMode.POSITIVE]
    case: Any = draw(operation.as_strategy(generation_mode=draw(st.sampled_from(modes))))
    content = _content(draw, case, known)
    headers = {name: value for name, value in case.headers.items() if name.lower() not in _OURS}
    if content:
        headers.setdefault("Content-Type", case.media_type or "application/json")
    query = _query(draw, case, known)
    return Asked(
        case,
        str(case.method),
        f"https://{HOST}:7770{_path(draw, case, known)}{query}",
        [
            (name.encode("latin-1", "replace"), str(value).encode("latin-1", "replace"))
            for name, value in headers.items()
        ],
        content,
    )


_OURS: Final = {"host", "authorization", "content-length", "transfer-encoding", "user-agent"}


def _can_be_wrong(operation: Any) -> bool:
    """Tell whether there is anything in a request that could be wrong."""
    parts = (operation.path_parameters, operation.query, operation.headers, operation.body)
    return any(len(part) for part in parts)


def _path(draw: st.DrawFn, case: Any, known: Known) -> str:
    """Fill in the address: mostly with what there is, else with what was made up, or odd."""
    path = case.path
    for name, made_up in case.path_parameters.items():
        there = known.names.get(name, ())
        odd = st.sampled_from(ODD_PARTS)
        part = (
            draw(st.sampled_from(there).map(quote))
            if there and draw(st.integers(0, 3))
            else draw(odd | st.just(quote(str(made_up), safe="", errors="surrogatepass")))
        )
        path = path.replace(f"{{{name}}}", part)
    return path


def _query(draw: st.DrawFn, case: Any, known: Known) -> str:
    """Return the query, with something of what there is, or odd, added to it now and then."""
    parts = [urlencode(case.query, doseq=True, errors="replace")] if case.query else []
    for name, there in known.query.items():
        if draw(st.booleans()):
            value = st.sampled_from(ODD_PARTS) | st.sampled_from(there).map(quote)
            parts.append(f"{name}={draw(value)}")
    return f"?{'&'.join(parts)}" if parts else ""


def _content(draw: st.DrawFn, case: Any, known: Known) -> bytes:
    """Return the body as it is sent, or one now and then that nobody can read."""
    body: Any = case.body
    if known.bodies and draw(st.integers(0, 3)):
        body = _blended(draw, body, draw(st.sampled_from(known.bodies)))
    if isinstance(body, NotSet):
        return b""
    if not draw(st.integers(0, 7)):
        return draw(st.sampled_from(ODD_BODIES))
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def _blended(draw: st.DrawFn, made_up: object, there: object) -> object:
    """Return a body that makes sense, but for a field or two that were made up or are odd."""
    if not isinstance(there, dict):
        return made_up
    body = json.loads(json.dumps(there))
    fields = cast("dict[str, Any]", made_up) if isinstance(made_up, dict) else {}
    for name in draw(st.lists(st.sampled_from(sorted(fields)), max_size=2)) if fields else ():
        body[name] = fields[name]
    if body and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(body)))
        body[name] = _odd_within(draw, body[name])
    return body


def _odd_within(draw: st.DrawFn, value: Any) -> Any:
    """Return something odd, or a list or object with something odd in it."""
    odd = draw(st.sampled_from(ODD))
    if isinstance(value, list) and draw(st.booleans()):
        return [*cast("list[Any]", value), odd]
    if isinstance(value, dict) and draw(st.booleans()):
        fields = cast("dict[str, Any]", value)
        return {**fields, draw(st.sampled_from([*fields, "\0", "a" * 300])): odd}
    return odd
