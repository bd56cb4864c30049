"""Job execution service: plan → rows: jobs, phases, sources, exchange, writes, and the vectorised engine."""
