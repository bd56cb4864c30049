"""Bytes ↔ messages for PostgreSQL, HTTP and node-to-node. Sans-io: nothing here opens a socket or reads a clock."""
