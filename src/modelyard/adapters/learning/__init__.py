"""How a recipe is fitted, and how models are held against each other."""
