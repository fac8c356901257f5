# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A whole HTTP/1.1 reply in one segment, read in one native pass; ``replies_py`` is the specification."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcmp

from fastgw._core.text cimport lower_of

from fastgw._core import replies_py as twin

Whole = twin.Whole
MAX_HEADERS = twin.MAX_HEADERS

__all__ = ["MAX_HEADERS", "Whole", "whole"]

ctypedef const unsigned char* Text

cdef enum:
    NAME_MAX = 128
    MOST_HEADERS = 100
    LENGTH_DIGITS = 15

cdef unsigned char TOKEN[256]    # the lower-case form of a token character, 0 for all others
cdef unsigned char PLAIN[256]    # 1: may stand in a value; 2: white space


cdef void build_tables():
    cdef int byte
    for byte in range(256):
        TOKEN[byte] = PLAIN[byte] = 0
        if c"0" <= byte <= c"9" or c"A" <= byte <= c"Z" or c"a" <= byte <= c"z" or byte in b"!#$%&'*+-.^_`|~":
            TOKEN[byte] = lower_of(byte)
        if byte > 0x20 and byte != 0x7f:
            PLAIN[byte] = 1
    PLAIN[0x20] = PLAIN[0x09] = 2


build_tables()


cdef inline bint is_name(const unsigned char* lower, Py_ssize_t size, const char* name, Py_ssize_t length) noexcept:
    return size == length and memcmp(lower, name, length) == 0


cdef bint unusual(const unsigned char* lower, Py_ssize_t size) noexcept:
    if size == 7:
        return memcmp(lower, b"upgrade", 7) == 0 or memcmp(lower, b"trailer", 7) == 0
    return is_name(lower, size, b"transfer-encoding", 17) or is_name(lower, size, b"proxy-connection", 16)


cdef bint keeps_alive(Text value, Py_ssize_t size) noexcept:
    cdef Py_ssize_t at
    if size != 10:
        return False
    for at in range(10):
        if lower_of(value[at]) != (<const unsigned char*>b"keep-alive")[at]:
            return False
    return True


cdef long long number(Text value, Py_ssize_t size) noexcept:
    """The decimal number, -1 where it is none of at most 15 digits."""
    cdef long long found = 0
    cdef Py_ssize_t at
    if not 0 < size <= LENGTH_DIGITS:
        return -1
    for at in range(size):
        if not c"0" <= value[at] <= c"9":
            return -1
        found = found * 10 + (value[at] - c"0")
    return found


cdef int status_of(Text at, Text end) noexcept:
    """The status of a head that begins as it should, else 0."""
    cdef int status
    if end - at < 14 or memcmp(at, b"HTTP/1.1 ", 9) != 0:
        return 0
    if not c"2" <= at[9] <= c"5" or not c"0" <= at[10] <= c"9" or not c"0" <= at[11] <= c"9":
        return 0
    status = (at[9] - c"0") * 100 + (at[10] - c"0") * 10 + (at[11] - c"0")
    return 0 if status == 204 or status == 304 else status


def whole(bytes data not None, Py_ssize_t max_head, long long max_body):
    """The reply that these bytes are from their first to their last, or None; see ``replies_py.whole``."""
    cdef unsigned char lower[NAME_MAX]
    cdef Text begin = <Text>PyBytes_AS_STRING(data)
    cdef Text end = begin + PyBytes_GET_SIZE(data)
    cdef Text at = begin, value, stop
    cdef Py_ssize_t size
    cdef long long length = -1
    cdef int status = status_of(at, end)
    cdef list headers
    if status == 0:
        return None
    at += 12
    if at[0] == c" ":
        at += 1
        while at < end and (at[0] == 9 or 0x20 <= at[0] <= 0x7e):
            at += 1
    # From here on every look ahead is behind a comparison with the end.
    if end - at < 4 or at[0] != c"\r" or at[1] != c"\n":
        return None
    at += 2
    headers = []
    while True:
        size = 0
        while at < end and size < NAME_MAX and TOKEN[at[0]]:
            lower[size] = TOKEN[at[0]]
            size += 1
            at += 1
        if size == 0:
            break
        if at == end or at[0] != c":":
            return None
        at += 1
        while at < end and PLAIN[at[0]] == 2:
            at += 1
        value = at
        while at < end and PLAIN[at[0]]:
            at += 1
        stop = at
        if end - at < 2 or at[0] != c"\r" or at[1] != c"\n" or (stop > value and PLAIN[(stop - 1)[0]] == 2):
            return None
        at += 2
        if unusual(lower, size) or len(headers) == MOST_HEADERS:
            return None
        if is_name(lower, size, b"content-length", 14):
            if length >= 0:
                return None
            length = number(value, stop - value)
            if length < 0:
                return None
        elif is_name(lower, size, b"connection", 10) and not keeps_alive(value, stop - value):
            return None
        headers.append((
            PyBytes_FromStringAndSize(<const char*>lower, size),
            PyBytes_FromStringAndSize(<const char*>value, stop - value),
        ))
    if end - at < 2 or at[0] != c"\r" or at[1] != c"\n" or not 0 <= length <= max_body:
        return None
    at += 2
    if at - begin > max_head or end - at != length:
        return None
    return status, headers, PyBytes_FromStringAndSize(<const char*>at, length)
