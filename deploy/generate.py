"""Regenerate the committed files that are made from others; `--check` only compares.

proto/sprat_proto/v1/link_pb2*.py[i]   from link.proto, by grpcio-tools and mypy-protobuf
docs/states.md                         from the transition tables in the code
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from sprat_agent.sync import phases as agent_phases
from sprat_controller.rollout import phases as rollout_phases
from sprat_controller.rollout.phases import EventT, StateT, Table

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
PROTO_FILES = ("sprat_proto/v1/link.proto",)
GENERATED = "sprat_proto/v1"
STATES = ROOT / "docs" / "states.md"
STATES_HEAD = """# States

Drawn from the transition tables in the code by `deploy/generate.py`; `make test` checks that this
page is current. An arrow says what happened; a state without an arrow out of it is final.
"""


def main() -> int:
    """Write the generated files, or compare them; return the exit status."""
    parser = argparse.ArgumentParser(description="Regenerate committed files.")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        made = compile_protos(Path(folder)) | {STATES: draw_states().encode()}
        stale = [path for path, data in made.items() if not same(path, data)]
        if check and stale:
            names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
            print(f"not what their sources say: {names}; run `make proto` and commit")
            return 1
        for path in stale:
            path.write_bytes(made[path])
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


def compile_protos(into: Path) -> dict[Path, bytes]:
    """Compile each .proto; return the generated files by their place in the tree."""
    tools = Path(sys.executable).parent
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--plugin=protoc-gen-mypy={tools / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={tools / 'protoc-gen-mypy_grpc'}",
            f"-I{PROTO}",
            f"--python_out={into}",
            f"--grpc_python_out={into}",
            f"--mypy_out=quiet:{into}",
            f"--mypy_grpc_out=quiet:{into}",
            *PROTO_FILES,
        ],
        check=True,
    )
    made = sorted((into / GENERATED).iterdir())
    return {PROTO / GENERATED / path.name: path.read_bytes() for path in made}


def draw_states() -> str:
    """Return the page of state diagrams."""
    drawn = (
        diagram(
            "A rollout",
            "`sprat_controller/rollout/phases.py`, ROLLOUT",
            rollout_phases.ROLLOUT,
        ),
        diagram(
            "A group of a rollout",
            "`sprat_controller/rollout/phases.py`, GROUP",
            rollout_phases.GROUP,
        ),
        diagram(
            "An execution, as the controller sees it",
            "`sprat_controller/rollout/phases.py`, EXECUTION",
            rollout_phases.EXECUTION,
        ),
        diagram(
            "An execution on the device",
            "`sprat_agent/sync/phases.py`, TRANSITIONS",
            agent_phases.TRANSITIONS,
        ),
    )
    return STATES_HEAD + "".join(drawn)


def diagram(title: str, source: str, table: Table[StateT, EventT]) -> str:
    """Return one section with a Mermaid state diagram of a transition table."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for state, row in table.items():
        for event, target in row.items():
            arrows.setdefault((str(state), str(target)), []).append(str(event))
    first = next(iter(table))
    lines = [f"    [*] --> {first}"]
    lines += [f"    {a} --> {b}: {', '.join(events)}" for (a, b), events in arrows.items()]
    lines += [f"    {state} --> [*]" for state, row in table.items() if not row]
    body = "\n".join(lines)
    return f"\n## {title}\n\n{source}\n\n```mermaid\nstateDiagram-v2\n{body}\n```\n"


def same(path: Path, data: bytes) -> bool:
    """Tell whether the committed file holds these bytes."""
    return path.exists() and path.read_bytes() == data


if __name__ == "__main__":
    sys.exit(main())
