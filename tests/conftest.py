"""Settings of all tests: `HYPOTHESIS_PROFILE=random` looks at new examples on every run, the default at the same ones.

What fails in a change's tests is then the change's own doing; new examples are looked for by `make soak`.
"""

import os

from hypothesis import settings

settings.register_profile("same", derandomize=True, database=None)
settings.register_profile("random")
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
