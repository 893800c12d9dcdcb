"""What runs inside a replica: knows no Prefect, no MLflow server, no Docker."""
