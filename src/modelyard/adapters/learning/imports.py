"""Where is the code that a config names?"""

from __future__ import annotations

import importlib
from typing import Any

from modelyard.errors import ConfigError


def locate(name: str, section: str = "training") -> Any:
    """Import what a section of a config names. Raises ConfigError where that fails."""
    module_name, _, attribute = name.replace(":", ".").rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (Exception, SystemExit) as err:  # importing runs anybody's code
        raise ConfigError(
            f"{section}: cannot import {name!r}: {type(err).__name__}: {err}. Give an "
            "import path such as sklearn.linear_model.Ridge, or module:function of your own."
        ) from err
