"""Where rows, labels and predictions are, and what their columns mean."""
