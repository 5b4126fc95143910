"""What the user writes: ops, assets, graphs, jobs, and what they are configured with."""
