"""How an answer begins: what kind of decoding a request asks for."""

from __future__ import annotations

from sprat_agent.runtime.wire import Request
from sprat_agent.worker.decoding import grammar
from sprat_agent.worker.decoding.constraint import Grammars
from sprat_agent.worker.decoding.decoding import Decoding
from sprat_agent.worker.decoding.text import TextDecoding
from sprat_agent.worker.vocabulary import Vocabulary


class Decodings:
    """Begins answers of one model, whose chat template says how it writes tool calls."""

    def __init__(self, vocabulary: Vocabulary, template: str) -> None:
        self._vocabulary = vocabulary
        self._template = template
        self._grammars = Grammars(vocabulary)

    def begin(self, request: Request) -> Decoding:
        """Return an answer's state before its first token.

        Raises:
            EngineError: not_supported: the schema cannot be held to.
        """
        if request.schema is None:
            return TextDecoding(self._vocabulary, request.stop)
        constraint = self._grammars.constraint(grammar.answer(request.schema))
        return TextDecoding(self._vocabulary, request.stop, constraint)
