"""What coordination says to other nodes, hears from its host, and wants done.

Messages travel; they are msgspec Structs. Events come in, effects go out; they never leave the process. A message may be
lost, repeated, delayed or come out of order: timers and terms take care of that.
"""

from __future__ import annotations

import msgspec

from cratepy.cluster.coordination.kernel import Vote
from cratepy.errors import CrateError
from cratepy.model.commands import Command
from cratepy.model.state import ClusterState, NodeInfo
from cratepy.records import dataclass


class PreVote(msgspec.Struct, frozen=True, tag_field="$", tag="pre_vote"):
    """Would you vote for me? Also how a candidate finds out who is master."""

    term: int
    round: int


class PreVoteAnswer(msgspec.Struct, frozen=True, tag_field="$", tag="pre_vote_answer"):
    """``leader_id`` is set if the node has a master, which is not the one who asks; then the rest is no vote."""

    term: int
    last_term: int
    last_version: int
    leader_id: str | None
    round: int
    #: False: the node is not well enough to take part.
    is_willing: bool = True


class StartJoin(msgspec.Struct, frozen=True, tag_field="$", tag="start_join"):
    """Vote in this term: for the sender, or for the ``heir`` that a master names when it steps down."""

    term: int
    heir: str | None = None


class Join(msgspec.Struct, frozen=True, tag_field="$", tag="join"):
    """The vote, and who gives it."""

    vote: Vote
    node: NodeInfo


class JoinRequest(msgspec.Struct, frozen=True, tag_field="$", tag="join_request"):
    """Take me into the cluster. ``vote`` is there if the last vote went to the master asked."""

    term: int
    node: NodeInfo
    cluster_uuid: str
    vote: Vote | None = None


class JoinRefused(msgspec.Struct, frozen=True, tag_field="$", tag="join_refused"):
    reason: str


class Publish(msgspec.Struct, frozen=True, tag_field="$", tag="publish"):
    """Accept this state. The host may send it as a difference to ``base``, the one (term, version) before it."""

    state: ClusterState
    base: tuple[int, int]


class Published(msgspec.Struct, frozen=True, tag_field="$", tag="published"):
    """Accepted and durable. ``join`` is the vote this node gave the master in this term, if it did."""

    term: int
    version: int
    join: Join | None


class PublishRejected(msgspec.Struct, frozen=True, tag_field="$", tag="publish_rejected"):
    """Not accepted; ``current_term`` is the term of the node."""

    term: int
    version: int
    current_term: int


class Commit(msgspec.Struct, frozen=True, tag_field="$", tag="commit"):
    term: int
    version: int


class Applied(msgspec.Struct, frozen=True, tag_field="$", tag="applied"):
    term: int
    version: int


class LeaderCheck(msgspec.Struct, frozen=True, tag_field="$", tag="leader_check"):
    """Are you still master, and am I still a member?"""

    term: int


class LeaderCheckAnswer(msgspec.Struct, frozen=True, tag_field="$", tag="leader_check_answer"):
    is_ok: bool


class FollowerCheck(msgspec.Struct, frozen=True, tag_field="$", tag="follower_check"):
    """Do you still follow me?"""

    term: int


class FollowerCheckAnswer(msgspec.Struct, frozen=True, tag_field="$", tag="follower_check_answer"):
    term: int
    is_ok: bool


class Leave(msgspec.Struct, frozen=True, tag_field="$", tag="leave"):
    """I am stopping: take me out now instead of finding out."""


Message = (
    PreVote
    | PreVoteAnswer
    | StartJoin
    | Join
    | JoinRequest
    | JoinRefused
    | Publish
    | Published
    | PublishRejected
    | Commit
    | Applied
    | LeaderCheck
    | LeaderCheckAnswer
    | FollowerCheck
    | FollowerCheckAnswer
    | Leave
)


# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Received:
    source: str
    message: Message


@dataclass(frozen=True, slots=True)
class TimerFired:
    name: str
    generation: int


@dataclass(frozen=True, slots=True)
class Submitted:
    """A command for the master; ``ticket`` comes back in the effect that answers it."""

    ticket: int
    command: Command


@dataclass(frozen=True, slots=True)
class Connected:
    node_id: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection to a node broke, or a message could not be sent to it."""

    node_id: str


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """The first voting configuration, from the operator's list of initial master nodes."""

    config: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepDown:
    """Stop being master after what is in flight, and hand over to ``heir`` (None: to the best there is)."""

    heir: str | None = None


@dataclass(frozen=True, slots=True)
class HealthChanged:
    """What the host finds out about its disk; ``problem`` is None while all is well."""

    problem: str | None


Event = Received | TimerFired | Submitted | Connected | Disconnected | Bootstrapped | StepDown | HealthChanged


# --- effects, to be performed in order -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Persist:
    """Durable before any later effect, and before the next event."""

    term: int
    state: ClusterState


@dataclass(frozen=True, slots=True)
class Send:
    target: str
    message: Message


@dataclass(frozen=True, slots=True)
class SetTimer:
    name: str
    delay_s: float
    generation: int


@dataclass(frozen=True, slots=True)
class Apply:
    """The state is committed: show it to the node."""

    state: ClusterState


@dataclass(frozen=True, slots=True)
class ModeChanged:
    """``leader_id`` is None for a candidate, the own id for the master."""

    term: int
    leader_id: str | None


@dataclass(frozen=True, slots=True)
class Answered:
    """The command took effect, at the latest in the state of this version; or ``error`` says why it did not."""

    ticket: int
    version: int
    error: CrateError | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """This node is not master; the command was not tried."""

    ticket: int


@dataclass(frozen=True, slots=True)
class OutcomeLost:
    """The master stepped down before it knew whether the command took effect."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Report:
    """Something an operator should read in the log."""

    text: str


Effect = Persist | Send | SetTimer | Apply | ModeChanged | Answered | Refused | OutcomeLost | Report
