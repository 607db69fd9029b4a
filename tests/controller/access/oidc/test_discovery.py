"""A provider is who its document says, and is spoken to over https only."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.access.oidc import discovery

ISSUER = "https://id.example/realms/works"
GOOD: dict[str, Any] = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/auth",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/certs",
}


def test_a_document_says_where_to_ask_what() -> None:
    found = discovery.read(GOOD, ISSUER)
    assert (found.authorization, found.device, found.says_issuer) == (f"{ISSUER}/auth", None, False)
    more = GOOD | {
        "device_authorization_endpoint": f"{ISSUER}/device",
        "authorization_response_iss_parameter_supported": True,
    }
    found = discovery.read(more, ISSUER)
    assert (found.device, found.says_issuer) == (f"{ISSUER}/device", True)


@pytest.mark.parametrize("issuer", [None, f"{ISSUER}/", "https://evil.example", 7, [ISSUER]])
def test_the_document_of_another_is_refused(issuer: object) -> None:
    with pytest.raises(ValueError, match="expected the document of"):
        discovery.read(GOOD | {"issuer": issuer}, ISSUER)


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri"])
@pytest.mark.parametrize(
    "address",
    [
        *(None, 7, "", "/token", "//id.example/token", "http://id.example/token", "https://"),
        *(
            "ftp://id.example/",
            "https://id.example:0/",
            "https://me:pw@id.example/",
            "javascript:x",
        ),
        *("https://id.example/\n", "https://id.example/ x", "https://[::1", "http://127.1.evil/x"),
        *("http://localhost.evil.example/", "https://id.example/#x", "https://é.example/"),
    ],
)
def test_an_address_that_secrets_cannot_be_sent_to_is_refused(name: str, address: object) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected https"):
        discovery.read(GOOD | {name: address}, ISSUER)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "[::1]:8080", "localhost:8080"])
def test_on_one_machine_it_may_be_http(host: str) -> None:
    assert discovery.checked(f"http://{host}/token") == f"http://{host}/token"


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))
)
def test_what_is_no_document_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        discovery.read(document, ISSUER)


@given(st.text(alphabet="htps:/[]@#.%\\ a1\0\n"))
def test_any_address_is_taken_or_refused(text: str) -> None:
    try:
        assert discovery.checked(text) == text
    except ValueError as refused:
        assert str(refused).startswith("expected https")  # noqa: PT017 - either is right
