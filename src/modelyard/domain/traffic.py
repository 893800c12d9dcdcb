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

    def since(self, earlier: Counts) -> Counts | None:
        """Return what was counted after an earlier count, or None where it began again."""
        fields = type(self).model_fields
        parts = {name: getattr(self, name) - getattr(earlier, name) for name in fields}
        return Counts(**parts) if min(parts.values()) >= 0 else None


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
    """Of those, requests that replicas of other fleets answered, as none of its own was up; only
    of those replicas that are there now."""
    named: Counts
    """Of requests that asked for this fleet by name, such as mirrored ones: they are no traffic."""
    sessions: NonNegativeInt
    times: Milliseconds
    replicas: dict[str, ReplicaTraffic]
    """By id; only those that are there now."""


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
    """Return what a fleet's counts grew by, or None where they are not the same fleet's."""
    counts, named = fleet.counts.since(before.counts), fleet.named.since(before.named)
    if fleet.slot != before.slot or counts is None or named is None:
        return None
    replicas = {
        name: replica.model_copy(
            update={"counts": _replica_change(replica, before.replicas.get(name))}
        )
        for name, replica in fleet.replicas.items()
    }
    others = max(fleet.answered_by_others - before.answered_by_others, 0)
    return fleet.model_copy(
        update={
            "counts": counts,
            "named": named,
            "answered_by_others": others,
            "replicas": replicas,
        }
    )


def _replica_change(replica: ReplicaTraffic, before: ReplicaTraffic | None) -> Counts:
    """Return what a replica's counts grew by; one that is new began at nothing."""
    change = replica.counts.since(before.counts) if before else None
    return replica.counts if change is None else change
