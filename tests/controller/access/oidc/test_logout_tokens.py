"""Whatever a provider signs, a logout is one only if it says so as it must."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from simulators.token_maker import CLIENT, ISSUER, NOW, Maker
from sprat_controller.access.oidc.tokens.logout_token import EVENT, MAX_LIFETIME, judge
from sprat_controller.access.oidc.tokens.refusals import TokenRefusedError

MAKER = Maker()
AT = int(NOW.timestamp())
GOOD: dict[str, Any] = {
    "iss": ISSUER,
    "aud": CLIENT,
    "iat": AT,
    "exp": AT + 120,
    "jti": "j-1",
    "events": {EVENT: {}},
    "sub": "ann-7",
    "sid": "s-1",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from([*GOOD, "nonce", "azp", "nbf"]), JSON),
    st.sets(st.sampled_from(sorted(GOOD))),
    st.sampled_from(["JWT", "logout+jwt", None]),
)
def test_only_a_logout_is_one(claims: dict[str, Any], left_out: set[str], typ: str | None) -> None:
    said = {name: one for name, one in (GOOD | claims).items() if name not in left_out}
    token = MAKER.token(said, header={"typ": typ})
    try:
        found = judge(
            token, MAKER.public, issuer=ISSUER, client_id=CLIENT, algorithms=["RS256"], now=NOW
        )
    except TokenRefusedError as refused:
        assert refused.message.startswith("expected ")  # noqa: PT017 - either is right
        return
    assert said["iss"] == ISSUER
    assert said["aud"] in (CLIENT, [CLIENT])
    assert "nonce" not in said
    assert isinstance(said["events"][EVENT], dict)
    assert (found.sub or found.sid) is not None
    assert found.jti == said["jti"]
    assert found.ends_at <= NOW + MAX_LIFETIME + timedelta(seconds=30)
