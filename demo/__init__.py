"""The demo: three nodes on loopback, the New York flights of 2013, a tour of queries over both protocols.

Also used by tests and benchmarks, which need the same processes and the same data.
"""
