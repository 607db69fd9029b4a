"""Why a request was not answered; the local API turns each into a status.

AnswerError
├── ModelNotFoundError       no such model here
├── QueueFullError           too many wait already: try again later
├── ModelLoadingError        the model is not in memory now: try again later
├── InsufficientMemoryError  it does not fit the memory budget, whatever else is evicted
├── WorkerCrashedError       the engine died while answering
├── ModelUnloadedError       the model was taken away while answering
├── RequestRefusedError      the model cannot answer this request
└── EngineFailedError        the engine failed at this request and goes on
"""

from __future__ import annotations


class AnswerError(Exception):
    """Base: a stable code for programs, one sentence for people."""

    code: str = "engine_error"

    def __init__(self, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class ModelNotFoundError(AnswerError):
    """No such model here."""

    code = "model_not_found"


class QueueFullError(AnswerError):
    """Too many requests wait already."""

    code = "queue_full"


class ModelLoadingError(AnswerError):
    """The model is not in memory now."""

    code = "model_loading"


class InsufficientMemoryError(AnswerError):
    """The model does not fit the memory budget; the message says need, budget and holders."""

    code = "insufficient_memory"


class WorkerCrashedError(AnswerError):
    """The engine died while answering."""

    code = "worker_crashed"


class ModelUnloadedError(AnswerError):
    """The model was taken away while answering."""

    code = "model_unloaded"


class RequestRefusedError(AnswerError):
    """The model cannot answer this request, however often it is asked."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class EngineFailedError(AnswerError):
    """The engine failed at this request and goes on."""
