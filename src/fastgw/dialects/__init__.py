"""Wire formats: pure functions over bytes, without I/O and without a clock."""
