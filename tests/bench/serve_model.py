"""A device's inference and nothing else, for measuring: `serve_model.py FILE SLOTS CONTEXT`.

Prints the port of the local API, then serves until its standard input is closed.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import tempfile
import uuid
from pathlib import Path

import shapes
from sprat_agent.api.app import build_app
from sprat_agent.api.server import LocalApi
from sprat_agent.clock import system_clock
from sprat_agent.runtime.supervisor import Supervisor
from sprat_agent.sync.ports import Loadable, Serving, ShardFile
from sprat_proto.gguf import facts

ALIAS = "assistant"


class NoCrashes:
    """Nothing is remembered."""

    def note(self, digest: str) -> int:
        """Count none."""
        del digest
        return 0

    def count(self, digest: str) -> int:
        """Return none."""
        del digest
        return 0


async def serve(path: Path, slots: int, context: int) -> None:
    """Serve until standard input ends."""
    with tempfile.TemporaryDirectory(prefix="sprat-bench-") as folder:
        supervisor = Supervisor(1 << 40, Path(folder) / "run", nobody, crashes=NoCrashes())
        await supervisor.load_committed(loadable(path, slots, context))
        app = build_app(
            supervisor,
            clock=system_clock,
            new_id=lambda: uuid.uuid4().hex,
            is_simulated=False,
            status=dict,
        )
        api = LocalApi(app, "127.0.0.1:0", Path(folder) / "sprat.sock")
        url = await api.start()
        print(url.rpartition(":")[2], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await api.stop()
        await supervisor.close()


def loadable(path: Path, slots: int, context: int) -> Loadable:
    """Return a file as a verified variant."""
    digest = hashlib.file_digest(path.open("rb"), "sha256").hexdigest()
    return Loadable(
        alias=ALIAS,
        model="qwen3-shape",
        release="1.0.0",
        variant="q4_0",
        digest=digest,
        signer="bench",
        files=(ShardFile(path, digest, path.stat().st_size),),
        facts=facts(path, "q4_0"),
        context=context,
        chat_template=shapes.TEMPLATE,
        serving=Serving(slots=slots),
    )


def nobody(_tag: str, _subject: str, _details: object) -> None:
    """Nobody audits."""


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
