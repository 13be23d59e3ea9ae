"""Budgets and a scheduler, so that no tenant takes resources from another.

Client connections, the body reader and the job API use them for each request.
"""
