"""Continuous delivery for machine-learning models on Prefect and MLflow."""
