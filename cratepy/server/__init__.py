"""One node: sockets, sessions, settings, wiring, command line."""
