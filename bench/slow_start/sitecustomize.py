"""Loaded by every Python that starts with this directory on PYTHONPATH: puts `bench.slow` into a worker's request path.

Only `python -m bench.gate --slow N` starts a gateway like this, to show that the gate then fails.
"""

import sys

if "fastgw.gateway.worker" in sys.orig_argv:
    from bench import slow
    from fastgw.gateway.pipeline import Pipeline

    if slow.wanted():
        Pipeline._scan = slow.slowed(Pipeline._scan, slow.wanted())  # type: ignore[method-assign]
