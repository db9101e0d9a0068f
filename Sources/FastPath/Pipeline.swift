// The fast path.
