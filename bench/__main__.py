"""fastgw, nginx and HAProxy on the same work, in one run, interleaved: python -m bench [--quick] [--case NAME]."""

import argparse
import sys
import time
from pathlib import Path

from bench import report
from bench.cases import CASES, QUICK, Settings
from bench.pairs import Figure
from bench.processes import BenchError, need


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure fastgw against nginx and HAProxy.")
    parser.add_argument("--quick", action="store_true", help="about two minutes; rough")
    parser.add_argument("--case", action="append", choices=CASES, metavar="NAME", help=f"one of {', '.join(CASES)}")
    parser.add_argument("--pairs", type=int, help=f"rounds (default {Settings().pairs}, quick {QUICK.pairs})")
    parser.add_argument("--seconds", type=float, help=f"a measurement (default {Settings().seconds:g}, quick 1)")
    parser.add_argument("--out", type=Path, help=f"where to write (default {report.RESULTS}, nowhere with --case)")
    found = parser.parse_args(argv)
    if found.pairs is not None and not 1 <= found.pairs <= 100:
        parser.error("--pairs must be 1 to 100")
    if found.seconds is not None and not 1 <= found.seconds <= 60:
        parser.error("--seconds must be 1 to 60")
    return found


def settings(found: argparse.Namespace) -> Settings:
    """What the command line comes to."""
    base = QUICK if found.quick else Settings()
    return base._replace(pairs=found.pairs or base.pairs, seconds=found.seconds or base.seconds)


def main(argv: list[str] | None = None) -> int:
    """0 when everything was measured, whatever came out: `bench.gate` is what judges. 1 when something could not be."""
    found = arguments(argv)
    chosen, names = settings(found), found.case or list(CASES)
    about = report.meta(pairs=chosen.pairs, seconds=chosen.seconds, quick=found.quick)
    print(f"{about['cpu']}, {about['cores']} cores, load {about['load_before']}; {chosen.pairs} rounds", flush=True)
    figures: list[Figure] = []
    failed = False
    started = time.monotonic()
    try:
        need("nginx", "haproxy", "wrk", "taskset", "setpriv")
        for name in names:
            try:
                new = CASES[name](chosen)
            except BenchError as error:
                failed = True
                print(f"\n{name}: could not be measured: {error}", flush=True)
                continue
            figures += new
            for figure in new:
                print(f"\n{report.text(figure)}", flush=True)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; everything started is stopped", file=sys.stderr)
        return 130
    out = found.out or (None if found.case or failed else report.RESULTS)
    if out is not None:
        report.write(out, about, figures)
        print(f"\nwritten to {out}")
    print(f"{time.monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
