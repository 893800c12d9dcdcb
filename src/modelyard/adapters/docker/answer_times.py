"""How long have the replicas of a model taken to answer?

Each counts it in the histogram of its /metrics, which is open where API keys are demanded, too.
The gateway's container asks for it, being on the replicas' network, which this machine need not
reach.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from prometheus_client.parser import text_string_to_metric_families

from modelyard.adapters.docker.containers import ModelContainers
from modelyard.adapters.docker.haproxy import PORT
from modelyard.adapters.docker.replicas import Replica
from modelyard.adapters.docker.runtime_api import AnswerLostError, until_heard
from modelyard.domain.traffic import AnswerTimes
from modelyard.serving.metrics import LATENCY

SECONDS = 2
"""That a replica has to answer in; all are asked at the same time."""

_END = "\x1e"
"""Comes after what each replica said: ASCII's record separator."""

# The gateway's image has bash and cat, and neither `timeout` nor `sleep`: what waits is a read
# from a pipe that nobody writes to. One process a replica, each writing to a pipe of its own.
_SCRIPT = f"""
for address; do
    exec {{said}}< <(
        exec 2>/dev/null 3<>"/dev/tcp/$address/{PORT}" || exit
        printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3
        exec cat <&3
    )
    asking+=("$!") all+=("$said")
done
{{ read -rt {SECONDS} <> <(:); kill "${{asking[@]}}"; }} >/dev/null 2>&1 &
for said in "${{all[@]}}"; do
    cat <&"$said"
    printf '\\x1e'
done
kill "$!" 2>/dev/null
true
"""


def answer_times(containers: ModelContainers) -> dict[str, dict[str, AnswerTimes | None]]:
    """Return what each running replica has counted, by version and by start of the replica.

    None stands for one that did not answer within SECONDS. Raises ServiceUnavailableError where
    no gateway runs.
    """
    asked = [replica for replica in containers.replicas() if replica.running]
    if not asked:
        return {}
    said = until_heard(lambda: _ask(containers, asked))
    return times_by_start(asked, said, after=containers.replicas())


def times_by_start(
    asked: Sequence[Replica], said: Sequence[str], *, after: Iterable[Replica]
) -> dict[str, dict[str, AnswerTimes | None]]:
    """Return what replicas said that they have counted, by version and start.

    One that started again while it was asked, as a look at the engine `after` that shows, is left
    out: which of its starts has answered is not known.
    """
    still = {replica.start for replica in after}
    found: dict[str, dict[str, AnswerTimes | None]] = {}
    for replica, answer in zip(asked, said, strict=True):
        if replica.start in still:
            found.setdefault(replica.version, {})[replica.start] = read_times(answer)
    return found


def read_times(answer: str) -> AnswerTimes | None:
    """Return the answer times of a replica's answer over HTTP, None where it is not a whole one."""
    head, _, body = answer.partition("\r\n\r\n")
    if not head.startswith("HTTP/1.1 200 "):
        return None
    up_to: dict[float, int] = {}
    requests = 0
    try:
        for family in text_string_to_metric_families(body):
            for sample in family.samples:
                if sample.name == f"{LATENCY}_bucket":
                    up_to[float(sample.labels.get("le", ""))] = int(sample.value)
                elif sample.name == f"{LATENCY}_count":
                    requests = int(sample.value)
        # the count comes after the buckets: with it, all of them have come
        if up_to.pop(math.inf, None) == requests:
            return AnswerTimes(requests=requests, up_to=up_to)
    except (ValueError, OverflowError):  # it ends within a line, or counts what cannot be counted
        return None
    return None


def _ask(containers: ModelContainers, replicas: Sequence[Replica]) -> list[str]:
    """Return what each replica answers over HTTP, in their order; what was too late is cut off."""
    *said, rest = containers.in_gateway(_SCRIPT, *(r.address for r in replicas)).split(_END)
    if rest or len(said) != len(replicas):
        raise AnswerLostError(
            f"The engine lost what some of the {len(replicas)} replicas answered. Try again."
        )
    return said
