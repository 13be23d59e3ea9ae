"""Budgets and turns, by which no tenant takes from another."""
