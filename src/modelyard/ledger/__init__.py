"""The state database: what MLflow cannot promise to remember."""

from modelyard.ledger.incidents import Description, Incident
from modelyard.ledger.ledger import Ledger, RecordedReproduction, acting_person
from modelyard.ledger.observations import RecordedDecision, RecordedWindow

__all__ = [
    "Description",
    "Incident",
    "Ledger",
    "RecordedDecision",
    "RecordedReproduction",
    "RecordedWindow",
    "acting_person",
]
