"""Where a step's value waits for the next step."""
