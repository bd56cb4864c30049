"""The modes of a node and the ways between them: one table, which the coordinator obeys and the documentation shows.

A change of mode that is not in the table is a bug and fails an assertion at once; the simulator asserts that every way in
it is gone. ``python -m cratepy.cluster.coordination.transitions`` prints the diagram of docs/architecture/coordination.md.
"""

from __future__ import annotations

import enum
from typing import Final

from cratepy.records import dataclass


class Mode(enum.Enum):
    """What a node is at a time."""

    CANDIDATE = "candidate"
    LEADER = "leader"
    FOLLOWER = "follower"


@dataclass(frozen=True, slots=True)
class Transition:
    """A way from one mode to another, and the causes it is taken for."""

    source: Mode
    target: Mode
    causes: tuple[str, ...]


TRANSITIONS: Final = (
    Transition(Mode.CANDIDATE, Mode.LEADER, ("votes of a majority of both voting configurations",)),
    Transition(
        Mode.CANDIDATE,
        Mode.FOLLOWER,
        ("a state published in this term", "a follower check in this term, unless it has left"),
    ),
    Transition(
        Mode.FOLLOWER,
        Mode.CANDIDATE,
        (
            "the connection to the master broke",
            "the master did not answer its checks",
            "the master does not know this node as a member",
            "a newer term was heard of",
        ),
    ),
    Transition(
        Mode.LEADER,
        Mode.CANDIDATE,
        (
            "a publication found no majority in time",
            "a newer term was heard of",
            "it was asked to step down, or its disk is not well",
            "the committed voting configuration does not contain it",
        ),
    ),
)

_ALLOWED: Final = frozenset((transition.source, transition.target) for transition in TRANSITIONS)


def is_allowed(source: Mode, target: Mode) -> bool:
    return (source, target) in _ALLOWED


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> candidate: the process starts"]
    for transition in TRANSITIONS:
        causes = "<br/>".join(transition.causes)
        lines.append(f"    {transition.source.value} --> {transition.target.value}: {causes}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(diagram())
