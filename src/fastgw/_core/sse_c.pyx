# cython: language_level=3, boundscheck=False, wraparound=False
"""Native twin of ``sse_py``: one pass with ``memchr`` over the quotes of a block."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memchr, memcmp

cdef enum:
    F_CR = 1
    F_WHOLE = 2
    F_USAGE = 4
    F_DONE = 8
    F_ERROR = 16
    F_FINISH = 32
    SHIFT = 8

CR, WHOLE, USAGE, DONE, ERROR, FINISH, EVENTS = F_CR, F_WHOLE, F_USAGE, F_DONE, F_ERROR, F_FINISH, SHIFT


cdef inline const char* skip_blanks(const char* at, const char* end) noexcept nogil:
    while at < end and (at[0] == b" " or at[0] == b"\t" or at[0] == b"\n" or at[0] == b"\r"):
        at += 1
    return at


cdef inline bint valued(const char* at, const char* end, char opens) noexcept nogil:
    """Whether a colon and then ``opens`` follow, with blanks allowed before each."""
    at = skip_blanks(at, end)
    if at >= end or at[0] != b":":
        return False
    at = skip_blanks(at + 1, end)
    return at < end and at[0] == opens


cdef int names(const char* start, const char* end) noexcept nogil:
    """The flags of the strings that matter."""
    cdef int found = 0
    cdef Py_ssize_t left
    cdef const char* at = start
    while True:
        at = <const char*> memchr(at, b'"', end - at)
        if at == NULL:
            return found
        at += 1
        left = end - at
        if left >= 6 and at[0] == b"u" and memcmp(at, b'usage"', 6) == 0:
            if valued(at + 6, end, b"{"):
                found |= F_USAGE
        elif left >= 6 and at[0] == b"e" and memcmp(at, b'error"', 6) == 0:
            found |= F_ERROR
        elif left >= 14 and at[0] == b"f" and memcmp(at, b'finish_reason"', 14) == 0:
            if valued(at + 14, end, b'"'):
                found |= F_FINISH


cdef bint done(const char* start, const char* end) noexcept nogil:
    cdef const char* at = start
    while True:
        at = <const char*> memchr(at, b"[", end - at)
        if at == NULL:
            return False
        if end - at >= 6 and memcmp(at, b"[DONE]", 6) == 0:
            return True
        at += 1


cdef Py_ssize_t ends(const char* start, const char* end) noexcept nogil:
    """How often LF LF stands in the block, each byte counted once."""
    cdef Py_ssize_t count = 0
    cdef const char* at = start
    while True:
        at = <const char*> memchr(at, b"\n", end - at)
        if at == NULL or at + 1 >= end:
            return count
        if at[1] == b"\n":
            count += 1
            at += 1
        at += 1


def look(bytes block not None):
    """Flags of what ``block`` holds, and the number of events it ends. Any bytes; never raises."""
    cdef const char* start = PyBytes_AS_STRING(block)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(block)
    cdef const char* end = start + size
    cdef Py_ssize_t found = names(start, end) | (ends(start, end) << SHIFT)
    if memchr(start, b"\r", size) != NULL:
        found |= F_CR
    if size >= 2 and (end - 1)[0] == b"\n" and (end - 2)[0] == b"\n":
        if size == 2 or (end - 3)[0] != b"\n":
            found |= F_WHOLE
    if done(start, end):
        found |= F_DONE
    return found
