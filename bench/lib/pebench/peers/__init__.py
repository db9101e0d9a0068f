"""The same traffic through pe-dp and its peers: devices under test, the traffic, and what is measured."""
