"""PostgreSQL's wire protocol 3.0: frontend bytes → messages, results → backend bytes."""
