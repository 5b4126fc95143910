"""One run, from plan to result."""
