"""The shapes of fit in the API; see `schema`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from sprat_proto.assignment import AS_DEVICE_DECIDES

from sprat_controller.api.rollout_schema import Policy
from sprat_controller.api.schema import Accepted, Answered, Json, Short
from sprat_controller.rollout.requests import DEFAULT_CONTEXT

MAX_MODELS = 64


class TermsBody(Accepted):
    """How a model would run."""

    context: int = Field(default=DEFAULT_CONTEXT, description="Tokens")
    slots: int = Field(default=0, description="Requests answered at once; 0 counts as one")
    kv_type: Short = Field(
        default=AS_DEVICE_DECIDES.kv_type, description="Of keys and values: f16 or q8_0"
    )
    policy: Policy | None = Field(default=None, description="null: the release's own")


class FitBody(TermsBody):
    """Which model, and on what: exactly one of `device`, `hardware_class` and `profile`."""

    model: Short
    release: Short | None = Field(default=None, description="null: the newest")
    device: Short | None = None
    hardware_class: Short | None = None
    profile: Json | None = Field(default=None, description="As `sprat devices show` has it")


class MatrixBody(TermsBody):
    """Which models: names, or `model@release`; none: the newest release of each."""

    models: list[Short] = Field(default_factory=list[Short], max_length=MAX_MODELS)


class Choice(Answered):
    """The variant that would be chosen, and the verdict on each, best first."""

    model: str
    release: str
    chosen: str | None
    digest: str | None
    verdicts: list[Json]


class Fit(Choice):
    """A choice, and for what it was made."""

    judged: Literal["device", "class", "profile"]
    hardware: Json


class MatrixCell(Choice):
    """One release on one hardware class."""

    hardware_class: str


class Matrix(Answered):
    """Every release on every hardware class."""

    classes: list[Json]
    releases: list[Json]
    cells: list[MatrixCell]
