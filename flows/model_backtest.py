"""Go through history under several policies, show what each would have done."""

from __future__ import annotations

from prefect import flow

from modelyard.domain.backtest import Backtest
from modelyard.domain.values import Moment
from tasks.backtesting import go_through_history, show_backtest


@flow(name="backtest", flow_run_name="backtest {model}")
def backtest_model(
    model: str,
    policies: list[str] | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    every: int = 4,
    processes: int | None = None,
    dask: str | None = None,
) -> Backtest:
    """Try policies of monitoring and retraining on history, side by side.

    Nothing is registered or rolled out. Windows are gone through in the order of time, and every
    decision is made with the rows and labels that were known at its moment.

    Args:
        model: Name of a config under configs/models/, without `.yaml`.
        policies: Policy files to try beside the standard ones, relative to the project.
        start: When the first release is made (UTC); empty means after the first quarter of the
            rows.
        end: Windows that end later are not looked at (UTC); empty means all.
        every: Windows between two retrainings of the policy that goes by a schedule alone.
        processes: How many work at the same time; empty means one a core.
        dask: Address of a Dask scheduler whose workers do it instead, like tcp://10.0.0.5:8786.
    """
    backtest = go_through_history(model, policies or [], start, end, every, processes, dask)
    return show_backtest(backtest)
