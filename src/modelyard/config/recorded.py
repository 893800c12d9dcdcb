"""What of a config is kept with a release, and how is it read again?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from modelyard.config.schema import ModelConfig
from modelyard.domain.records import mask_secrets, masked
from modelyard.errors import ConfigError


def recorded_config(config: ModelConfig) -> dict[str, Any]:
    """Return a config as it may be kept: as written, without addresses of alerts, masked.

    An alert's address often is a secret as a whole, and decides nothing about a release.
    """
    return masked(config.model_dump(mode="json", exclude={"alerts"}))


def restore_config(recorded: Mapping[str, Any], current: ModelConfig) -> ModelConfig:
    """Return the config that was recorded; a masked password is taken from the current one.

    Raises ConfigError where that names another source, or the record cannot be read any more.
    """
    data = dict(recorded["data"])
    for key in ("source", "query"):
        written = getattr(getattr(current.data, key), "written", None)
        if data.get(key) is None or "***" not in data[key]:
            continue
        if written is None or mask_secrets(written) != data[key]:
            raise ConfigError(
                f"{current.name}: the recorded data.{key} is {data[key]}, with a password that is "
                f"not recorded, and the config now says {mask_secrets(written or 'nothing')}. Put "
                "the former one back, for as long as its rows are read again."
            )
        data[key] = getattr(current.data, key)
    try:
        return ModelConfig.model_validate({**recorded, "data": data})
    except ValidationError as err:
        raise ConfigError(f"{current.name}: the recorded config cannot be read: {err}") from err
