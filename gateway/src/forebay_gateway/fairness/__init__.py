"""Budgets and a scheduler, so that no tenant takes resources from another."""
