"""Budgets and turns, so that no tenant takes resources from another."""
