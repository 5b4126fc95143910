"""The only place that knows SQLite: its connection, its file, its lock, its schema and what can go wrong with them."""
