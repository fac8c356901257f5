"""Fuzz one target led by the coverage of the Python code: `pip install atheris`, then

    FASTGW_PURE=1 python -m tests.fuzz.coverage headers -max_total_time=600

Further arguments are libFuzzer's. The first failure ends the process and is written to `found/<target>-...`; what was
found to be of interest is in `build/fuzz/<target>/`.
"""

import contextlib
import sys

import atheris

from tests.fuzz.targets import FOUND, SCRATCH, TARGETS, files


def main(name: str, options: list[str]) -> None:
    target = TARGETS[name]
    inputs = SCRATCH / name
    inputs.mkdir(parents=True, exist_ok=True)
    for at, path in enumerate(files(name)):
        (inputs / f"seed-{at}").write_bytes(path.read_bytes())

    def one(data: bytes) -> None:
        with contextlib.suppress(*target.allowed):
            target.run(data)

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], f"-artifact_prefix={FOUND / name}-", "-max_len=8192", *options, str(inputs)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
