"""Do tests that share something heavy still run in one worker, one after another?"""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("guard")
def test_a_group_of_tests_is_known_to_what_hands_tests_out(request: pytest.FixtureRequest) -> None:
    """pytest-xdist hands out by the id of a test, to which it adds the group's name."""
    if not request.config.getoption("loadgroup", False):
        pytest.skip("This run does not hand out tests by groups.")
    assert request.node.nodeid.endswith("@guard")
