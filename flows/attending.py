"""Who waits for the next look at a rollout: this flow run, or one that Prefect starts then?"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from modelyard.adapters.prefect.scheduling import run_later
from modelyard.adapters.prefect.steps import announced
from modelyard.domain.rollout import Phase, RolloutReport
from tasks.rollout import advance_rollout, count_news

_ATTENDED = timedelta(minutes=2)
"""A look that is farther away is another flow run: nobody waits for it."""
_LONGEST = timedelta(minutes=15)
"""So long one flow run holds the model; others have their turn before the next one."""
_GLANCE_SECONDS = 1.0


def attend_rollout(model: str, release_id: str) -> RolloutReport:
    """Carry a rollout on until it has ended, a person is asked, or the next look is far away."""
    begun = datetime.now(UTC)
    while True:
        report = advance_rollout(release_id)
        look_at = report.decision.look_at
        if report.ended or look_at is None:
            return report
        now = datetime.now(UTC)
        far = look_at - now > _ATTENDED or now - begun > _LONGEST
        far = far or report.state.phase is Phase.PAUSED
        if far and run_later("rollout", model, look_at, f"{release_id}-{len(report.events)}"):
            return report
        if report.state.phase is Phase.PAUSED:
            return report
        with announced(f"Watch {report.words}"):
            _wait(release_id, look_at, len(report.events))


def _wait(release_id: str, until: datetime, known: int) -> None:
    """Wait for the time of the next look, or until a person has said something."""
    while datetime.now(UTC) < until and count_news(release_id) == known:
        left = (until - datetime.now(UTC)).total_seconds()
        time.sleep(max(0.0, min(_GLANCE_SECONDS, left)))
