"""Tools of the tests: a fault proxy, a scripted upstream, a stream grammar."""
