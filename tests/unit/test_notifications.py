"""Do alerts arrive, and are secrets kept?"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.adapters.notifications import AlertDelivery, Place, alert_places, send_alert
from modelyard.project import Project
from tests.web_hooks import MailServer, Receiver, web_hook


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with web_hook() as server:
        yield server


def project_of(root: Path, *, platform: str = "", rides: str = "", beds: str = "") -> Project:
    """Write a project whose platform and two models alert these places, in YAML's words."""
    models = root / "configs" / "models"
    models.mkdir(parents=True)
    (root / "configs" / "platform.yaml").write_text(f"alerts: [{platform}]\n")
    for name, alerts in (("rides", rides), ("beds", beds)):
        lines = f"name: {name}\ntask: regression\ndata: {{source: x.csv, target: y}}\n"
        (models / f"{name}.yaml").write_text(f"{lines}alerts: [{alerts}]\n")
    return Project(root)


def send(project: Project, title: str = "title", body: str = "body") -> list[AlertDelivery]:
    return [send_alert(place, title, body) for place in alert_places(project, "rides")]


def test_an_alert_arrives_with_title_and_body(receiver: Receiver) -> None:
    sent = send_alert(Place("hook", receiver.url()), "bikes drifted", "humidity: **moved**")

    assert sent == AlertDelivery(place="hook", delivered=True)
    assert receiver.titles == ["bikes drifted"]
    assert "humidity" in receiver.received[0]["message"]


# On loopback, with a password that only this test knows.
@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
def test_an_alert_arrives_by_mail() -> None:
    with MailServer("yard", "pass0word") as server:
        sent = send_alert(Place("mail", server.url()), "rides: drift", "temp moved")
        wrong = send_alert(Place("mail", server.url("wr0ngword")), "rides: drift", "temp moved")

    assert sent.delivered
    (message,) = server.messages
    assert message["Subject"] == "rides: drift"
    assert message["To"] == "team@example.org"
    assert "temp moved" in str(message)
    assert not wrong.delivered
    assert wrong.problem
    assert "wr0ngword" not in wrong.problem


def test_a_place_that_fails_is_told_and_does_not_hold_up_the_others(
    receiver: Receiver, tmp_path: Path
) -> None:
    places = f'"{receiver.url("refuse")}", "nonsense://x", "{receiver.url()}"'
    refused, unknown, good = send(project_of(tmp_path, rides=places))

    assert [refused.delivered, unknown.delivered, good.delivered] == [False, False, True]
    assert "500" in (refused.problem or "")
    assert unknown.problem == "not a URL that Apprise knows"
    assert len(receiver.received) == 1


def test_a_place_that_is_away_is_told_apart_from_one_that_refuses() -> None:
    sent = send_alert(Place("away", "json://127.0.0.1:1/T0PSECRET"), "title", "body")
    assert "Connection error" in (sent.problem or "")
    assert "T0PSECRET" not in str(sent)


def test_secrets_are_in_no_result_and_no_log(
    receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret, token = "pass0word", "T0PSECRETTOKEN"
    urls = [
        receiver.url("refuse", user=f"ada:{secret}@"),
        f"slack://{token}/broken",
        f"unknown://{token}@host",
        f"{receiver.url('refuse')}?+X-Token={token}",
        receiver.url(f"refuse/{token}"),
    ]
    deliveries = send(project_of(tmp_path, rides=", ".join(f'"{url}"' for url in urls)))

    told = " ".join(str(delivery) for delivery in deliveries) + caplog.text
    assert len(deliveries) == len(urls)
    assert not any(delivery.delivered for delivery in deliveries)
    assert secret not in told
    assert token not in told
    assert deliveries[0].place.startswith("json://ada:****@127.0.0.1")


def test_each_place_has_a_name_of_its_own_and_one_named_twice_is_one(tmp_path: Path) -> None:
    project = project_of(
        tmp_path,
        platform='"json://host/a", "slack-webhook/team"',
        rides='"json://host/b", "json://host/a"',
        beds='"json://elsewhere/c"',
    )
    names = [place.name for place in alert_places(project, "rides")]
    assert names == ["json://host", "slack-webhook/team", "json://host (2)"]
    everywhere = [place.name for place in alert_places(project)]
    assert sorted(everywhere) == sorted([*names, "json://elsewhere"])


def test_no_place_means_nothing_to_send(tmp_path: Path) -> None:
    assert alert_places(project_of(tmp_path), "rides") == ()
