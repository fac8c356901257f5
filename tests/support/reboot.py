"""Start a program as after a reboot: another boot id, and monotonic clocks that began a moment ago.

    python reboot.py BOOT_ID_FILE PROGRAM ...

The file is mounted over the kernel's boot id in a mount namespace, and the clocks are set back in a time namespace
(time_namespaces(7)), both of this process and its children alone. Wants root, and a kernel that has them; exits 77
with the reason where it may not.
"""

import ctypes
import os
import sys
import time
from pathlib import Path

BOOT_ID = "/proc/sys/kernel/random/boot_id"
NEW_MOUNTS, NEW_TIME = 0x20000, 0x80
BIND, PRIVATE = 0x1000, 0x40000 | 0x4000  # private: and all below
NOT_ALLOWED = 77
UP_S = 5
"""How long the machine is to have been up."""

libc = ctypes.CDLL(None, use_errno=True)


def done(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def reboot(boot_id: Path) -> None:
    """Make it so for this process. Raises OSError where that is not allowed."""
    done(libc.unshare(NEW_MOUNTS | NEW_TIME), "unshare")
    done(libc.mount(b"none", b"/", None, PRIVATE, None), "mount")
    done(libc.mount(bytes(boot_id), BOOT_ID.encode(), None, BIND, None), "mount over the boot id")
    up = [f"{name} {UP_S - int(time.clock_gettime(clock))} 0\n" for name, clock in CLOCKS.items()]
    Path("/proc/self/timens_offsets").write_text("".join(up))
    inside = os.open("/proc/self/ns/time_for_children", os.O_RDONLY)
    done(libc.setns(inside, NEW_TIME), "setns")
    os.close(inside)


CLOCKS = {"monotonic": time.CLOCK_MONOTONIC, "boottime": time.CLOCK_BOOTTIME}

if __name__ == "__main__":
    try:
        reboot(Path(sys.argv[1]))
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(NOT_ALLOWED)
    os.execv(sys.argv[2], sys.argv[2:])
