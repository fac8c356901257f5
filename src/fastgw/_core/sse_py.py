"""One look at a block of an event stream in OpenAI's style tells whether it may pass or its events must be read.

Specification, type stub and test oracle of ``sse_c``. The look may err on the side of reading (a flag set for text that
only resembles what it stands for), never on the side of passing.
"""

import re

CR = 1
"""A carriage return: lines may not end in LF alone."""
WHOLE = 2
"""The block ends with a complete event and nothing more: LF LF, and no third LF before them."""
USAGE = 4
"""``"usage"`` followed by an object."""
DONE = 8
"""The text ``[DONE]``."""
ERROR = 16
"""``"error"`` as a whole string."""
FINISH = 32
"""``"finish_reason"`` followed by a string."""
EVENTS = 8
"""The number of LF LF in the block (overlapping ones once) stands above this many bits."""

_USAGE = re.compile(rb'"usage"[ \t\r\n]*:[ \t\r\n]*\{')
_FINISH = re.compile(rb'"finish_reason"[ \t\r\n]*:[ \t\r\n]*"')


def look(block: bytes) -> int:
    """Flags of what ``block`` holds, and the number of events it ends. Any bytes; never raises."""
    found = block.count(b"\n\n") << EVENTS
    if b"\r" in block:
        found |= CR
    if block.endswith(b"\n\n") and not block.endswith(b"\n\n\n"):
        found |= WHOLE
    if _USAGE.search(block):
        found |= USAGE
    if b"[DONE]" in block:
        found |= DONE
    if b'"error"' in block:
        found |= ERROR
    if _FINISH.search(block):
        found |= FINISH
    return found
