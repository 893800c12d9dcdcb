"""Check the record, make the environment, retrain, compare."""

from __future__ import annotations

from prefect import flow

from modelyard.adapters.reproduction.folders import fresh_folder
from modelyard.domain.reproduction import Reproduction
from tasks.reproduction import (
    check_record,
    compare_release,
    make_fresh_environment,
    retrain_release,
)


@flow(name="reproduce", flow_run_name="reproduce {model}")
def reproduce_release(
    model: str, version: str | None = None, replace: list[str] | None = None
) -> Reproduction:
    """Make a release again from its record, in a fresh environment, and say how equal it is.

    What was altered since it was recorded is named, and neither installed nor run.

    Args:
        model: Name of a model that has a release.
        version: The release; empty means the champion.
        replace: Requirements that take the place of recorded ones, like scikit-learn==1.8.0: what
            would another version change?
    """
    with fresh_folder() as folder:
        checked = check_record(model, version, folder)
        if not checked.usable:
            return compare_release(checked, None, folder)
        python = make_fresh_environment(checked, replace or [], folder)
        refitted = retrain_release(checked, python, folder)
        return compare_release(checked, refitted, folder)
