"""What did a gateway count for each fleet, and how much of it between two looks?

The gateway counts from its start on. A rule that judges the last ten minutes takes a look before
and a look after, and asks the later one for the `change` since the earlier one.
"""

from __future__ import annotations

from pydantic import NonNegativeInt

from modelyard.domain.values import Value


class Counts(Value):
    """Things counted, over some time."""

    requests: NonNegativeInt = 0
    """Requests that were answered, by a replica or by the gateway in its place."""
    errors: NonNegativeInt = 0
    """Answers with a status of 500 or more, those of the gateway (no replica is up) among them."""
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


class Traffic(Value):
    """What a gateway had counted at one look."""

    gateway: str
    """One start of one gateway: counts of another start cannot be subtracted from these."""
    fleets: dict[str, FleetTraffic]
    """By version."""

    def change(self, earlier: Traffic) -> TrafficChange:
        """Return what was counted after an earlier look."""
        if self.gateway != earlier.gateway:
            return TrafficChange(complete=False, fleets=self.fleets)
        fleets = {
            version: difference
            for version, fleet in self.fleets.items()
            if (before := earlier.fleets.get(version)) is not None
            and (difference := _fleet_change(fleet, before)) is not None
        }
        return TrafficChange(complete=True, fleets=fleets)


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
