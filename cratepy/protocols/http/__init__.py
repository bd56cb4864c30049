"""HTTP/1.1 with CrateDB's ``/_sql`` endpoint: bytes → requests, results → JSON."""
