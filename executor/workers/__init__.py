"""Processes that run steps; unaware of plans, limits and pools."""
