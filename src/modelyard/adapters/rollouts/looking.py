"""What does a look at a rollout show?"""

from __future__ import annotations

from datetime import datetime

from modelyard.adapters.rollouts.rescoring import BothReleases
from modelyard.adapters.target import Target
from modelyard.domain.analysis import analyse, mark_dry_runs
from modelyard.domain.observed import Seen
from modelyard.domain.releases import Release
from modelyard.domain.rollout import Look, Measurement, Rollout, Verdict
from modelyard.domain.sequential import Trials
from modelyard.domain.traffic import FleetTraffic, TrafficChange
from modelyard.domain.values import ReplicaState
from modelyard.errors import ModelYardError, ServiceUnavailableError


def look_at(
    target: Target,
    state: Rollout,
    new: Release,
    former: Release | None,
    both: BothReleases | None,
    now: datetime,
    replicas: int,
) -> Look:
    """Count what happened since the last look, and say what all looks together show.

    What cannot be counted now is one measurement with the verdict `error`.
    """
    version = str(new.version)
    try:
        seen = _count(target, state, new, former, now, replicas)
        mirrored = state.current.mirrored
        watched = state.current.bake.total_seconds() > 0
        since = state.seen[-1].until if state.seen else state.started_at
        if watched and both is not None and state.plan.expected is not None:
            rescored = both.rescore(since, now, state.plan.expected, mirrored=mirrored)
            seen = seen.model_copy(update={"rescored": rescored})
        found = list(analyse((*state.seen, seen), state.plan.rules, state.plan.expected))
        if not watched:  # nothing is waited for but that it is there
            found = found[:1]
        elif both is not None:
            look = len(state.seen) + 1
            found.append(
                both.realized(state.started_at, now, look, state.plan.rules, mirrored=mirrored)
            )
            if mirrored:  # what is answered now is compared at the next look
                url = _fleet_url(target, new)
                both.mirror(url, since, now, budget=state.plan.look_every / 2)
    except ModelYardError as err:
        broken = Measurement(
            name="looking",
            verdict=Verdict.ERROR,
            value=None,
            limit="",
            reason=f"{version} could not be looked at: {err}",
        )
        return Look(at=now, measurements=(broken,))
    return Look(at=now, measurements=mark_dry_runs(found, state.plan.rules), seen=seen)


def _count(
    target: Target,
    state: Rollout,
    new: Release,
    former: Release | None,
    now: datetime,
    replicas: int,
) -> Seen:
    before = state.seen[-1] if state.seen else None
    status = target.status(new.model)
    mine = [r for r in status.replicas if r.version == new.version] if status else []
    there = {replica.id: replica.restarts for replica in mine}
    traffic = target.traffic(new.model)
    errors = refused = slow = None
    # A gateway that began anew: the whole service was stopped, or the engine was.
    stopped = bool(
        traffic and before and before.traffic and before.traffic.gateway != traffic.gateway
    )
    if traffic is not None and before is not None and before.traffic is not None:
        change = traffic.change(before.traffic)
        both = str(new.version), None if former is None else former.version
        errors, refused = (_wrong(change, *both, kind) for kind in ("errors", "refused"))
        slow = _slow(change, *both, state.plan.rules.slow_after.total_seconds())
    return Seen(
        until=now,
        wanted=replicas,
        ready=sum(replica.state is ReplicaState.READY for replica in mine),
        replicas=there,
        ended=0 if before is None or stopped else _ended(before.replicas, there),
        traffic=traffic,
        errors=errors,
        refused=refused,
        slow=slow,
    )


def _fleet_url(target: Target, new: Release) -> str:
    """Return where the new release is asked by name. Raises ServiceUnavailableError."""
    status = target.status(new.model)
    url = status.fleet_urls.get(str(new.version)) if status else None
    if url is None:
        raise ServiceUnavailableError(f"{new.model} {new.version} cannot be asked by name yet.")
    return url


def _ended(before: dict[str, int], there: dict[str, int]) -> int:
    """Return how many replicas ended: each was started again, or is another one now."""
    again = sum(there.values()) - sum(before.values())
    return max(again, len(before.keys() - there.keys()))


def _wrong(change: TrafficChange, version: str, former: str | None, kind: str) -> Trials | None:
    """Return how many requests ended in errors, or were refused, by both releases."""
    if version not in change.fleets:
        return None
    hits, count = _counted(change.fleets[version], kind)
    other = change.fleets.get(former) if former else None
    former_hits, former_count = _counted(other, kind) if other else (0, 0)
    return Trials(hits=hits, count=count, former_hits=former_hits, former_count=former_count)


def _slow(change: TrafficChange, version: str, former: str | None, seconds: float) -> Trials | None:
    counted = [change.answer_times.get(name) if name else None for name in (version, former)]
    new, other = (times.slower_than(seconds) if times else None for times in counted)
    if new is None:
        return None
    if other is not None and other.bound != new.bound:  # not the same question
        other = None
    return Trials(
        hits=new.slower,
        count=new.requests,
        former_hits=other.slower if other else 0,
        former_count=other.requests if other else 0,
    )


def _counted(fleet: FleetTraffic, kind: str) -> tuple[int, int]:
    """Return requests of a kind and all, of a fleet's share and of what asked for it by name."""
    counts = (fleet.counts, fleet.besides)
    return sum(getattr(c, kind) for c in counts), sum(c.requests for c in counts)
