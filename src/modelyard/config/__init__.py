"""What a user may write into configs/, how it is read, and what it may not contradict."""

from modelyard.config.platform import PlatformConfig, load_platform_config
from modelyard.config.schema import (
    Data,
    DataChecks,
    Evaluation,
    ModelConfig,
    Training,
    load_model_config,
    load_model_file,
)

__all__ = [
    "Data",
    "DataChecks",
    "Evaluation",
    "ModelConfig",
    "PlatformConfig",
    "Training",
    "load_model_config",
    "load_model_file",
    "load_platform_config",
]
