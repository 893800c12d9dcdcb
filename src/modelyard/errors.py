"""Which things can go wrong that an operator can act on?

Every message says what happened, with which value, and what to do next. `exit_code` is what the
`modelyard` command ends with: 1 failed, 2 bad input or config, 3 a gate or a rule said no.
"""


class ModelYardError(Exception):
    """Something ModelYard found out about and can explain."""

    exit_code = 1


class InvalidInputError(ModelYardError):
    """What the user gave cannot be used; nothing was written."""

    exit_code = 2


class ConfigError(InvalidInputError):
    """A YAML file under configs/ says something that cannot be meant."""


class DataError(InvalidInputError):
    """A data source cannot be read, or its rows break what the config promises about them."""


class UnknownReleaseError(InvalidInputError):
    """A model or version was named that the ledger does not know."""


class RefusedError(ModelYardError):
    """A rule said no: the request was understood and deliberately not done."""

    exit_code = 3


class ConflictError(RefusedError):
    """Somebody else changed, or is changing, the same model."""


class TransientError(ModelYardError):
    """It may work when tried again: tasks retry this family and nothing else."""


class ServiceUnavailableError(TransientError):
    """A service did not answer, or did not become ready in time."""


class TrackingError(TransientError):
    """MLflow refused what was asked of it, or does not answer."""


class EngineUnavailableError(ModelYardError):
    """No Docker engine answers on this machine."""


class RolloutError(ModelYardError):
    """A release could not be put into traffic; what served before still serves."""


class BundleError(ModelYardError):
    """A release's files are missing, were changed, or do not predict as recorded."""


class ModelCodeError(ModelYardError):
    """An estimator or a pipeline, which is anybody's, failed or gave what is no prediction."""


class RequestError(InvalidInputError):
    """A prediction request breaks the contract; `field` names the part of it that does."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class ReproductionError(ModelYardError):
    """A release could not be made again; that says nothing about whether it would be equal."""


class NotCompilableError(ModelYardError):
    """A pipeline has a part that cannot be told as an ONNX graph; the message says which."""


class OverloadedError(TransientError):
    """A replica has as much to do as it may take on; a retry a little later may succeed."""


class DeadlineError(TransientError):
    """A prediction took longer than a replica lets one wait."""


class TooLargeError(InvalidInputError):
    """A request is larger than a replica takes."""
