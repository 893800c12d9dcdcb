"""Does the gate judge on rows that neither model has learnt, and on nothing else?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from modelyard.adapters.data.selection import select_rows
from modelyard.adapters.workspace import Workspace
from modelyard.domain.gate import GateVerdict, Rule
from modelyard.domain.releases import ReleaseState
from tasks.data import open_delivery
from tasks.evaluation import gate_candidate
from tasks.training import train_candidate
from tests.projects import FIRST, MODEL, SECOND, rides, write_config


def found(rules: tuple[Rule, ...], name: str) -> Rule:
    (rule,) = [rule for rule in rules if rule.name == name]
    return rule


def test_rows_that_come_again_under_a_new_time_are_refused_with_their_count(
    monitored: Workspace,
) -> None:
    rows, times = rides(), pd.to_datetime(rides()["hour"], utc=True)
    learnt = rows["row_id"][times < FIRST].iloc[-12:].tolist()
    newest = rows.index[times < SECOND][-12:]
    rows.loc[newest, "row_id"] = learnt
    rows.drop_duplicates("row_id", keep="last").to_csv(
        monitored.project.root / "rides.csv", index=False
    )

    delivery = open_delivery.fn(MODEL, "test", SECOND)
    gated = gate_candidate.fn(delivery, train_candidate.fn(delivery))

    rule = found(gated.decision.rules, "no row on both sides")
    assert (rule.verdict, rule.value) == (GateVerdict.KEEP, 12.0)
    assert "12 by champion 1.0.0" in rule.reason
    assert monitored.ledger.release_by_id(delivery.id).state is ReleaseState.KEPT_CHAMPION


@pytest.fixture
def customers(workspace: Workspace) -> Workspace:
    """Rows of sixty customers without a time; each has several."""
    root = workspace.project.root
    write_config(root)
    config = root / "configs" / "models" / f"{MODEL}.yaml"
    text = config.read_text().replace("  time: hour\n", "").replace("  id: row_id\n", "")
    text = text.replace("holdout: newest 3d", "holdout: newest 30%, group: customer")
    text = text.replace(", window: 7d}\nevaluation", "}\nevaluation")
    config.write_text(text)
    rows = rides().drop(columns=["hour", "row_id"])
    rows["customer"] = np.arange(len(rows)) % 60
    rows.to_csv(root / "rides.csv", index=False)
    return workspace


def test_rows_of_one_group_stay_on_one_side_while_the_data_grows(customers: Workspace) -> None:
    project = customers.project
    everything = pd.read_csv(project.root / "rides.csv")
    everything.iloc[:400].to_csv(project.root / "rides.csv", index=False)
    before = select_rows(project.model(MODEL), project.root, None)
    everything.to_csv(project.root / "rides.csv", index=False)
    after = select_rows(project.model(MODEL), project.root, None)

    held, learnt = (set(before.part(part)["customer"]) for part in ("holdout", "training"))
    assert held
    assert not held & learnt
    assert held <= set(after.part("holdout")["customer"])
    assert learnt <= set(after.part("training")["customer"])


def test_rows_whose_label_is_not_due_are_left_out(workspace: Workspace) -> None:
    root = workspace.project.root
    rows = rides()
    to_come = rows.tail(1).assign(row_id="to come", hour="2199-01-01T00:00:00")
    pd.concat([rows, to_come]).to_csv(root / "rides.csv", index=False)

    delivery = open_delivery.fn(MODEL, "test")

    assert delivery.as_of is not None
    assert delivery.holdout.span.end == SECOND - pd.Timedelta(hours=1)
