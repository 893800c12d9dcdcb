"""The state database: what MLflow cannot promise to remember."""

from modelyard.ledger.ledger import Ledger, acting_person
from modelyard.ledger.observations import Incident, RecordedDecision, RecordedWindow

__all__ = ["Incident", "Ledger", "RecordedDecision", "RecordedWindow", "acting_person"]
