"""Deliberate bugs, each a step of the discipline left out: the proof that the simulation would notice.

They are made in the simulated disk, the clock and the ledger, never in the product: what a step left out does to the disk
is the same as the disk not doing it. A mutant is caught when some history of it fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

import google_crc32c

from tests.crash.disk import Faults
from tests.crash.failing import FailingCalls
from tests.crash.histories import Explorer, Mutation

#: A mutant must be caught within so many histories.
HISTORIES_MAX: Final = 20_000
#: Seeds of its own, so that a lucky seed of the main run is no excuse.
_FIRST_SEED: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    mutation: Mutation
    by: Literal["power cuts", "failing calls"] = "power cuts"
    has_checksums: bool = True


MUTANTS: Final = (
    Mutant("directories are not synced", Mutation(Faults(skips_directory_syncs=True))),
    Mutant("a new translog's name is not synced", Mutation(Faults(forgotten_names=("/translog-",)))),
    Mutant("a new segment's name is not synced", Mutation(Faults(forgotten_names=("/seg-",)))),
    Mutant("the new manifest's name is not synced", Mutation(Faults(forgotten_names=("/manifest",)))),
    Mutant("the manifest is not synced before its rename", Mutation(Faults(skipped_syncs=("/manifest.tmp",)))),
    Mutant("segments are not synced", Mutation(Faults(skipped_syncs=("/seg-",)))),
    Mutant("dead rows are not synced", Mutation(Faults(skipped_syncs=("/deletes-",)))),
    Mutant("the translog is not synced", Mutation(Faults(skipped_syncs=("/translog-",)))),
    Mutant("the translog is synced in part", Mutation(Faults(short_syncs=("/translog-",)))),
    Mutant("the manifest comes before its data", Mutation(Faults(delays_segment_syncs=True))),
    Mutant("the translog goes before the manifest comes", Mutation(Faults(unlinks_translogs_early=True))),
    Mutant("a rename removes first", Mutation(Faults(rename_is_two_steps=True))),
    Mutant("the torn tail is not cut off", Mutation(Faults(skips_truncate=True))),
    Mutant("writes are acknowledged before the sync", Mutation(acknowledges_early=True)),
    Mutant("all translogs have one file id", Mutation(has_constant_ids=True)),
    Mutant("checksums are not compared", Mutation(), has_checksums=False),
    Mutant("a failed sync is ignored", Mutation(Faults(ignores_sync_errors=True)), by="failing calls"),
    Mutant("a failed write is ignored", Mutation(Faults(ignores_write_errors=True)), by="failing calls"),
)


def hunt(mutant: Mutant, histories_max: int = HISTORIES_MAX) -> int:
    """Histories until it was caught, or 0: it was not."""
    histories, seed = 0, _FIRST_SEED
    with _checksums(mutant.has_checksums):
        while histories < histories_max:
            seed += 1
            left = histories_max - histories
            run: Explorer | FailingCalls
            if mutant.by == "power cuts":
                run = Explorer(seed, mutation=mutant.mutation, failures_max=1, histories_max=left)
            else:
                run = FailingCalls(seed, mutation=mutant.mutation, failures_max=1, histories_max=left)
            run.run()
            histories += run.histories
            if run.failures:
                return max(histories, 1)
    return 0


@contextmanager
def _checksums(are_real: bool) -> Iterator[None]:
    """Without: every checksum of everything is 0, so all agree."""
    if are_real:
        yield
        return
    extend, value = google_crc32c.extend, google_crc32c.value
    google_crc32c.extend = lambda checksum, data: 0
    google_crc32c.value = lambda data: 0
    try:
        yield
    finally:
        google_crc32c.extend, google_crc32c.value = extend, value
