"""Cluster state service: coordination, allocation, discovery, the transport between nodes. Pure cores, trio drivers."""
