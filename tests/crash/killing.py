"""Lives of a real shard process, each ended by SIGKILL: at a call to the system that strace picks, or at any time.

In: a directory, a ledger that lives as long as it, a place to die. Out: what each start finds, compared with the ledger
by the same checks as on the simulated disk (:mod:`tests.crash.session`, over a pipe). What a killed process has written
is in the system's cache, so it must be there in full: nothing that a call returned for may be missing, synced or not.
"""

from __future__ import annotations

import base64
import contextlib
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cratepy.clock import FakeClock
from cratepy.storage.filesystem import RealFileSystem
from tests.crash.histories import Failure
from tests.crash.ledger import Ledger
from tests.crash.session import Session, Setup, Step, draw_setup, draw_steps

#: Calls to the system that change files; strace takes names with a question mark as "if there is one here".
SYSCALLS: Final = (
    *("pwrite64", "fdatasync", "fsync", "rename", "unlink", "ftruncate", "fallocate"),
    *("mkdir", "rmdir", "unlinkat", "linkat", "write"),
)
_STEPS: Final = 30
#: After so many lives a chain starts with an empty directory.
_LIVES: Final = 25
_ROOT: Final = Path(__file__).parents[2]
_DISK: Final = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())


class Died(BaseException):
    """The process is gone. No Exception: a killed write was not refused."""


class RemoteShard:
    """The methods of a shard, called in another process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def wait_ready(self) -> None:
        self._read()

    def merge(self, **_: Any) -> Any:
        return self._call("merge", (), {})

    @property
    def position(self) -> int:
        found: int = self._call("position", (), {})
        return found

    @property
    def failure(self) -> str | None:
        found: str | None = self._call("failure", (), {})
        return found

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **options: self._call(name, arguments, options)

    def _call(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(base64.b64encode(pickle.dumps((name, arguments, options))) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise Died from error
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise Died
        result = pickle.loads(base64.b64decode(line))
        if isinstance(result, RuntimeError):
            raise result
        return result


@dataclass(slots=True)
class Chain:
    """Life after life on one directory, until it has seen enough and starts anew."""

    seed: int
    is_traced: bool
    lives: int = 0
    #: Lives that ended at the call strace picked: (system call, its number).
    points: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    _story: list[str] = field(default_factory=list)
    _seen: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SYSCALLS, 8))

    def run(self, lives: int) -> None:
        """So many lives; stops at the first failure."""
        chance = random.Random(self.seed)
        directory = Path(tempfile.mkdtemp(prefix=f"crash-kill-{self.seed}-", dir=_DISK))
        try:
            for life in range(lives):
                if life % _LIVES == 0:
                    shutil.rmtree(directory)
                    directory.mkdir()
                    ledger, setup = Ledger(), draw_setup(chance.getrandbits(30), text_share=0.1)
                    self._story = [f"{setup}"]
                self._live(directory, ledger, setup, chance)
                if self.failures:
                    return
        finally:
            shutil.rmtree(directory)

    def _live(self, directory: Path, ledger: Ledger, setup: Setup, chance: random.Random) -> None:
        self.lives += 1
        trace = directory.with_suffix(".trace")
        command = [sys.executable, "-m", "tests.crash.shard_process", str(directory)]
        command.append(base64.b64encode(pickle.dumps((setup, ledger.primary_term))).decode())
        call, number = "", 0
        timer: threading.Timer | None = None
        if self.is_traced:
            call = chance.choice(SYSCALLS)
            number = chance.randint(1, max(1, self._seen[call]))
            command = [*_strace(call, number, trace), *command]
        else:
            command.append("busy")
        self._story.append(f"life {self.lives}: {call} {number}")
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=_ROOT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            start_new_session=True,
        ) as process:
            if not self.is_traced:
                # From the start of the process on in one of five lives, so that openings are hit, too.
                timer = threading.Timer(0.4 + 0.4 * chance.random() if chance.random() < 0.2 else 60, _kill, (process,))
                timer.start()
            try:
                self._work(process, ledger, setup, chance)
                if self.is_traced:
                    self._story.append("survived")
            except Died:
                self._story.append(f"died with {ledger.acknowledged} of {ledger.count} acknowledged")
            except Exception as error:
                self._fail(error, process)
            finally:
                if timer is not None:
                    timer.cancel()
                _kill(process)
                # What was not sent to a dead process cannot be flushed either.
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()  # type: ignore[union-attr]
        if self.is_traced:
            self._learn(trace, call)

    def _work(self, process: subprocess.Popen[bytes], ledger: Ledger, setup: Setup, chance: random.Random) -> None:
        shard = RemoteShard(process)
        session = Session(setup, RealFileSystem(), ledger, FakeClock())
        session.shard = shard  # type: ignore[assignment]
        shard.wait_ready()
        session.settle()
        if not self.is_traced:
            threading.Timer(chance.expovariate(20), _kill, (process,)).start()
        while True:
            for step in draw_steps(chance, _STEPS, setup):
                if step != "reopen":
                    self._perform(session, step)
            if self.is_traced:
                return

    def _perform(self, session: Session, step: Step) -> None:
        self._story.append(f"  {step}")
        session.perform(step)

    def _fail(self, error: Exception, process: subprocess.Popen[bytes]) -> None:
        _kill(process)
        assert process.stderr is not None
        told = process.stderr.read().decode(errors="replace").splitlines()[-12:]
        why = f"{type(error).__name__}: {error}"
        kind = "traced" if self.is_traced else "random"
        self.failures.append(Failure(f"{kind} {self.seed}, life {self.lives}", why, (*self._story[-80:], *told)))

    def _learn(self, trace: Path, call: str) -> None:
        """How often each call came, for places to die in the next lives; and whether this one died where it should."""
        text = trace.read_text(errors="replace")
        trace.unlink()
        counts = Counter(re.findall(r"^\d+ +(\w+)\(", text, re.MULTILINE))
        for name in SYSCALLS:
            # A life cut short says little about how many there are.
            self._seen[name] = max(counts[name] + 2, self._seen[name] * 9 // 10, 2)
        if "killed by SIGKILL" in text:
            self.points[call] += 1


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With strace, whose child would live on and keep the pipes open."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _strace(call: str, number: int, trace: Path) -> list[str]:
    traced = ",".join(f"?{name}" for name in SYSCALLS)
    inject = f"?{call}:signal=SIGKILL:when={number}"
    # Not with --seccomp-bpf: strace 6.1 then injects no signals.
    return ["strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={traced}", "-e", f"inject={inject}"]


def strace_refusal() -> str | None:
    """Why there can be no traced lives here, or None."""
    if shutil.which("strace") is None:
        return "strace is missing: apt-get install -y strace"
    with tempfile.TemporaryDirectory() as directory:
        command = [*_strace("fsync", 1 << 15, Path(directory) / "trace"), "true"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"strace is not permitted here: {done.stderr.strip()[-200:]}"
