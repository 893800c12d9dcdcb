"""Does each release get the share that was asked for, and does a user stay with one release?"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from scipy.stats import binom

from benchmarks.claims import Claim, claim, show
from benchmarks.rollout_load import Client, new_prefix
from benchmarks.rollout_service import VERSIONS, Yard

OLD, NEW = VERSIONS[:2]
HEADER = "X-User"
THREADS = 8
LOOKS = 2
"""Requests that each user sends at least while a weight holds."""


def measure_shares(yard: Yard, quick: bool) -> list[Claim]:
    return [*_measure_split(yard, quick), *_measure_users(yard, quick)]


def _measure_split(yard: Yard, quick: bool) -> list[Claim]:
    """Count requests at three weights.

    Chance alone leaves a 99 % band once in a hundred counts; a short run, which has to hold
    whenever it is run, has the band of 99.99 %.
    """
    requests, level = (2_000, 0.9999) if quick else (20_000, 0.99)
    url = yard.sync({OLD: 95, NEW: 5}).url
    rows, outside = [], 0
    for percent in (5, 25, 50):
        yard.target.set_weights(yard.model, {OLD: 100 - percent, NEW: percent})
        seen = _count(yard, url, requests)
        low, high = binom.interval(level, requests, percent / 100)
        outside += not low <= seen <= high
        rows.append((percent, requests, 100 * seen / requests, int(low), seen, int(high)))
    show(
        f"Shares of a canary, and the {100 * level:g} % band of a binomial",
        ("weight %", "requests", "measured %", "band from", "counted", "to"),
        rows,
    )
    return [claim("shares: counts outside the band, of 3", outside, "<=", 0)]


def _count(yard: Yard, url: str, requests: int) -> int:
    """Return how many of so many requests the new release answered."""

    prefix = new_prefix()

    def ask(name: int) -> int:
        with closing(Client(yard, url)) as client:
            mine = range(name, requests, THREADS)
            return sum(client.ask(f"{prefix}{number}").release == NEW for number in mine)

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(ask, range(THREADS)))


def _measure_users(yard: Yard, quick: bool) -> list[Claim]:
    """Let users ask all the time, each one request after another, while the weight rises."""
    users = 100 if quick else 500
    url = yard.sync({OLD: 100, NEW: 0}, sticky=HEADER).url
    stop, prefix = threading.Event(), new_prefix()
    rounds = [0] * THREADS
    said: dict[int, list[str]] = {user: [] for user in range(users)}

    def ask(name: int) -> None:
        with closing(Client(yard, url)) as client:
            while not stop.is_set():
                for user in range(name, users, THREADS):
                    request_id = f"{prefix}{user}-{len(said[user])}"
                    answer = client.ask(request_id, {HEADER: f"user-{user}"})
                    said[user].append(answer.release)
                rounds[name] += 1

    with ThreadPoolExecutor(THREADS) as pool:
        asking = [pool.submit(ask, name) for name in range(THREADS)]

        def look() -> list[str]:
            """Return each user's release, after rounds that began after this call."""
            before = list(rounds)
            for name, thread in enumerate(asking):
                while rounds[name] < before[name] + LOOKS + 1 and not thread.done():
                    stop.wait(0.02)
            return [releases[-1] for releases in said.values()]

        rows = []
        try:
            for percent in (5, 25, 50, 100):
                yard.target.set_weights(yard.model, {OLD: 100 - percent, NEW: percent})
                rows.append((percent, 100 * look().count(NEW) / users))
        finally:
            stop.set()
    for thread in asking:
        thread.result()
    moves = Counter(_moves(releases) for releases in said.values())
    show(
        f"{users} users, {sum(map(len, said.values()))} requests while the weight rises",
        ("weight %", "users with the new release %"),
        rows,
    )
    wavering = users - moves[(OLD, NEW)] - moves[(NEW,)]
    return [claim("shares: users that did not move once, from old to new", wavering, "<=", 0)]


def _moves(releases: Sequence[str]) -> tuple[str, ...]:
    """Return the releases that a user saw, each time that it became another one."""
    return tuple(
        release for n, release in enumerate(releases) if n == 0 or release != releases[n - 1]
    )
