"""T41: tokens that a provider did not make, or not for us and now, are refused and say why."""

from __future__ import annotations

import hmac
import json
import warnings
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OctKey, RSAKey
from simulators.token_maker import CLIENT, ISSUER, NONCE, NOW, Maker, b64, keys_of, sign
from sprat_controller.access.oidc.tokens import id_token, keys
from sprat_controller.access.oidc.tokens.claims import LEEWAY
from sprat_controller.access.oidc.tokens.id_token import Expected, SignedIn, judge
from sprat_controller.access.oidc.tokens.keys import Keys
from sprat_controller.access.oidc.tokens.refusals import Reason, TokenRefusedError

MAKER = Maker()
ALGORITHMS = ("RS256", "ES256", "Ed25519")
AT = int(NOW.timestamp())
GOOD = MAKER.id_token()


def judged(token: str, known: Keys | None = None, **changes: Any) -> SignedIn:
    said: dict[str, Any] = {
        "issuer": ISSUER,
        "client_id": CLIENT,
        "algorithms": ALGORITHMS,
        "nonce": NONCE,
        **changes,
    }
    return judge(token, known or MAKER.public, Expected(**said), NOW)


def refusal(token: str, known: Keys | None = None, **changes: Any) -> Reason:
    """Return why a token is refused, after a look at the sentence."""
    with pytest.raises(TokenRefusedError) as caught:
        judged(token, known, **changes)
    message = caught.value.message
    assert message.startswith("expected ")
    assert message.isascii()
    assert message.isprintable()
    assert (
        token.rsplit(".", maxsplit=1)[-1][:20] not in message
        or not token.rsplit(".", maxsplit=1)[-1]
    )
    return caught.value.reason


def test_a_good_token_says_who_signed_in() -> None:
    found = judged(MAKER.id_token(sid="s-1", groups=["a"]))
    assert (found.issuer, found.sub, found.sid) == (ISSUER, "ann-7", "s-1")
    assert found.claims["groups"] == ["a"]


@pytest.mark.parametrize(
    ("key", "algorithm"), [("rsa", "RS256"), ("ec", "ES256"), ("ed", "Ed25519")]
)
def test_each_algorithm_that_was_agreed_on_is_checked(key: str, algorithm: str) -> None:
    pair = getattr(MAKER, key)
    header = {"alg": algorithm, "kid": f"{key}-1"}
    assert judged(MAKER.id_token(header=header, key=pair)).sub == "ann-7"


def test_t41_a_token_without_a_signature_is_refused() -> None:
    header, payload, signature = GOOD.split(".")
    none = b64(json.dumps({"alg": "none"}).encode())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for forged in (f"{none}.{payload}.", f"{none}.{payload}.{signature}", f"{none}.{payload}"):
            assert refusal(forged) in (Reason.ALGORITHM, Reason.MALFORMED)
    assert refusal(f"{header}.{payload}.") is Reason.MALFORMED
    for name in ("none", "None", "NONE", "", None, 7, ["RS256"]):
        head = b64(json.dumps({"alg": name, "kid": "rsa-1"}).encode())
        assert refusal(f"{head}.{payload}.{signature}") is Reason.ALGORITHM
    head = b64(json.dumps({"kid": "rsa-1"}).encode())
    assert refusal(f"{head}.{payload}.{signature}") is Reason.ALGORITHM


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("form", ["pem", "der", "jwk", "n"])
def test_t41_a_token_signed_with_the_public_key_as_a_secret_is_refused(
    algorithm: str, form: str
) -> None:
    public = MAKER.rsa.as_dict(private=False)
    secret = {
        "pem": MAKER.rsa.as_pem(private=False),
        "der": MAKER.rsa.as_der(private=False),
        "jwk": json.dumps(public).encode(),
        "n": str(public["n"]).encode(),
    }[form]
    # By hand: joserfc signs nothing with such a secret.
    payload = GOOD.split(".")[1]
    for kid in ("rsa-1", None):
        head = b64(
            json.dumps({"alg": algorithm, "kid": kid} if kid else {"alg": algorithm}).encode()
        )
        signed = f"{head}.{payload}"
        name = f"sha{algorithm[2:]}"
        forged = f"{signed}.{b64(hmac.digest(secret, signed.encode(), name))}"
        assert refusal(forged) is Reason.ALGORITHM


def test_t41_a_secret_that_the_provider_publishes_checks_nothing() -> None:
    secret = OctKey.generate_key(256, {"kid": "oct-1"})
    public = keys.read({"keys": [secret.as_dict(private=True)]})
    assert public == Keys()
    forged = MAKER.id_token(header={"alg": "HS256", "kid": "oct-1"}, key=secret)
    assert refusal(forged, public) is Reason.ALGORITHM


@pytest.mark.parametrize(
    "crit",
    [["x"], ["exp"], ["b64"], ["alg"], [], "x", 7, None, {}, [["x"]], [None]],
    ids=repr,
)
def test_t41_a_header_that_must_be_understood_is_refused(crit: object) -> None:
    header = {"alg": "RS256", "kid": "rsa-1", "crit": crit, "x": 1, "b64": False, "exp": AT}
    payload = json.dumps(judged(GOOD).claims).encode()
    assert refusal(sign(header, payload, MAKER.rsa)) is Reason.HEADER
    del header["b64"]
    assert refusal(sign(header, payload, MAKER.rsa)) is Reason.HEADER


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
def test_t41_a_header_that_brings_its_own_key_is_refused(name: str) -> None:
    forger = ECKey.generate_key("P-256", {"kid": "mine"})
    public = forger.as_dict(private=False)
    values = {"jwk": public, "jku": "https://evil.example/keys", "x5u": "https://evil.example/c"}
    for kid in ("ec-1", "mine", None):
        header = {"alg": "ES256", "kid": kid, name: values.get(name, ["MII"])}
        assert refusal(MAKER.id_token(header=header, key=forger)) is Reason.HEADER
        assert refusal(MAKER.id_token(header=header, key=MAKER.ec)) is Reason.HEADER


@pytest.mark.parametrize("name", ["exp", "aud", "iss", "sub", "iat"])
@pytest.mark.parametrize("how", ["absent", "null"])
def test_t41_a_token_that_leaves_a_claim_out_is_refused(name: str, how: str) -> None:
    if how == "absent":
        assert refusal(MAKER.id_token(without=(name,))) is Reason.MISSING
    else:
        claims: dict[str, Any] = {name: None}
        assert refusal(MAKER.id_token(**claims)) is Reason.MISSING


@pytest.mark.parametrize(
    "audience",
    [
        *("other", "", "Sprat", "sprat ", "spra", [], ["other"], {}, {"sprat": 1}, 7, True, [[]]),
        *(["sprat", "other"], ["sprat", None], [["sprat"]]),
    ],
    ids=repr,
)
def test_t41_a_token_for_somebody_else_is_refused(audience: object) -> None:
    assert refusal(MAKER.id_token(aud=audience)) is Reason.AUDIENCE
    assert refusal(MAKER.id_token(aud=audience, azp=CLIENT)) is Reason.AUDIENCE


def test_a_token_for_us_in_a_list_is_for_us() -> None:
    assert judged(MAKER.id_token(aud=[CLIENT], azp=CLIENT)).sub == "ann-7"


@pytest.mark.parametrize("party", ["other", "", None, [CLIENT], 7], ids=repr)
def test_t41_a_token_that_was_issued_to_another_client_is_refused(party: object) -> None:
    assert refusal(MAKER.id_token(azp=party)) is Reason.PARTY


@pytest.mark.parametrize(
    "issuer",
    [
        *(f"{ISSUER}/", ISSUER.upper(), ISSUER.replace("https", "http"), "", [ISSUER], 7, {}),
        *("https://id.example", f"{ISSUER}?x", f" {ISSUER}", True),
    ],
    ids=repr,
)
def test_t41_a_token_of_another_issuer_is_refused(issuer: object) -> None:
    assert refusal(MAKER.id_token(iss=issuer)) is Reason.ISSUER


@pytest.mark.parametrize(
    "nonce", ["other", "", NONCE[:-1], NONCE + "x", [NONCE], 7, True], ids=repr
)
def test_t41_a_token_that_answers_another_question_is_refused(nonce: object) -> None:
    assert refusal(MAKER.id_token(nonce=nonce)) is Reason.NONCE
    assert refusal(MAKER.id_token(without=("nonce",))) is Reason.NONCE
    assert refusal(MAKER.id_token(nonce=nonce), nonce=None) is Reason.NONCE
    assert judged(MAKER.id_token(without=("nonce",)), nonce=None).sub == "ann-7"


def test_t41_a_token_of_a_key_that_the_provider_no_longer_has_is_refused() -> None:
    old = MAKER.id_token(header={"kid": "rsa-0"}, key=MAKER.old)
    assert judged(old, keys_of(MAKER.old, MAKER.rsa)).sub == "ann-7"
    assert refusal(old) is Reason.UNKNOWN_KEY
    # Nor under the name of the key that came after it, nor under none.
    assert refusal(MAKER.id_token(key=MAKER.old)) is Reason.SIGNATURE
    nameless = MAKER.id_token(header={"kid": None}, key=MAKER.old)
    assert refusal(nameless) is Reason.SIGNATURE


def test_a_token_without_a_keys_name_is_of_the_only_one_that_fits() -> None:
    nameless = MAKER.id_token(header={"kid": None})
    assert judged(nameless).sub == "ann-7"
    assert refusal(nameless, keys_of(MAKER.rsa, MAKER.old)) is Reason.UNKNOWN_KEY


def test_t41_a_forgers_signature_is_refused_under_any_keys_name() -> None:
    for kid in ("rsa-1", "ec-1", "ed-1", "rsa-0", "../rsa-1", "", "' OR 1=1", None):
        forged = MAKER.id_token(header={"kid": kid}, key=MAKER.forger)
        assert refusal(forged) in (Reason.SIGNATURE, Reason.UNKNOWN_KEY)


@pytest.mark.parametrize("kid", [7, ["rsa-1"], {"kid": "rsa-1"}, True, 1.5], ids=repr)
def test_t41_a_keys_name_that_is_no_text_is_refused(kid: object) -> None:
    assert refusal(MAKER.id_token(header={"kid": kid})) is Reason.HEADER


def test_t41_a_key_is_for_its_own_algorithm_only() -> None:
    allowed = ("RS256", "PS256", "RS512", "ES256")
    for algorithm in ("PS256", "RS512"):
        token = MAKER.id_token(header={"alg": algorithm})
        assert refusal(token) is Reason.ALGORITHM  # it was not agreed on
        assert judged(token, algorithms=allowed).sub == "ann-7"
    bound = RSAKey.import_key(MAKER.rsa.as_dict(private=True) | {"alg": "RS256"})
    token = MAKER.id_token(header={"alg": "PS256"})
    assert refusal(token, keys_of(bound), algorithms=allowed) is Reason.UNKNOWN_KEY
    wrong = MAKER.id_token(header={"alg": "ES256", "kid": "rsa-1"}, key=MAKER.ec)
    assert refusal(wrong) is Reason.UNKNOWN_KEY


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": AT - 30}, Reason.EXPIRED),
        ({"exp": AT - 86_400}, Reason.EXPIRED),
        ({"exp": 0}, Reason.EXPIRED),
        ({"exp": -1}, Reason.CLAIM),
        ({"exp": str(AT + 300)}, Reason.CLAIM),
        ({"exp": True}, Reason.CLAIM),
        ({"exp": [AT + 300]}, Reason.CLAIM),
        ({"exp": 10**400}, Reason.CLAIM),
        ({"iat": AT + 31}, Reason.FUTURE),
        ({"iat": AT + 86_400, "exp": AT + 2 * 86_400}, Reason.FUTURE),
        ({"nbf": AT + 31}, Reason.FUTURE),
        ({"iat": "now"}, Reason.CLAIM),
        ({"nbf": "now"}, Reason.CLAIM),
        ({"iat": AT - 631}, Reason.STALE),
        ({"iat": 0}, Reason.STALE),
    ],
)
def test_t41_a_token_that_is_over_or_of_the_future_is_refused(
    claims: dict[str, Any], reason: Reason
) -> None:
    assert refusal(MAKER.id_token(**claims)) is reason


def test_clocks_may_be_a_little_apart() -> None:
    apart = int(LEEWAY.total_seconds())
    assert judged(MAKER.id_token(exp=AT - apart + 1)).sub == "ann-7"
    assert judged(MAKER.id_token(iat=AT + apart, nbf=AT + apart)).sub == "ann-7"


def test_t41_a_number_that_json_does_not_have_is_refused() -> None:
    for number in ("NaN", "Infinity", "-Infinity", "1e999"):
        payload = json.dumps(dict(judged(GOOD).claims)).replace(str(AT + 300), number)
        token = sign({"alg": "RS256", "kid": "rsa-1"}, payload.encode(), MAKER.rsa)
        assert refusal(token) in (Reason.MALFORMED, Reason.CLAIM)


def test_t41_a_claim_that_comes_twice_is_refused() -> None:
    payload = json.dumps(dict(judged(GOOD).claims))[:-1] + ', "sub": "root"}'
    token = sign({"alg": "RS256", "kid": "rsa-1"}, payload.encode(), MAKER.rsa)
    assert refusal(token) is Reason.MALFORMED


@pytest.mark.parametrize("type_", ["at+jwt", "logout+jwt", "JWS", "", 7, None, ["JWT"]], ids=repr)
def test_t41_a_token_of_another_kind_is_refused(type_: object) -> None:
    header = {"alg": "RS256", "kid": "rsa-1", "typ": type_}
    payload = json.dumps(dict(judged(GOOD).claims)).encode()
    assert refusal(sign(header, payload, MAKER.rsa)) is Reason.HEADER


@pytest.mark.parametrize("sub", ["", " \n", "é", "x" * 256, 7, ["ann"], {}, "a\0b"], ids=repr)
def test_t41_a_name_that_is_none_is_refused(sub: object) -> None:
    assert refusal(MAKER.id_token(sub=sub)) is Reason.CLAIM


def test_a_sign_in_that_is_too_long_ago_is_refused_if_it_matters() -> None:
    hour = timedelta(hours=1)
    assert judged(MAKER.id_token(auth_time=AT - 7200)).sub == "ann-7"
    assert judged(MAKER.id_token(auth_time=AT - 3600), max_auth_age=hour).sub == "ann-7"
    assert refusal(MAKER.id_token(auth_time=AT - 7200), max_auth_age=hour) is Reason.AUTH_TIME
    assert refusal(MAKER.id_token(), max_auth_age=hour) is Reason.MISSING
    assert refusal(MAKER.id_token(auth_time=AT + 60)) is Reason.AUTH_TIME
    assert refusal(MAKER.id_token(auth_time="now")) is Reason.CLAIM


def test_an_access_token_of_somebody_else_is_refused() -> None:
    # The example of OpenID Connect Core 1.0, A.3.
    hashed = "77QmUPtjPfzWtF2AnpK9RQ"
    access = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"
    assert judged(MAKER.id_token(at_hash=hashed), access_token=access).sub == "ann-7"
    for found in ("x", "", 7, hashed[:-1]):
        wrong = MAKER.id_token(at_hash=found)
        assert refusal(wrong, access_token=access) is Reason.ACCESS_TOKEN
    wrong = MAKER.id_token(at_hash=hashed)
    assert refusal(wrong, access_token="another") is Reason.ACCESS_TOKEN


@pytest.mark.parametrize("claims", [[], "x", 7, None, True])
def test_claims_that_are_no_object_are_refused(claims: object) -> None:
    assert refusal(MAKER.token(claims)) is Reason.MALFORMED


def test_a_token_that_is_very_long_or_very_deep_is_refused() -> None:
    assert refusal(MAKER.id_token(groups=["g" * 1000] * 100)) is Reason.MALFORMED
    deep = b'{"a":' * 5000 + b"1" + b"}" * 5000
    assert refusal(sign({"alg": "RS256", "kid": "rsa-1"}, deep, MAKER.rsa)) is Reason.MALFORMED
    many = MAKER.id_token(header={"x": "y" * 600})
    assert refusal(many) is Reason.MALFORMED


def test_small_private_and_foreign_keys_are_left_out() -> None:
    small = {"kty": "RSA", "kid": "small", "n": b64(b"\xc1" * 128), "e": "AQAB"}
    encrypts = ECKey.import_key(MAKER.ec.as_dict(private=False) | {"use": "enc", "kid": "enc"})
    signs = MAKER.ec.as_dict(private=False) | {"key_ops": ["sign"], "kid": "ops"}
    document: dict[str, Any] = {
        "keys": [
            *(small, MAKER.rsa.as_dict(private=True), signs),
            *(encrypts.as_dict(private=False), {"kty": "AKP", "alg": "ML-DSA-44"}, "x", None, {}),
            *({"kty": "RSA"}, {"kty": "RSA", "n": 7, "e": []}, {"kty": "EC", "crv": "P-256"}),
            *({"kty": ["RSA"]}, {**MAKER.ec.as_dict(private=False), "kid": 7}),
            MAKER.ec.as_dict(private=False),
        ]
    }
    assert [key.kid for key in keys.read(document).keys] == ["ec-1"]
    wrongs: list[Any] = [None, [], {}, {"keys": {}}, {"keys": None}, {"keys": [{}] * 101}]
    for wrong in wrongs:
        with pytest.raises(ValueError, match="expected"):
            keys.read(wrong)


@given(st.data())
def test_no_token_that_was_changed_anywhere_is_believed(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GOOD)))
    how = data.draw(st.sampled_from(["put", "take", "replace", "swap"]))
    letter = data.draw(st.sampled_from("ABCabc019-_.=+/ \n\0é"))
    changed = {
        "put": GOOD[:at] + letter + GOOD[at:],
        "take": GOOD[:at] + GOOD[at + 1 :],
        "replace": GOOD[:at] + letter + GOOD[at + 1 :],
        "swap": GOOD[at:] + GOOD[:at],
    }[how]
    if changed == GOOD:
        return
    with pytest.raises(TokenRefusedError):
        judged(changed)


@given(st.one_of(st.text(), st.text(alphabet="ABab01-_.="), st.binary().map(b64)))
@example("..")
@example("a.a.a")
@example("\ud800.\ud800.\ud800")
def test_what_is_no_token_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(TokenRefusedError):
        judged(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "jku", "b64", "enc", "zip", "x"]), JSON
)


@given(HEADERS, JSON, st.binary(max_size=300))
def test_any_header_is_refused_without_the_right_signature(
    header: dict[str, Any], claims: Any, signature: bytes
) -> None:
    text = ".".join(
        [b64(json.dumps(header).encode()), b64(json.dumps(claims).encode()), b64(signature)]
    )
    with pytest.raises(TokenRefusedError):
        judged(text)


CLAIMS = ["iss", "sub", "aud", "azp", "exp", "iat", "nbf", "nonce", "auth_time", "sid", "at_hash"]


@given(st.dictionaries(st.sampled_from(CLAIMS), JSON, min_size=1))
def test_any_claims_that_the_provider_signs_are_judged_and_nothing_else_happens(
    claims: dict[str, Any],
) -> None:
    try:
        found = judged(MAKER.id_token(**claims))
    except TokenRefusedError as refused:
        assert refused.message.isprintable()  # noqa: PT017 - either is right
        return
    said = found.claims
    assert said["iss"] == ISSUER
    assert said["aud"] in (CLIENT, [CLIENT])
    assert said["nonce"] == NONCE
    assert said["exp"] > AT - LEEWAY.total_seconds()
    assert AT - id_token.MAX_AGE.total_seconds() - 30 <= said["iat"] <= AT + 30
