"""Making a release again: its record checked, a fresh environment, a refit, a comparison."""
