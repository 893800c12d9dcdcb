"""The state database: what MLflow cannot promise to remember."""

from modelyard.ledger.ledger import Ledger, RecordedReproduction, acting_person
from modelyard.ledger.observations import Incident, RecordedDecision, RecordedWindow

__all__ = [
    "Incident",
    "Ledger",
    "RecordedDecision",
    "RecordedReproduction",
    "RecordedWindow",
    "acting_person",
]
