"""The shapes of signing in."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, Field

from sprat_controller.access.passwords import MAX_LENGTH, MIN_LENGTH
from sprat_controller.access.sessions import Kind
from sprat_controller.api.access_schema import Name
from sprat_controller.api.schema import Accepted, Answered

# Typed, so that it may be longer than any that could be right before it is put in its normal form.
Typed = Annotated[str, Field(min_length=1, max_length=4 * MAX_LENGTH)]


class LoginRequest(Accepted):
    """Somebody's name and password."""

    name: Name
    password: Typed
    kind: Kind = Field(
        default=Kind.BEARER, description="cookie: for browsers, which must not see the secret"
    )


class Login(Answered):
    """A session that was begun."""

    id: str
    subject: str
    expires_at: AwareDatetime = Field(description="Or 30 minutes after it was last used")
    token: str | None = Field(description="The secret, this once; of kind bearer")
    csrf: str | None = Field(description="What x-sprat-csrf must say; of kind cookie")


class LoginSession(Answered):
    """A session that is not over, without its secret."""

    id: str
    subject_id: str
    kind: Kind
    authn: str
    source: str
    created_at: AwareDatetime
    last_used_at: AwareDatetime
    expires_at: AwareDatetime


class LoginSessionPage(Answered):
    """All of them, oldest first."""

    items: list[LoginSession]
    next: None = None


class PasswordChange(Accepted):
    """A password to set."""

    password: Typed = Field(description=f"At least {MIN_LENGTH} characters")
    current: Typed | None = Field(default=None, description="One's own, if there is one")


class DeviceSignIn(Answered):
    """A sign-in that waits for a code to be typed in a browser anywhere."""

    handle: str = Field(description="What to ask by; a secret")
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None = Field(description="The same, with the code in it")
    expires_at: AwareDatetime
    interval_s: int = Field(description="How long to wait before each asking")


class DeviceAsk(Accepted):
    """Has somebody typed the code by now?"""

    handle: Annotated[str, Field(max_length=256)]


class DeviceAnswer(Answered):
    """They have, and are signed in; or not yet."""

    interval_s: int | None = Field(description="How long to wait; None: they are signed in")
    login: Login | None


class SignedOut(Answered):
    """Somebody signed out at the provider."""

    sessions: int = Field(description="How many ended here")
