"""Does the plan of `modelyard apply --dry-run` read like a diff?"""

from __future__ import annotations

import pytest

from modelyard.adapters.platform.deployments import Change
from modelyard.commands.changes import show_changes


def shown(changes: list[Change], capsys: pytest.CaptureFixture[str], dry_run: bool = True) -> str:
    show_changes(changes, dry_run=dry_run)
    return capsys.readouterr().out


def test_only_the_values_that_differ_are_shown_by_their_path(
    capsys: pytest.CaptureFixture[str],
) -> None:
    was = {"rule": {"cron": "0 * * * *"}, "timezone": "UTC"}
    becomes = {"rule": {"interval": 3600.0}, "timezone": "UTC"}
    change = Change(
        action="update", kind="deployment", name="monitor/a", fields={"schedule": (was, becomes)}
    )
    assert shown([change], capsys).splitlines() == [
        "~ deployment monitor/a",
        "    - schedule.rule.cron: 0 * * * *",
        "    + schedule.rule.interval: 3600.0",
        "1 to update.",
        "Nothing was changed; without --dry-run it will be.",
    ]


def test_what_is_new_and_what_goes_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    changes = [
        Change(action="create", kind="automation", name="a", fields={"expect": (None, ["x", "y"])}),
        Change(action="delete", kind="deployment", name="b"),
    ]
    assert shown(changes, capsys, dry_run=False).splitlines() == [
        "+ automation a",
        "    + expect: x, y",
        "- deployment b",
        "1 created, 1 deleted.",
    ]


def test_no_difference_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown([], capsys) == "Nothing to change.\n"
