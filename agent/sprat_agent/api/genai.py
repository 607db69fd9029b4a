"""Names of OpenTelemetry's semantic conventions for generative AI, written once.

They are kept here and not imported: the conventions are still in development and have moved out of
OpenTelemetry's own Python package. Source: open-telemetry/semantic-conventions-genai, 2026-08.
"""

from __future__ import annotations

from typing import Final

# Attributes
OPERATION_NAME: Final = "gen_ai.operation.name"
REQUEST_MODEL: Final = "gen_ai.request.model"  # here: the alias, never what a client made up
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - counts tokens of text
ERROR_TYPE: Final = "error.type"

# Metrics of a server, in seconds
REQUEST_DURATION: Final = "gen_ai.server.request.duration"
TIME_TO_FIRST_TOKEN: Final = "gen_ai.server.time_to_first_token"  # noqa: S105 - as above
TIME_PER_OUTPUT_TOKEN: Final = "gen_ai.server.time_per_output_token"  # noqa: S105 - as above

# Values of gen_ai.operation.name
CHAT: Final = "chat"
TEXT_COMPLETION: Final = "text_completion"
EMBEDDINGS: Final = "embeddings"

# Bounds of buckets, in seconds: those of the conventions, and above them what a small board needs,
# where a prompt of 1,000 tokens takes longer than the conventions' last bound.
DURATION_BOUNDS: Final = (
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    *(160.0, 320.0),
)
FIRST_TOKEN_BOUNDS: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 30.0, 60.0, 120.0, 300.0),
)
PER_TOKEN_BOUNDS: Final = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)


def label(attribute: str) -> str:
    """Return an attribute's name as a Prometheus label (OpenTelemetry's own mapping)."""
    return attribute.replace(".", "_")
