"""The parts that a recipe composes: scorers, budgets, reducers, and what several of them share."""
