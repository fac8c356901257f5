"""Views into bytes objects, and the small loops over them that native modules share. All inline, no module of its own.

A View is only good while something else holds the bytes object it points into.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy

cdef struct View:
    const unsigned char* at
    Py_ssize_t size


cdef inline View view_of(bytes value) noexcept:
    cdef View view
    view.at = <const unsigned char*>PyBytes_AS_STRING(value)
    view.size = PyBytes_GET_SIZE(value)
    return view


cdef inline View stripped(View view) noexcept:
    """Without outer blanks and tabs (OWS, RFC 9110 section 5.6.3)."""
    while view.size > 0 and (view.at[0] == c" " or view.at[0] == c"\t"):
        view.at += 1
        view.size -= 1
    while view.size > 0 and (view.at[view.size - 1] == c" " or view.at[view.size - 1] == c"\t"):
        view.size -= 1
    return view


cdef inline bytes cut(bytes value, View view):
    """The bytes of ``view``, which lies in ``value``; ``value`` itself when that is all of it."""
    if view.size == PyBytes_GET_SIZE(value):
        return value
    return PyBytes_FromStringAndSize(<const char*>view.at, view.size)


cdef inline bint has_control(View view) noexcept:
    """Whether there is a control character other than a tab."""
    cdef uint64_t word, low, delete
    cdef Py_ssize_t at = 0
    cdef unsigned char byte
    while at < view.size:
        if view.size - at >= 8:
            memcpy(&word, view.at + at, 8)
            low = (word - <uint64_t>0x2020202020202020) & ~word
            delete = word ^ <uint64_t>0x7F7F7F7F7F7F7F7F
            delete = (delete - <uint64_t>0x0101010101010101) & ~delete
            if not ((low | delete) & <uint64_t>0x8080808080808080):
                at += 8
                continue
        byte = view.at[at]
        if (byte < 32 and byte != c"\t") or byte == 127:
            return True
        at += 1
    return False


cdef inline unsigned char lower_of(unsigned char byte) noexcept:
    return byte + 32 if c"A" <= byte <= c"Z" else byte


cdef inline bint same(View view, const char* text, Py_ssize_t size) noexcept:
    """Whether the view is ``text`` (lower case), letter case aside."""
    cdef Py_ssize_t at
    if view.size != size:
        return False
    for at in range(size):
        if lower_of(view.at[at]) != <unsigned char>text[at]:
            return False
    return True


cdef inline bint holds(View view, const char* text, Py_ssize_t size) noexcept:
    """Whether ``text`` (lower case) is anywhere in the view, letter case aside."""
    cdef View window
    cdef Py_ssize_t at
    window.size = size
    for at in range(view.size - size + 1):
        window.at = view.at + at
        if same(window, text, size):
            return True
    return False


cdef inline bint all_between(View view, unsigned char first, unsigned char last) noexcept:
    cdef Py_ssize_t at
    for at in range(view.size):
        if view.at[at] < first or view.at[at] > last:
            return False
    return True


cdef inline bint equal(const unsigned char* at, const char* text, size_t size) noexcept:
    """Whether ``size`` bytes, known to be there, are ``text``."""
    return memcmp(at, text, size) == 0
