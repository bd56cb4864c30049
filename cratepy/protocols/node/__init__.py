"""The protocol between nodes: frames on a byte stream, and the few messages the transport itself needs. Sans-io."""
