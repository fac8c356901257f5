"""The data plane: requests in, upstream calls out, by the plan."""
