"""A vocabulary that is read for constraints when a test lets it."""

from __future__ import annotations

import threading

from simulators.byte_vocabulary import ByteVocabulary


class SlowVocabulary(ByteVocabulary):
    """`gate` holds the thread that reads it while it is not set; `is_begun` tells of that one."""

    def __init__(self) -> None:
        super().__init__()
        self.is_begun = threading.Event()
        self.gate = threading.Event()
        self.failures = 0  # how many more readings fail

    def name(self, token: int) -> bytes:
        if threading.current_thread().name == "grammars":
            self.is_begun.set()
            assert self.gate.wait(20)
            if self.failures:
                self.failures -= 1
                raise OSError("told to fail")
        return super().name(token)
