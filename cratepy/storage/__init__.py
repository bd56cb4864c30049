"""Data storage: a node's shards on disk: translog, segments, manifest. Synchronous; driven on worker threads."""
