"""Damaged files: one byte, one block, one length at a time; what a shard then says.

In: a small shard with everything in it (two codecs, objects, dead rows, text indexes, a log), as bytes by file name, and its
ledger. Out: per damage one of three verdicts: *refused* (ShardFailed that names the file), *right* (every answer is as if
nothing had happened), or wrong. Real files on a RAM disk and in processes of their own, for a library may crash on bytes.

The newest translog alone may come back shorter, if its end is cut off or zeroed: that is what a torn tail looks like,
and what was acknowledged behind it cannot be told from what was not. A changed byte in it is always noticed after a
clean stop.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from cratepy.clock import FakeClock
from cratepy.errors import ShardFailed
from cratepy.storage.filesystem import RealFileSystem
from tests.crash.ledger import Ledger
from tests.crash.session import Session, Setup, Step, Write

BLOCK: Final = 512
Verdict = Literal["refused", "right", "shorter"]


@dataclass(frozen=True, slots=True)
class Damage:
    """What is done to a file: ``flip`` xors a byte, ``cut`` keeps so many bytes, ``zero`` wipes a block, ``remove``."""

    file: str
    kind: Literal["flip", "cut", "zero", "remove", "longer"]
    at: int = 0
    mask: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.file} at {self.at}" + (f" by {self.mask:#04x}" if self.mask else "")

    def of(self, content: bytes) -> bytes | None:
        match self.kind:
            case "flip":
                return content[: self.at] + bytes([content[self.at] ^ self.mask]) + content[self.at + 1 :]
            case "cut":
                return content[: self.at]
            case "zero":
                return content[: self.at] + bytes(len(content[self.at : self.at + BLOCK])) + content[self.at + BLOCK :]
            case "longer":
                return content + bytes([self.mask]) * self.at
            case "remove":
                return None


@dataclass(frozen=True, slots=True)
class Specimen:
    """A shard at rest. ``count`` operations are in it, of which ``flushed`` are in segments."""

    setup: Setup
    #: Path below the shard's root → bytes.
    files: dict[str, bytes]
    ledger: Ledger
    flushed: int

    @property
    def newest_log(self) -> str:
        logs = [name for name in self.files if "/translog-" in name]
        return max(logs, key=lambda name: int(name.rpartition("-")[2]))

    def damages(self, *, seed: int, every: int = 1) -> Iterator[Damage]:
        """Of each file: each byte flipped, each block wiped, lengths, its absence; ``every`` takes one of so many."""
        chance = random.Random(seed)
        everything: list[Damage] = []
        for file, content in sorted(self.files.items()):
            everything += [
                Damage(file, "flip", at, chance.choice((1, 0x80, chance.randrange(1, 256))))
                for at in range(len(content))
            ]
            everything += [Damage(file, "zero", at) for at in range(0, len(content), BLOCK)]
            lengths = {0, 1, len(content) - 1, *range(0, len(content), 61)}
            everything += [Damage(file, "cut", at) for at in sorted(lengths) if 0 <= at < len(content)]
            everything += [Damage(file, "longer", 1, 0x55), Damage(file, "longer", 4096, 0), Damage(file, "remove")]
        yield from everything[chance.randrange(every) :: every]


def make_specimen(root: Path) -> Specimen:
    """Write a shard of about everything a shard can hold, small, and stop it cleanly."""
    setup = Setup(has_object=True, has_text_index=True)
    ledger = Ledger()
    session = Session(setup, RealFileSystem(), ledger, FakeClock(seed=1), root=root)
    session.open(create=True)

    def write(seed: int, rows: int, kind: Literal["insert", "index", "delete"] = "index") -> Step:
        return Write(kind, seed, rows, is_plain=False)

    for step in (write(1, 4), write(2, 4), "flush", write(3, 4), write(4, 1, "delete"), "flush"):
        session.perform(step)
    # From here on segments are compressed.
    compressed = replace(setup, codec="best_compression")
    session.shard.update_definition(compressed.definition())
    for step in (write(5, 4), write(6, 2), "flush", write(7, 2, "delete"), "term", write(8, 3), "flush"):
        session.perform(step)
    flushed = ledger.count
    for step in (write(9, 2), write(10, 1), write(11, 1, "delete"), "sync", write(12, 2), "sync"):
        session.perform(step)
    session.shard.close()
    session.store.close()
    assert len({row for state in ledger.states for row in state}) > 4
    ledger.acknowledge()
    files = {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    return Specimen(compressed, files, ledger, flushed)


def examine(specimen: Specimen, damage: Damage | None, root: Path) -> Verdict:
    """Lay the shard out with the damage, ask it everything. Raises AssertionError, or whatever the shard should not."""
    shutil.rmtree(root, ignore_errors=True)
    for name, content in specimen.files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        laid = damage.of(content) if damage is not None and damage.file == name else content
        if laid is not None:
            path.write_bytes(laid)
    may_be_shorter = damage is not None and damage.kind in ("cut", "zero") and damage.file == specimen.newest_log
    known = specimen.ledger.fork(specimen.ledger.count, specimen.flushed if may_be_shorter else specimen.ledger.count)
    session = Session(specimen.setup, RealFileSystem(), known, FakeClock(seed=2), root=root)
    try:
        session.open(create=False)
        session.settle()
        session.check_more()
    except ShardFailed as failed:
        assert damage is not None, failed
        named = damage.file.partition("/a/")[2]
        assert named in failed.message, f"the reason does not name {named}: {failed.message}"
        return "refused"
    finally:
        # Text indexes have threads and files of their own.
        session.store.close()
    return "right" if known.count == specimen.ledger.count else "shorter"
