"""What ModelYard says to Prefect while a flow runs: steps, pages, events."""
