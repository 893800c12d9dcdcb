"""What is recorded of a candidate, so that it can be made again?"""

from __future__ import annotations

import platform
import sys

from modelyard.adapters.learning.environment import model_packages, training_requirements
from modelyard.adapters.learning.fitting import Fit
from modelyard.adapters.records.code import record_code
from modelyard.adapters.records.locks import lock_packages
from modelyard.adapters.records.store import RecordStore
from modelyard.adapters.records.threads import describe_threads
from modelyard.config import ModelConfig
from modelyard.config.recorded import recorded_config
from modelyard.domain.records import Record
from modelyard.project import Project


def record_candidate(project: Project, config: ModelConfig, fit: Fit) -> Record:
    """Record what this process has just fitted, and with what.

    Call it in the process of the fit: it asks the libraries that computed for their threads.
    """
    store = RecordStore(project.record_folder())
    pins = training_requirements(model_packages(config.training))
    return Record(
        config=recorded_config(config),
        code=record_code(project.root, project.home, config.training, store),
        python=platform.python_version(),
        implementation=sys.implementation.name,
        platform=platform.platform(),
        requirements=pins,
        lock=lock_packages(pins, store),
        threads=describe_threads(),
        predictions=(
            None
            if fit.predictions is None
            else store.put(fit.predictions.read_bytes(), fit.predictions.suffix)
        ),
    )
