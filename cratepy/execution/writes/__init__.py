"""The write path: rows to shards on their primaries, durable before they are acknowledged."""
