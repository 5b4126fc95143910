"""What may run now: events in, commands out. Pure: no clock, process, file or thread."""
