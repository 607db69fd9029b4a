"""The shapes of the API: what is accepted and what is answered. Neither rows nor messages.

Moments are RFC 3339 in UTC; sizes are bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from sprat_proto.states import DeviceState, ExecutionState, RolloutState

from sprat_controller.access.policy import Role
from sprat_controller.rollout.plan import Action
from sprat_controller.rollout.requests import DEFAULT_CONTEXT, DEFAULT_TIMEOUT_S

MAX_LIFETIME_DAYS: Final = 3650
MAX_CLAIM_S: Final = 30 * 86400
MAX_IN_PROGRESS: Final = 1_000_000_000
Json = dict[str, Any]
TokenName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Short = Annotated[str, StringConstraints(max_length=200)]
Pem = Annotated[str, StringConstraints(max_length=16_384)]


class _In(BaseModel):
    """What is accepted: an unknown field is a mistake."""

    model_config = ConfigDict(extra="forbid")


class _Out(BaseModel):
    """What is answered; read from rows and values by attribute."""

    model_config = ConfigDict(from_attributes=True)


class Error(_Out):
    """One error."""

    code: str = Field(description="Stable, for programs")
    message: str = Field(description="One sentence for people")
    details: Json


class ErrorAnswer(_Out):
    """What every 4xx and 5xx answers."""

    error: Error


class Health(_Out):
    """The process answers."""

    status: str


class EnrolRequest(_In):
    """A device's claim and its certificate request."""

    token: Short
    csr: Pem = Field(description="PKCS#10 in PEM, P-256, signed by the key it holds")


class PublicKey(_Out):
    """A key that a device trusts."""

    name: str
    public_pem: str


class EnrolAnswer(_Out):
    """What an enrolled device needs."""

    device_id: str
    certificate: str
    ca: str
    assignment_key: PublicKey
    publishers: list[PublicKey]
    grpc: str = Field(description="host:port")
    mqtt: str | None = Field(description="host:port of the broker, if there is one")


class WhoAmI(_Out):
    """Whose token it is."""

    name: str
    role: Role
    permissions: list[str]


class TokenRequest(_In):
    """A token to make."""

    name: TokenName
    role: Role
    expires_days: Annotated[int, Field(ge=1, le=MAX_LIFETIME_DAYS)] | None = None


class Token(_Out):
    """A token without its secret."""

    id: str
    name: str
    role: Role
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    last_used_at: AwareDatetime | None
    revoked_at: AwareDatetime | None


class NewToken(Token):
    """A token with its secret, this once."""

    token: str


class TokenPage(_Out):
    """All tokens."""

    items: list[Token]
    next: None = None


class EnrolmentTokenRequest(_In):
    """A claim to make."""

    device_id: Short
    labels: dict[str, str] = {}
    ttl_s: Annotated[int, Field(ge=60, le=MAX_CLAIM_S)] = 86400


class EnrolmentToken(_Out):
    """A claim without its secret."""

    id: str
    device_id: str
    labels: dict[str, str]
    created_at: AwareDatetime
    created_by: str
    expires_at: AwareDatetime
    used_at: AwareDatetime | None
    revoked_at: AwareDatetime | None


class NewEnrolmentToken(EnrolmentToken):
    """A claim with its secret, this once."""

    token: str


class EnrolmentTokenPage(_Out):
    """A page of claims."""

    items: list[EnrolmentToken]
    next: str | None


class Device(_Out):
    """A device in a list."""

    id: str
    state: DeviceState
    online: bool
    carrier: str | None
    last_seen_at: AwareDatetime | None
    enrolled_at: AwareDatetime
    revoked_at: AwareDatetime | None
    agent_version: str
    hardware_class: str | None
    simulated: bool = Field(description="Its hardware is declared in a file, not measured")
    running: Json = Field(description="What answers under each alias")
    labels: dict[str, str]


class DevicePage(_Out):
    """A page of devices."""

    items: list[Device]
    next: str | None


class DeviceExecution(_Out):
    """A run of a rollout, as a device's page shows it."""

    id: str
    rollout_id: str
    state: ExecutionState
    step: str | None
    digest: str | None
    reason: Json | None
    started_at: AwareDatetime | None
    updated_at: AwareDatetime
    finished_at: AwareDatetime | None


class DeviceDetail(Device):
    """All that is known of a device."""

    capability: int
    profile: Json | None
    assignment_version: int = Field(description="Of the newest assignment; 0 if there is none")
    obeyed_version: int = Field(description="What the device said it obeys")
    executions: list[DeviceExecution] = Field(description="The latest, newest first")


class DeviceChange(_In):
    """What people change of a device."""

    labels: dict[str, str] = Field(description="All of them: what is missing here is removed")


class PublisherRequest(_In):
    """A publisher to make known."""

    name: Short
    public_pem: Pem


class Publisher(_Out):
    """A publisher."""

    key_id: str
    name: str
    public_pem: str
    created_at: AwareDatetime


class PublisherPage(_Out):
    """All publishers."""

    items: list[Publisher]
    next: None = None


class BlobAnswer(_Out):
    """A blob that is kept."""

    sha256: str
    size: int


class ReleaseRequest(_In):
    """A release to publish; everything it needs was uploaded."""

    release: Short
    envelopes: list[Sha256] = Field(description="SHA-256 of each variant's signed manifest")


class Release(_Out):
    """A release in a list."""

    release: str
    counter: int
    created_at: AwareDatetime
    pushed_by: str


class Model(_Out):
    """A model and its releases, highest counter first."""

    model: str
    releases: list[Release]


class ModelPage(_Out):
    """All models."""

    items: list[Model]
    next: None = None


class Envelope(_Out):
    """The blob that holds a signed manifest."""

    sha256: str
    size: int


class Variant(_Out):
    """One form of a release."""

    variant: str
    digest: str
    signer: str
    envelope: Envelope
    manifest: Json


class ReleaseDetail(Release):
    """A release with its variants."""

    model: str
    variants: list[Variant]


class PlanBody(_In):
    """Which release, under which alias, to whom; labels and devices both empty: to all."""

    model: Short
    release: Short
    alias: Short
    labels: dict[str, str] = {}
    devices: list[Short] = []
    context: int = Field(default=DEFAULT_CONTEXT, description="Tokens")


class RolloutBody(PlanBody):
    """A rollout to create."""

    name: Short = ""
    start_at: AwareDatetime | None = None
    max_in_progress: int = Field(default=0, ge=0, le=MAX_IN_PROGRESS, description="0 is no limit")
    execution_timeout_s: int = DEFAULT_TIMEOUT_S


class PlanLine(_Out):
    """What would happen on one device, and why."""

    device_id: str
    simulated: bool
    hardware_class: str | None
    action: Action
    variant: str | None
    digest: str | None
    current: str | None
    reason: Json | None
    verdicts: list[Json]


class Plan(_Out):
    """What a rollout would do."""

    devices: list[PlanLine]


class Rollout(_Out):
    """A rollout, and how many executions are in each state."""

    id: str
    name: str
    model: str
    release: str
    alias: str
    target: Json
    context: int
    state: RolloutState
    start_at: AwareDatetime | None
    max_in_progress: int
    execution_timeout_s: int
    created_at: AwareDatetime
    created_by: str
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    counts: dict[ExecutionState, int]


class RolloutPage(_Out):
    """The newest rollouts, newest first."""

    items: list[Rollout]
    next: None = None


class Execution(_Out):
    """One device's run of a rollout."""

    id: str
    rollout_id: str
    device_id: str
    simulated: bool
    position: int
    state: ExecutionState
    step: str | None
    variant: str | None
    digest: str | None
    reason: Json | None
    verdicts: list[Json]
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    deadline_at: AwareDatetime | None
    updated_at: AwareDatetime
    finished_at: AwareDatetime | None


class ExecutionPage(_Out):
    """All executions of a rollout, in the order of starting."""

    items: list[Execution]
    next: None = None


class AuditItem(_Out):
    """One record; `hash` is SHA-256(hash of the record before || body as it was written)."""

    seq: int
    hash: str
    body: Json


class AuditPage(_Out):
    """A page of a log, oldest first."""

    items: list[AuditItem]
    next: int | None


class ChainAnswer(_Out):
    """What a check of a log found."""

    ok: bool
    records: int
    head: str | None
    message: str
