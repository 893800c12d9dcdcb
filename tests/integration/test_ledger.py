"""Does the state database keep its promises, on SQLite and on PostgreSQL?"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from modelyard.domain.alerts import Notice, NoticeKind
from modelyard.domain.releases import Release, ReleaseState
from modelyard.domain.values import Contract
from modelyard.domain.versioning import Bump
from modelyard.errors import ConfigError, ConflictError, ModelYardError, UnknownReleaseError
from modelyard.ledger import Description, Incident, Ledger
from tests.ledgers import CONTRACT, deliver, register

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def saying(
    details: dict[str, int], notice: Notice | None = None
) -> Callable[[Incident | None], Description]:
    """Return what describes an incident so, and tells people when it opens."""
    return lambda was: Description(details=details, notice=None if was else notice)


def notice(title: str, kind: NoticeKind = NoticeKind.OPENED) -> Notice:
    return Notice(kind=kind, title=title, body="why")


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = Ledger.open(url)
    yield opened
    opened.close()


def test_a_promotion_retires_the_former_champion_and_keeps_the_history(ledger: Ledger) -> None:
    first = deliver(ledger, ReleaseState.ROLLING_OUT)
    ledger.promote(first.id, expected=None, why="first")
    second = deliver(ledger, ReleaseState.ROLLING_OUT)
    ledger.promote(second.id, expected=first.id, why="better")

    champion = ledger.champion("m")
    assert champion is not None
    assert champion.version == "1.0.1"
    retired = ledger.release("m", "1.0.0")
    assert retired.state is ReleaseState.RETIRED
    assert [e.state for e in retired.events][-2:] == [ReleaseState.CHAMPION, ReleaseState.RETIRED]
    assert all("@" in event.by for event in retired.events)


def test_a_promotion_that_compared_with_an_old_champion_is_refused(ledger: Ledger) -> None:
    first = deliver(ledger, ReleaseState.ROLLING_OUT)
    ledger.promote(first.id, expected=None, why="first")
    late = deliver(ledger, ReleaseState.ROLLING_OUT)
    with pytest.raises(ConflictError, match="another champion"):
        ledger.promote(late.id, expected=None, why="compared with nobody")
    assert ledger.champion("m") == ledger.release("m", "1.0.0")
    assert ledger.release("m", "1.0.1").state is ReleaseState.ROLLING_OUT


def test_promoting_the_champion_again_changes_nothing(ledger: Ledger) -> None:
    first = deliver(ledger, ReleaseState.ROLLING_OUT)
    ledger.promote(first.id, expected=None, why="first")
    before = ledger.release("m", "1.0.0")
    ledger.promote(first.id, expected=None, why="again")
    assert ledger.release("m", "1.0.0") == before


def test_of_many_first_promotions_at_once_exactly_one_wins(ledger: Ledger) -> None:
    rivals = [deliver(ledger, ReleaseState.ROLLING_OUT) for _ in range(8)]
    barrier = threading.Barrier(len(rivals))

    def promote(release: Release) -> bool:
        barrier.wait()
        try:
            ledger.promote(release.id, expected=None, why="race")
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(len(rivals)) as pool:
        won = list(pool.map(promote, rivals))
    assert won.count(True) == 1
    champion = ledger.champion("m")
    assert champion is not None
    assert champion.id == rivals[won.index(True)].id
    states = [ledger.release_by_id(rival.id).state for rival in rivals]
    assert states.count(ReleaseState.CHAMPION) == 1


def test_deliveries_that_ask_at_once_get_versions_without_a_gap(ledger: Ledger) -> None:
    gated = [deliver(ledger, ReleaseState.GATED) for _ in range(16)]
    barrier = threading.Barrier(len(gated))

    def number(release: Release) -> str:
        barrier.wait()
        return ledger.number(release.id, Bump.PATCH, register).version

    with ThreadPoolExecutor(len(gated)) as pool:
        versions = list(pool.map(number, gated))
    assert sorted(versions) == sorted(["1.0.0", *(f"1.0.{n}" for n in range(1, 16))])
    for release, version in zip(gated, versions, strict=True):
        assert ledger.release_by_id(release.id).registration.version == version


def test_a_release_is_numbered_once(ledger: Ledger) -> None:
    release = deliver(ledger, ReleaseState.REGISTERED)
    again = ledger.number(release.id, Bump.MAJOR, register)
    assert again == release.registration
    assert ledger.release_by_id(release.id) == release


def test_a_release_that_cannot_be_registered_gets_no_version(ledger: Ledger) -> None:
    release = deliver(ledger, ReleaseState.OPENED)
    with pytest.raises(ConflictError, match="opened and cannot become registered"):
        ledger.number(release.id, None, register)
    assert ledger.release_by_id(release.id).version is None


def test_a_state_that_cannot_follow_is_refused(ledger: Ledger) -> None:
    release = deliver(ledger, ReleaseState.OPENED)
    with pytest.raises(ConflictError, match="opened and cannot become built"):
        ledger.record(release.id, ReleaseState.BUILT, CONTRACT, why="leap")


def test_a_step_is_done_once(ledger: Ledger) -> None:
    release = deliver(ledger, ReleaseState.OPENED)
    done: list[int] = []

    def do() -> Contract:
        done.append(1)
        return CONTRACT

    for _ in range(3):
        value = ledger.once(release.id, ReleaseState.TRAINED, Contract, do, why="once")
        assert value == CONTRACT
    assert len(done) == 1


def test_an_interrupted_delivery_is_found_again(ledger: Ledger) -> None:
    release = deliver(ledger, ReleaseState.BUILT)
    assert ledger.unfinished("m") == release
    ledger.record(release.id, ReleaseState.ABORTED, CONTRACT, why="given up")
    assert ledger.unfinished("m") is None


def test_an_unknown_version_is_answered_with_the_known_ones(ledger: Ledger) -> None:
    deliver(ledger, ReleaseState.REGISTERED)
    with pytest.raises(UnknownReleaseError, match=r"Releases: 1\.0\.0"):
        ledger.release("m", "9.9.9")


def test_a_lock_is_refused_to_a_second_holder_and_free_afterwards(ledger: Ledger) -> None:
    with ledger.lock("m"), pytest.raises(ConflictError, match="under way"), ledger.lock("m"):
        pass
    with ledger.lock("m"), ledger.lock("other"):
        pass


def test_a_lock_is_waited_for(ledger: Ledger) -> None:
    held, released = threading.Event(), threading.Event()

    def hold() -> None:
        with ledger.lock("m"):
            held.set()
            released.wait(30)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hold)
        assert held.wait(30)
        with pytest.raises(ConflictError), ledger.lock("m", wait_seconds=0.3):
            pass
        threading.Timer(0.5, released.set).start()
        with ledger.lock("m", wait_seconds=30):
            assert released.is_set()


def test_a_lock_is_free_when_its_holder_is_killed(url: str, ledger: Ledger) -> None:
    script = (
        "import sys, time; from modelyard.ledger import Ledger\n"
        f"with Ledger.open({url!r}).lock('m'):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder, holder.stdout:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConflictError), ledger.lock("m"):
            pass
        holder.kill()
        holder.wait()
    for _ in range(100):  # PostgreSQL notices a moment later that its client is gone
        try:
            with ledger.lock("m"):
                return
        except ConflictError:
            threading.Event().wait(0.1)
    pytest.fail("the lock of a killed process was never freed")


def test_there_is_one_open_incident_for_a_model_and_cause(ledger: Ledger) -> None:
    first, is_new = ledger.raise_incident("m", "drift", NOW, saying({"n": 1}), now=NOW)
    again, is_new_again = ledger.raise_incident("m", "drift", NOW, saying({"n": 2}), now=NOW)
    assert (is_new, is_new_again) == (True, False)
    assert again.id == first.id
    assert again.details == {"n": 2}
    assert ledger.resolve_incident("m", "drift", NOW, now=NOW)
    assert not ledger.resolve_incident("m", "drift", NOW, now=NOW)
    _, reopened = ledger.raise_incident("m", "drift", NOW, saying({"n": 3}), now=NOW)
    assert reopened
    assert len(ledger.incidents("m", open_only=False)) == 2


def test_each_place_is_told_of_an_incident_until_it_was(ledger: Ledger) -> None:
    ledger.raise_incident("m", "drift", NOW, saying({}, notice("m: drift")), now=NOW)
    ledger.raise_incident("m", "drift", NOW, saying({}, notice("again")), now=NOW)
    (waiting,) = ledger.waiting_notices("m", "mail")
    assert (waiting.title, waiting.at) == ("m: drift", NOW)
    assert ledger.waiting_notices("other", "mail") == ()

    ledger.note_delivery([waiting.id], "mail", NOW, problem="it is away")
    assert len(ledger.waiting_notices("m", "mail")) == 1
    assert ledger.messages_since("m", "mail", NOW - timedelta(hours=1)) == 0
    ledger.note_delivery([waiting.id], "mail", NOW)
    assert ledger.waiting_notices("m", "mail") == ()
    assert len(ledger.waiting_notices("m", "chat")) == 1
    assert ledger.messages_since("m", "mail", NOW - timedelta(hours=1)) == 1
    assert ledger.messages_since("m", "mail", NOW) == 0


def test_a_summary_counts_as_one_message(ledger: Ledger) -> None:
    for cause in ("drift", "data", "performance"):
        ledger.raise_incident("m", cause, NOW, saying({}, notice(cause)), now=NOW)
    waiting = [n.id for n in ledger.waiting_notices("m", "mail")]
    ledger.note_delivery(waiting, "mail", NOW)
    assert len(waiting) == 3
    assert ledger.messages_since("m", "mail", NOW - timedelta(hours=1)) == 1


def test_a_notice_ends_when_all_places_have_it_or_it_is_too_old(ledger: Ledger) -> None:
    ledger.raise_incident("m", "drift", NOW, saying({}, notice("m: drift")), now=NOW)
    over = notice("m: drift is right again", NoticeKind.RESOLVED)
    later = NOW + timedelta(days=1)
    assert ledger.resolve_incident("m", "drift", later, lambda _: over, now=later)
    opened, resolved = ledger.waiting_notices("m", "mail")
    assert (opened.kind, resolved.kind) == (NoticeKind.OPENED, NoticeKind.RESOLVED)

    ledger.note_delivery([opened.id, resolved.id], "mail", later)
    places = ["mail", "chat"]
    assert ledger.close_notices("m", places, later, older_than=NOW) == 0
    assert len(ledger.waiting_notices("m", "chat")) == 2
    assert ledger.close_notices("m", places, later, older_than=later) == 1
    ledger.note_delivery([resolved.id], "chat", later)
    assert ledger.close_notices("m", places, later, older_than=NOW) == 0
    assert ledger.waiting_notices("m", "a place named later") == ()


def test_of_many_writers_one_opens_an_incident_and_one_notice_is_written(url: str) -> None:
    def write(number: int) -> bool:
        ledger = Ledger.open(url)
        try:
            told = saying({"n": number}, notice("m: drift"))
            return ledger.raise_incident("m", "drift", NOW, told, now=NOW)[1]
        finally:
            ledger.close()

    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(write, range(16)))
    ledger = Ledger.open(url)
    assert sum(opened) == 1
    assert len(ledger.incidents("m")) == len(ledger.waiting_notices("m", "mail")) == 1
    ledger.close()


def test_an_older_window_measured_again_leaves_newer_incidents_alone(ledger: Ledger) -> None:
    earlier, later = NOW - timedelta(days=2), NOW + timedelta(days=2)
    ledger.raise_incident("m", "drift", NOW, saying({"n": 1}), now=NOW)
    assert not ledger.resolve_incident("m", "drift", earlier, now=NOW)
    _, is_new = ledger.raise_incident("m", "drift", earlier, saying({"n": 0}), now=NOW)
    assert not is_new
    (still_open,) = ledger.incidents("m")
    assert (still_open.updated_at, still_open.details) == (NOW, {"n": 1})
    assert ledger.resolve_incident("m", "drift", later, now=NOW)
    _, is_new = ledger.raise_incident("m", "drift", NOW, saying({"n": 2}), now=NOW)
    assert not is_new
    assert ledger.incidents("m") == ()


def test_a_window_measured_again_replaces_its_record(ledger: Ledger) -> None:
    for rows in (1, 2):
        ledger.record_window("w1", "m", NOW, NOW, {"rows": rows})
    (window,) = ledger.windows("m")
    assert window.record == {"rows": 2}
    assert window.start == NOW


def test_a_decision_is_made_once_under_its_key(ledger: Ledger) -> None:
    assert ledger.decide("k", "m", "retrain", {"a": 1}, NOW)
    assert not ledger.decide("k", "m", "wait", {"a": 2}, NOW)
    decision = ledger.decision("k")
    assert decision is not None
    assert decision.verdict == "retrain"


def test_a_database_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(ModelYardError, match="does not answer") as caught:
        Ledger.open(f"postgresql+psycopg://me:secret@/x?host={tmp_path}")
    assert "secret" not in str(caught.value)


def test_a_database_in_which_no_table_may_be_made_is_told_in_words(postgres: str) -> None:
    name = f"closed_{uuid.uuid4().hex[:12]}"
    admin = sa.create_engine(postgres.format("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
        connection.execute(sa.text(f"CREATE ROLE {name} LOGIN"))
    admin.dispose()
    url = postgres.format(name).replace("postgres@", f"{name}@", 1)
    closed = sa.create_engine(postgres.format(name), isolation_level="AUTOCOMMIT")
    with closed.connect() as connection:
        connection.execute(sa.text("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
    closed.dispose()
    with pytest.raises(ModelYardError, match=r"cannot be used: permission denied.*ledger\.url"):
        Ledger.open(url)


def test_a_password_among_the_arguments_of_the_url_is_not_shown_either(tmp_path: Path) -> None:
    with pytest.raises(ModelYardError, match="does not answer") as caught:
        Ledger.open(f"postgresql+psycopg:///x?host={tmp_path}&password=secret")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "nosuch://me:secret@x",
        "postgresql+nosuch://me:secret@x/y",
        "not a url, secret",
        "postgresql+psycopg://me:secret@x:port/y",
    ],
)
def test_a_url_that_names_no_usable_database_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError, match=r"ledger\.url in configs/platform\.yaml") as caught:
        Ledger.open(url)
    assert caught.value.exit_code == 2
    assert "secret" not in str(caught.value)


def test_a_ledger_file_of_random_bytes_asks_for_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(random.Random(0).randbytes(8192))
    with pytest.raises(ModelYardError, match=r"ledger\.db is damaged: .*from a backup"):
        Ledger.open(f"sqlite:///{path}")


def test_a_ledger_file_that_is_damaged_behind_its_first_page_asks_for_a_backup(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger.open(f"sqlite:///{path}")
    ledger.raise_incident("m", "drift", NOW, saying({"n": 1}), now=NOW)
    ledger.close()
    whole = path.read_bytes()
    page = int.from_bytes(whole[16:18], "big")
    path.write_bytes(whole[:page] + random.Random(0).randbytes(len(whole) - page))
    with pytest.raises(ModelYardError, match=r"is damaged: .*from a backup"):
        Ledger.open(f"sqlite:///{path}")
