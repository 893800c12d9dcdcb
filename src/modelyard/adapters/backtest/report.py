"""What does a person read of a backtest? One page, in the Prefect UI and as a file of its own."""

from __future__ import annotations

import html
from collections.abc import Mapping

from markdown_it import MarkdownIt

from modelyard.adapters.pages import number, picture, table
from modelyard.domain.backtest import Backtest, PolicyScore
from modelyard.domain.metrics import Interval
from modelyard.domain.policy_runs import ORACLE, PolicyRun

_MOST_STEPS = 60
"""Retrainings of one policy that are listed."""
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 72rem; margin: 2rem auto;
       padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #e4e7eb; padding: .35rem .7rem; text-align: left;
         font-variant-numeric: tabular-nums; }
img { max-width: 100%; }
h1, h2 { line-height: 1.2; }
"""


def backtest_page(backtest: Backtest, pictures: Mapping[str, bytes], link: str | None) -> str:
    """Return a backtest as Markdown: advice, policies side by side, plots, what each did."""
    advice = backtest.recommendation
    parts = [
        f"# Backtest of {backtest.model}",
        f"{backtest.windows} windows from {backtest.start:%Y-%m-%d} to {backtest.end:%Y-%m-%d}, "
        "each policy with what was known at the time. The figures of the windows are by all labels "
        "that ever came.",
        f"## Recommended: {advice.policy}",
        "\n".join(f"- {reason}" for reason in advice.reasons),
        "## Policies",
        table(_head(backtest.metric), [_line(score) for score in backtest.ranked]),
        "\n".join(f"- **{score.policy}**: {score.words}" for score in backtest.ranked),
        f"Lost: how much worse {backtest.metric} was than the oracle's, summed over the windows. "
        "Recovered: share of what the oracle gains over never retraining, with its 95 % interval "
        "over windows. A false alarm is one of performance or drift in a window whose metric was "
        f"as promised at the start ({number(backtest.promise)} or better); a violation is a window "
        "whose metric was worse. ● no other policy loses less with as few trainings.",
        *(picture(png, title) for title, png in pictures.items()),
        "## What each policy did",
        *(
            _story(run, score)
            for run, score in zip(backtest.runs, backtest.scores, strict=True)
            if run.policy != ORACLE
        ),
    ]
    if link:
        parts.append(f"[The MLflow run with all policies]({link})")
    return "\n\n".join(parts)


def as_html(markdown: str, title: str) -> str:
    """Return a page as one HTML file that needs nothing else, nor a network."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>{body}</body>"
        "</html>\n"
    )


def _head(metric: str) -> tuple[str, ...]:
    return (
        *("", "policy", f"mean {metric}", "lost", "recovered", "trainings", "champion kept"),
        *("fits (seconds)", "alarms (false)", "violations"),
    )


def _line(score: PolicyScore) -> tuple[str, ...]:
    return (
        "●" if score.best_for_its_price else "",
        score.policy,
        number(score.mean),
        number(score.lost),
        share_words(score.recovered),
        str(score.trainings),
        str(score.kept),
        f"{score.fits} ({score.fit_seconds:.0f})",
        f"{score.alarms} ({score.false_alarms})",
        str(score.violations),
    )


def share_words(share: Interval | None) -> str:
    """Write the recovered share; a dash where the oracle gains nothing."""
    return "-" if share is None else f"{share.value:.0%} ({share.low:.0%} to {share.high:.0%})"


def _story(run: PolicyRun, score: PolicyScore) -> str:
    """Return what a policy did, and in which windows it lost what the oracle gains."""
    losses = "\n".join(
        f"- {s.share:.0%} of what it lost, in {s.windows} window{'s' * (s.windows > 1)} before "
        f"which {s.words}"
        for s in score.shortfalls
    )
    return f"### {run.policy}\n\n{_retrainings(run)}" + (f"\n\n{losses}" if losses else "")


def _retrainings(run: PolicyRun) -> str:
    trained = [step for step in run.steps if step.outcome is not None]
    if not trained:
        return "Never retrained."
    rows = [
        (
            f"{step.end:%Y-%m-%d %H:%M}",
            step.cause or "",
            ", ".join(step.alarms),
            {"champion": "promoted", "kept_champion": "champion kept"}.get(
                step.outcome or "", "not trained"
            ),
            step.reasons[0] if step.reasons else "",
        )
        for step in trained[:_MOST_STEPS]
    ]
    more = len(trained) - len(rows)
    lines = table(("when", "because of", "the window showed", "outcome", "why"), rows)
    return lines + (f"\n\nand {more} more." if more else "")
