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


cdef struct Line:
    unsigned char name[NAME_MAX]    # in lower case
    Py_ssize_t size
    Text value
    Py_ssize_t length


cdef Text past_start(Text at, Text end) noexcept:
    """Behind the first line, whose status has been read; NULL where it does not end as it should."""
    at += 12
    if at[0] == c" ":
        at += 1
        while at < end and (at[0] == 9 or 0x20 <= at[0] <= 0x7e):
            at += 1
    return past_break(at, end)


cdef inline Text past_break(Text at, Text end) noexcept:
    return at + 2 if end - at >= 2 and at[0] == c"\r" and at[1] == c"\n" else NULL


cdef Text past_line(Text at, Text end, Line* line) noexcept:
    """Behind a header, which is in ``line``; NULL where it is not plain. ``line.size`` is 0 where there is none."""
    line.size = 0
    while at < end and line.size < NAME_MAX and TOKEN[at[0]]:
        line.name[line.size] = TOKEN[at[0]]
        line.size += 1
        at += 1
    if line.size == 0:
        return at
    if at == end or at[0] != c":":
        return NULL
    at += 1
    while at < end and PLAIN[at[0]] == 2:
        at += 1
    line.value = at
    while at < end and PLAIN[at[0]]:
        at += 1
    line.length = at - line.value
    if line.length and PLAIN[(at - 1)[0]] == 2:
        return NULL
    return past_break(at, end)


def whole(bytes data not None, Py_ssize_t max_head, long long max_body):
    """The reply that these bytes are from their first to their last, or None; see ``replies_py.whole``."""
    cdef Line line
    cdef Text begin = <Text>PyBytes_AS_STRING(data)
    cdef Text end = begin + PyBytes_GET_SIZE(data)
    cdef Text at
    cdef long long length = -1
    cdef int status = status_of(begin, end)
    cdef list headers = []
    at = past_start(begin, end) if status else NULL
    while at is not NULL:
        at = past_line(at, end, &line)
        if at is NULL or line.size == 0:
            break
        if unusual(line.name, line.size) or len(headers) == MOST_HEADERS:
            return None
        if is_name(line.name, line.size, b"content-length", 14):
            if length >= 0:
                return None
            length = number(line.value, line.length)
            if length < 0:
                return None
        elif is_name(line.name, line.size, b"connection", 10) and not keeps_alive(line.value, line.length):
            return None
        headers.append((
            PyBytes_FromStringAndSize(<const char*>line.name, line.size),
            PyBytes_FromStringAndSize(<const char*>line.value, line.length),
        ))
    if at is not NULL:
        at = past_break(at, end)
    if at is NULL or not 0 <= length <= max_body or at - begin > max_head or end - at != length:
        return None
    return status, headers, PyBytes_FromStringAndSize(<const char*>at, length)
