"""What did a gateway and its replicas count for each fleet, and how much of it between two looks?

Each counts from its own start on. A rule that judges the last ten minutes takes a look before and
a look after, and asks the later one for the `change` since the earlier one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import Field, NonNegativeInt

from modelyard.domain.values import Value


class Counts(Value):
    """Things counted, over some time."""

    requests: NonNegativeInt = 0
    """Requests that were answered, by a replica or by the gateway in its place."""
    errors: NonNegativeInt = 0
    """Answers with a status of 500 or more, those of the gateway (no replica is up) among them."""
    refused: NonNegativeInt = 0
    """Answers with a status of 400 to 499: the caller is told that it is wrong."""
    connection_errors: NonNegativeInt = 0
    """Connections to a replica that could not be opened."""
    response_errors: NonNegativeInt = 0
    """Requests that a replica took and did not answer."""
    retries: NonNegativeInt = 0
    """Times that a request was sent again to the same replica."""
    redispatches: NonNegativeInt = 0
    """Times that a request was sent again to another replica."""

    def since(self, earlier: Counts) -> Counts:
        """Return what was counted after an earlier count of the same start of the gateway."""
        fields = type(self).model_fields
        return Counts(**{name: getattr(self, name) - getattr(earlier, name) for name in fields})


class Milliseconds(Value):
    """Average times of the last 1,024 requests."""

    queue: NonNegativeInt = 0
    """Waiting for a replica to be free."""
    connect: NonNegativeInt = 0
    response: NonNegativeInt = 0
    """From the request's being sent to the first byte of the answer."""
    total: NonNegativeInt = 0
    """From the request's arrival to the end of the answer."""


class SlowAnswers(NamedTuple):
    """How many requests took longer than a bound."""

    slower: int
    requests: int
    """All that were answered, slow or not."""
    bound: float
    """Seconds."""


class AnswerTimes(Value):
    """How long requests for predictions took that replicas answered, whatever they answered.

    Counted by the replicas: those that asked for a fleet by name, such as mirrored ones, are among
    them, and the time on the way to a replica and back is not.
    """

    requests: NonNegativeInt
    up_to: dict[float, NonNegativeInt]
    """How many of them took at most so many seconds, by bound."""

    def slower_than(self, seconds: float) -> SlowAnswers | None:
        """Return how many took longer than the smallest bound that is not below `seconds`.

        None where all bounds are below: how many were slower was not counted.
        """
        bound = min((bound for bound in self.up_to if bound >= seconds), default=None)
        if bound is None:
            return None
        return SlowAnswers(self.requests - self.up_to[bound], self.requests, bound)

    def since(self, earlier: AnswerTimes) -> AnswerTimes:
        """Return what was counted after an earlier count of the same start of a replica."""
        return AnswerTimes(
            requests=self.requests - earlier.requests,
            up_to={bound: count - earlier.up_to[bound] for bound, count in self.up_to.items()},
        )


class ReplicaTraffic(Value):
    """What one replica answered of its own fleet's share."""

    counts: Counts
    sessions: NonNegativeInt
    """Requests that it holds now."""
    times: Milliseconds


class FleetTraffic(Value):
    """What became of one fleet's share of the traffic."""

    slot: str
    """The gateway's name for its place, which another fleet may have had before."""
    counts: Counts
    """Of all requests that were the fleet's to answer, whoever did."""
    answered_by_others: NonNegativeInt
    """Of those, requests that other fleets answered, as none of its own replicas was up."""
    besides: Counts
    """Of requests that were not its share: those that asked for it by name, such as mirrored ones,
    and those that it answered for other fleets."""
    sessions: NonNegativeInt
    times: Milliseconds
    replicas: dict[str, ReplicaTraffic]
    """By id; those that are there now, and in a change those that were there before, too."""


class TrafficChange(Value):
    """What was counted between two looks."""

    complete: bool
    """False where the gateway started again in between: the counts are those since its start, and
    what came before it is not known."""
    fleets: dict[str, FleetTraffic]
    """By version; a fleet that came in between is left out, as its slot counted before it."""
    answer_times: dict[str, AnswerTimes] = Field(default_factory=dict[str, AnswerTimes])
    """By version, of all its replicas that answered at the later look; complete or not, as a
    gateway that starts again changes nothing in what they have counted. What a replica counted
    after the earlier look and before it ended is not known."""


class Traffic(Value):
    """What a gateway had counted at one look."""

    gateway: str
    """One start of one gateway: counts of another start cannot be subtracted from these."""
    fleets: dict[str, FleetTraffic]
    """By version."""
    answer_times: dict[str, dict[str, AnswerTimes | None]] = Field(
        default_factory=dict[str, dict[str, AnswerTimes | None]]
    )
    """By version and start of a replica, which counts from nought when it starts again; None for
    one that runs and did not answer in time."""

    def change(self, earlier: Traffic) -> TrafficChange:
        """Return what was counted after an earlier look."""
        answer_times = {
            version: _sum(grown)
            for version, starts in self.answer_times.items()
            if (grown := _grown(starts, earlier.answer_times.get(version, {})))
        }
        if self.gateway != earlier.gateway:
            return TrafficChange(complete=False, fleets=self.fleets, answer_times=answer_times)
        fleets = {
            version: difference
            for version, fleet in self.fleets.items()
            if (before := earlier.fleets.get(version)) is not None
            and (difference := _fleet_change(fleet, before)) is not None
        }
        return TrafficChange(complete=True, fleets=fleets, answer_times=answer_times)


def _grown(
    starts: Mapping[str, AnswerTimes | None], before: Mapping[str, AnswerTimes | None]
) -> list[AnswerTimes]:
    """Return what each start of a replica has counted since an earlier look.

    One that ran and did not answer then is left out, as it may have counted much before.
    """
    return [
        times if earlier is None else times.since(earlier)
        for start, times in starts.items()
        if times is not None and ((earlier := before.get(start)) is not None or start not in before)
    ]


def _sum(times: Sequence[AnswerTimes]) -> AnswerTimes:
    """Return the sum of one or more, by the bounds that all of them have."""
    bounds = set[float].intersection(*(set(t.up_to) for t in times))
    return AnswerTimes(
        requests=sum(t.requests for t in times),
        up_to={bound: sum(t.up_to[bound] for t in times) for bound in sorted(bounds)},
    )


def _fleet_change(fleet: FleetTraffic, before: FleetTraffic) -> FleetTraffic | None:
    """Return what a fleet's counts grew by, or None where they were another fleet's."""
    if fleet.slot != before.slot:
        return None
    return fleet.model_copy(
        update={
            "counts": fleet.counts.since(before.counts),
            "besides": fleet.besides.since(before.besides),
            "answered_by_others": fleet.answered_by_others - before.answered_by_others,
            "replicas": {
                name: replica.model_copy(
                    update={"counts": replica.counts.since(before.replicas[name].counts)}
                )
                for name, replica in fleet.replicas.items()
                if name in before.replicas
            },
        }
    )
