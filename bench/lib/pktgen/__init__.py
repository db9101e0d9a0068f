"""bench/pktgen: searches for the throughput of a device under test with the project's own generator."""
