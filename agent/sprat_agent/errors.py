"""What can go wrong in the agent as a whole, by who can act.

    AgentError
    ├── StartupError        cannot start: one sentence for the person at the console
    └── StateError          agent.db cannot be read or written now: disk full, disk broken

What stops one execution is `sync.ports.ExecutionError`; what passes by itself is
`sync.ports.RetryLaterError`. Bugs are RuntimeError and AssertionError.
"""

from __future__ import annotations


class AgentError(Exception):
    """Base of the agent's errors that are not bugs."""


class StartupError(AgentError):
    """The agent cannot start, or the command cannot be carried out."""


class StateError(AgentError):
    """The state file cannot be read or written now; nothing of the transaction was kept."""
