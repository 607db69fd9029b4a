"""A process that goes into the jail and tries one thing: `inmate.py WALLS ATTEMPT FOLDER`.

It says `done`, or the name of the error that it got; and what the jail lacks.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sprat_agent.worker.jail import kernel, landlock, seccomp
from sprat_agent.worker.jail.address_space import address_space
from sprat_agent.worker.jail.enter import enter

MEMORY_BYTES: Final = 1 << 30
WRITTEN_BYTES: Final = 4096
_NO_NEW_PRIVS: Final = 38
LANDLOCK: Final = 444
_TOO_MUCH: Final = 2 << 30

NUMBERS: Final = {
    "x86_64": {"ptrace": 101, "io_uring_setup": 425, "clone": 56, "clone3": 435, "bpf": 321},
    "aarch64": {"ptrace": 117, "io_uring_setup": 425, "clone": 220, "clone3": 435, "bpf": 280},
}[os.uname().machine]


class Inmate:
    """What it may have is open before it goes in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = os.open(folder / "model.gguf", os.O_RDONLY)
        self.prefixes = os.open(folder / "prefixes", os.O_RDWR)
        self.memory = os.memfd_create("prefixes")
        os.write(self.memory, b"kept")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.tcp = socket.socket()
        self.pair = socket.socketpair()

    def go_in(self, walls: str) -> tuple[str, ...]:
        """Raise these walls around the process."""
        lacking: tuple[str, ...] = ()
        match walls:
            case "none":
                pass
            case "landlock":
                kernel.prctl(_NO_NEW_PRIVS, 1)
                landlock.restrict(landlock.version(), readable=self._readable())
            case "seccomp":
                kernel.prctl(_NO_NEW_PRIVS, 1)
                seccomp.restrict()
            case "jail":
                lacking = self._enter()
            case "jail of a kernel without landlock":
                _take_away(LANDLOCK)
                lacking = self._enter()
            case "jail of a kernel without seccomp":
                _take_away(seccomp.ARCHITECTURES[os.uname().machine].seccomp)
                lacking = self._enter()
            case "jail with an earlier thread":
                threading.Thread(target=threading.Event().wait, daemon=True).start()
                lacking = self._enter()
            case _:
                raise ValueError(walls)
        return lacking

    def _enter(self) -> tuple[str, ...]:
        return enter(
            readable=[*self._readable(), *(Path(one) for one in sys.path if one)],
            memory_bytes=MEMORY_BYTES,
            written=[Path(f"/proc/self/fd/{self.prefixes}")],
            written_bytes=WRITTEN_BYTES,
        )

    def _readable(self) -> list[Path]:
        descriptors = (self.model, self.memory)
        open_files = [Path(f"/proc/self/fd/{one}") for one in descriptors]
        return [*open_files, self.folder / "was never there", Path(__file__) / "no folder"]

    def map_the_model(self) -> None:
        with mmap.mmap(self.model, 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[:4] == b"GGUF"

    def open_the_model_again(self) -> None:
        again = os.open(f"/proc/self/fd/{self.model}", os.O_RDONLY)
        assert os.read(again, 4) == b"GGUF"

    def open_memory_again(self) -> None:
        again = os.open(f"/proc/self/fd/{self.memory}", os.O_RDONLY)
        assert os.read(again, 4) == b"kept"

    def start_threads(self) -> None:
        threads = [threading.Thread(target=self.map_the_model) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def speak_to_the_agent(self) -> None:
        self.pair[0].sendall(b"hello")
        assert self.pair[1].recv(16) == b"hello"

    def import_late(self) -> None:
        import colorsys  # noqa: PLC0415 - nothing else here needs it

        assert colorsys.__file__

    def tell_the_address_space(self) -> None:
        before = address_space()
        with mmap.mmap(-1, 64 << 20):
            assert address_space() >= before + (64 << 20)

    def write_prefixes(self) -> None:
        again = os.open(f"/proc/self/fd/{self.prefixes}", os.O_RDWR | os.O_TRUNC)
        assert os.pwrite(again, b"x" * WRITTEN_BYTES, 0) == WRITTEN_BYTES
        os.ftruncate(self.prefixes, 0)

    def abort(self) -> None:
        signal.signal(signal.SIGABRT, signal.SIG_IGN)
        signal.raise_signal(signal.SIGABRT)

    # The twelve of T44.

    def write_the_model(self) -> None:
        os.open(f"/proc/self/fd/{self.model}", os.O_RDWR)

    def read_passwords(self) -> None:
        Path("/etc/passwd").read_bytes()

    def create_a_file(self) -> None:
        os.open(self.folder / "evil", os.O_CREAT | os.O_WRONLY)

    def list_the_root(self) -> None:
        list(Path("/").iterdir())

    def make_a_tcp_socket(self) -> None:
        socket.socket()

    def make_a_udp_socket(self) -> None:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def make_a_unix_socket(self) -> None:
        socket.socket(socket.AF_UNIX)

    def run_a_program(self) -> None:
        os.execv("/bin/echo", ["echo", '["done", []]'])  # noqa: S606 - no shell is the point

    def signal_the_agent(self) -> None:
        os.kill(os.getppid(), 0)

    def take_two_gigabytes(self) -> None:
        mmap.mmap(-1, _TOO_MUCH).close()

    def trace_the_agent(self) -> None:
        seize = 0x4206
        kernel.syscall(NUMBERS["ptrace"], seize, os.getppid(), 0, 0)

    def make_an_io_uring(self) -> None:
        room = ctypes.create_string_buffer(256)  # struct io_uring_params
        kernel.syscall(NUMBERS["io_uring_setup"], 4, room)

    # And what else one would try.

    def fork(self) -> None:
        if os.fork() == 0:
            os._exit(0)

    def spawn(self) -> None:
        subprocess.run(["/bin/true"], check=True)

    def unshare(self) -> None:
        new_ipc = 0x08000000
        numbers = {"x86_64": 272, "aarch64": 97}
        kernel.syscall(numbers[os.uname().machine], new_ipc)

    def connect_what_was_there(self) -> None:
        self.tcp.connect(("127.0.0.1", self.port))

    def bind_what_was_there(self) -> None:
        self.tcp.bind(("127.0.0.1", 0))

    def accept_what_was_there(self) -> None:
        self.listener.settimeout(0)
        try:
            self.listener.accept()
        except BlockingIOError:
            return

    def pass_a_descriptor_on(self) -> None:
        socket.send_fds(self.pair[0], [b"x"], [self.model])

    def change_a_mode(self) -> None:
        os.fchmod(self.model, 0o600)

    def remove_the_model(self) -> None:
        (self.folder / "model.gguf").unlink()

    def make_a_folder(self) -> None:
        (self.folder / "evil folder").mkdir()

    def outlive_the_agent(self) -> None:
        kernel.prctl(1, 0)

    def be_dumpable(self) -> None:
        kernel.prctl(4, 1)

    def read_its_own_memory_map(self) -> None:
        Path("/proc/self/maps").read_bytes()

    def write_too_much(self) -> None:
        os.ftruncate(self.prefixes, WRITTEN_BYTES + 1)

    def limit_the_agent(self) -> None:
        resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)

    def lift_its_limits(self) -> None:
        infinite = resource.RLIM_INFINITY
        try:
            resource.setrlimit(resource.RLIMIT_AS, (infinite, infinite))
        except ValueError as error:  # what Python makes of EPERM
            raise PermissionError(errno.EPERM, "not allowed to raise it") from error

    def open_many_files(self) -> None:
        for _ in range(200):
            os.dup(self.model)


def _take_away(call: int) -> None:
    """Have the kernel not know a system call, as an old one does not."""
    kernel.prctl(_NO_NEW_PRIVS, 1)
    steps: list[seccomp.Step] = [
        *((0x20, 0, 0, 0), (0x15, 0, 1, call)),  # is it the number?
        *((0x06, 0, 0, seccomp.ERROR | errno.ENOSYS), (0x06, 0, 0, seccomp.ALLOW)),
    ]
    seccomp.install(seccomp.ARCHITECTURES[os.uname().machine], steps)


def main() -> None:
    walls, attempt, folder = sys.argv[1:]
    inmate = Inmate(Path(folder))
    doing: Callable[[], None] = getattr(inmate, attempt)
    lacking = inmate.go_in(walls)
    said = "done"
    try:
        doing()
    except OSError as error:
        said = errno.errorcode[error.errno or 0]
    print(json.dumps([said, lacking]), flush=True)  # noqa: T201 - that is its answer
    os._exit(0)


if __name__ == "__main__":
    main()
