"""What the user sets: settings as dataclasses, and how a dict becomes one."""
