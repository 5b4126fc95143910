"""Slots of pools that all runs share: who holds them, who waits for them, and who gets the next ones."""
