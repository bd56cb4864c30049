"""Names for nodes that were given none: mountains of the Alps, as CrateDB does, with three digits against collisions."""

from __future__ import annotations

from typing import Final

from cratepy.clock import Clock

MOUNTAINS: Final = (
    "Grossglockner", "Wildspitze", "Weisskugel", "Grossvenediger", "Hochfeiler", "Zuckerhuetl", "Ankogel", "Hochkoenig",
    "Dachstein", "Parseierspitze", "Piz Bernina", "Dom", "Weisshorn", "Matterhorn", "Grandes Jorasses", "Finsteraarhorn",
    "Jungfrau", "Eiger", "Moench", "Aletschhorn", "Piz Buin", "Silvretta", "Watzmann", "Zugspitze", "Hochalmspitze",
    "Olperer", "Ortler", "Koenigspitze", "Marmolata", "Adamello", "Presanella", "Langkofel", "Triglav", "Mangart",
)  # fmt: skip


def random_node_name(clock: Clock) -> str:
    """A mountain and three digits."""
    mountain = MOUNTAINS[int(clock.random() * len(MOUNTAINS))]
    return f"{mountain}-{int(clock.random() * 1000):03d}"
