"""What will run: a job compiled to a frozen graph of steps. Pure."""
