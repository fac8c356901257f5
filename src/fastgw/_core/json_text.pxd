"""The grammar of JSON (RFC 8259) as a cursor over bytes. All inline, no module of its own.

Every byte comes from the network. The cursor never passes ``end``, and each read is behind a test against it. There is
no recursion: what is open is kept on a stack of DEPTH_LIMIT bytes. A function that meets a problem leaves the cursor
there, says what it is and returns False.
"""

from libc.string cimport memcmp

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #ifdef __SSE2__
    #include <emmintrin.h>
    #endif

    /* The first byte that a string's fast path may not skip: a quote, a backslash, a control character or the start
       of a non-ASCII character; `end` when there is none. */
    static const unsigned char *fgw_skip_plain(const unsigned char *p, const unsigned char *end) {
    #ifdef __SSE2__
        const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\\\'), limit = _mm_set1_epi8(0x20);
        while (end - p >= 16) {
            __m128i v = _mm_loadu_si128((const __m128i *)p);
            /* A signed compare: bytes from 0x80 on are negative, so "< 0x20" finds them and the controls at once. */
            __m128i hit = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash)),
                                       _mm_cmplt_epi8(v, limit));
            int mask = _mm_movemask_epi8(hit);
            if (mask) return p + __builtin_ctz((unsigned)mask);
            p += 16;
        }
    #endif
        while (end - p >= 8) {
            const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
            uint64_t v, q, s;
            memcpy(&v, p, 8);
            q = v ^ (ones * '"');
            s = v ^ (ones * '\\\\');
            if ((((q - ones) & ~q) | ((s - ones) & ~s) | (v - ones * 0x20) | v) & high) break;
            p += 8;
        }
        while (p < end && *p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\\\') p++;
        return p;
    }
    """
    const unsigned char* skip_plain "fgw_skip_plain"(const unsigned char* p, const unsigned char* end) noexcept nogil

ctypedef const unsigned char* Text

cdef enum:
    DEPTH_LIMIT = 512

cdef struct Cursor:
    Text at
    Text end
    const char* problem


cdef inline bint fail(Cursor* cursor, const char* problem) noexcept nogil:
    cursor.problem = problem
    return False


cdef inline int space(Cursor* cursor) noexcept nogil:
    """Skip blanks; the byte there, or -1 at the end."""
    while cursor.at < cursor.end:
        if cursor.at[0] > c" ":
            return cursor.at[0]
        if cursor.at[0] != c" " and cursor.at[0] != c"\n" and cursor.at[0] != c"\t" and cursor.at[0] != c"\r":
            return cursor.at[0]
        cursor.at += 1
    return -1


cdef inline int hex_of(Text at) noexcept nogil:
    """The value of the four hexadecimal digits at ``at`` (known to be there), -1 when they are not."""
    cdef int value = 0, place, digit
    for place in range(4):
        digit = at[place]
        if c"0" <= digit <= c"9":
            digit -= c"0"
        elif c"a" <= (digit | 32) <= c"f":
            digit = (digit | 32) - c"a" + 10
        else:
            return -1
        value = value * 16 + digit
    return value


cdef inline int utf8_size(Text at, Py_ssize_t left) noexcept nogil:
    """Bytes of the valid multi-byte character at ``at``, 0 when it is none (RFC 3629, the table of section 4)."""
    cdef unsigned char lead = at[0]
    cdef unsigned char low = 0x80, high = 0xBF
    cdef int size, place
    if 0xC2 <= lead <= 0xDF:
        size = 2
    elif 0xE0 <= lead <= 0xEF:
        size = 3
    elif 0xF0 <= lead <= 0xF4:
        size = 4
    else:
        return 0
    if left < size:
        return 0
    if lead == 0xE0:
        low = 0xA0
    elif lead == 0xED:
        high = 0x9F
    elif lead == 0xF0:
        low = 0x90
    elif lead == 0xF4:
        high = 0x8F
    if at[1] < low or at[1] > high:
        return 0
    for place in range(2, size):
        if at[place] & 0xC0 != 0x80:
            return 0
    return size


cdef inline bint skip_escape(Cursor* cursor) noexcept nogil:
    """Skip the escape whose backslash is at the cursor."""
    cdef unsigned char kind
    if cursor.end - cursor.at < 2:
        return fail(cursor, b"unfinished string")
    kind = cursor.at[1]
    if kind == c"u":
        if cursor.end - cursor.at < 6 or hex_of(cursor.at + 2) < 0:
            return fail(cursor, b"broken escape")
        cursor.at += 6
        return True
    if (kind == c"n" or kind == c'"' or kind == c"\\" or kind == c"t" or kind == c"r" or kind == c"/"
            or kind == c"b" or kind == c"f"):
        cursor.at += 2
        return True
    return fail(cursor, b"broken escape")


cdef inline bint skip_string(Cursor* cursor, bint* escaped) noexcept nogil:
    """Skip a string whose opening quote is at the cursor."""
    cdef int size
    cdef unsigned char byte
    cursor.at += 1
    while True:
        cursor.at = skip_plain(cursor.at, cursor.end)
        if cursor.at >= cursor.end:
            return fail(cursor, b"unfinished string")
        byte = cursor.at[0]
        if byte == c'"':
            cursor.at += 1
            return True
        if byte == c"\\":
            escaped[0] = True
            if not skip_escape(cursor):
                return False
            continue
        if byte < 0x20:
            return fail(cursor, b"control character in a string")
        while cursor.at < cursor.end and cursor.at[0] >= 0x80:
            size = utf8_size(cursor.at, cursor.end - cursor.at)
            if size == 0:
                return fail(cursor, b"not UTF-8")
            cursor.at += size


cdef inline bint skip_digits(Cursor* cursor) noexcept nogil:
    cdef Text begin = cursor.at
    while cursor.at < cursor.end and c"0" <= cursor.at[0] <= c"9":
        cursor.at += 1
    return cursor.at > begin or fail(cursor, b"broken number")


cdef inline bint skip_number(Cursor* cursor) noexcept nogil:
    """Skip a number (RFC 8259 section 6)."""
    if cursor.at[0] == c"-":
        cursor.at += 1
    if cursor.at < cursor.end and cursor.at[0] == c"0":
        cursor.at += 1
    elif not skip_digits(cursor):
        return False
    if cursor.at < cursor.end and cursor.at[0] == c".":
        cursor.at += 1
        if not skip_digits(cursor):
            return False
    if cursor.at < cursor.end and (cursor.at[0] | 32) == c"e":
        cursor.at += 1
        if cursor.at < cursor.end and (cursor.at[0] == c"+" or cursor.at[0] == c"-"):
            cursor.at += 1
        return skip_digits(cursor)
    return True


cdef inline bint skip_literal(Cursor* cursor, const char* literal, Py_ssize_t size) noexcept nogil:
    if cursor.end - cursor.at < size or memcmp(cursor.at, literal, size) != 0:
        return fail(cursor, b"broken value")
    cursor.at += size
    return True


cdef inline bint skip_scalar(Cursor* cursor) noexcept nogil:
    """Skip a value that is no container."""
    cdef bint escaped = False
    cdef unsigned char byte
    if cursor.at >= cursor.end:
        return fail(cursor, b"expected a value")
    byte = cursor.at[0]
    if byte == c'"':
        return skip_string(cursor, &escaped)
    if byte == c"-" or c"0" <= byte <= c"9":
        return skip_number(cursor)
    if byte == c"t":
        return skip_literal(cursor, b"true", 4)
    if byte == c"f":
        return skip_literal(cursor, b"false", 5)
    if byte == c"n":
        return skip_literal(cursor, b"null", 4)
    return fail(cursor, b"expected a value")


cdef inline bint skip_name(Cursor* cursor, Text* stop, bint* escaped) noexcept nogil:
    """Skip a name, its colon and the blanks around; ``stop`` is then the name's closing quote."""
    if space(cursor) != c'"':
        return fail(cursor, b"expected a field name")
    if not skip_string(cursor, escaped):
        return False
    stop[0] = cursor.at - 1
    if space(cursor) != c":":
        return fail(cursor, b"expected ':'")
    cursor.at += 1
    space(cursor)
    return True


cdef inline bint skip_value(Cursor* cursor) noexcept nogil:
    """Skip one value of any kind that opens at most DEPTH_LIMIT - 1 containers."""
    cdef unsigned char closing[DEPTH_LIMIT]    # what closes each open container
    cdef int depth = 0, byte
    cdef bint escaped = False
    cdef Text stop
    while True:
        byte = cursor.at[0] if cursor.at < cursor.end else -1
        if byte == c"{" or byte == c"[":
            if depth == DEPTH_LIMIT - 1:
                return fail(cursor, b"nested too deeply")
            closing[depth] = <unsigned char>(byte + 2)    # "{" + 2 is "}", "[" + 2 is "]"
            depth += 1
            cursor.at += 1
            if space(cursor) != closing[depth - 1]:
                if byte == c"{" and not skip_name(cursor, &stop, &escaped):
                    return False
                continue
            cursor.at += 1
            depth -= 1
        elif not skip_scalar(cursor):
            return False
        while depth > 0:
            byte = space(cursor)
            if byte == c",":
                break
            if byte != closing[depth - 1]:
                return fail(cursor, b"expected ',' or the end of a list or object")
            cursor.at += 1
            depth -= 1
        if depth == 0:
            return True
        cursor.at += 1
        if closing[depth - 1] == c"]":
            space(cursor)
        elif not skip_name(cursor, &stop, &escaped):
            return False


cdef inline Py_ssize_t put_char(unsigned char* out, unsigned int char) noexcept nogil:
    """Write a character in UTF-8, a lone surrogate as its three bytes; how many bytes that took."""
    if char < 0x80:
        out[0] = char
        return 1
    if char < 0x800:
        out[0], out[1] = 0xC0 | (char >> 6), 0x80 | (char & 63)
        return 2
    if char < 0x10000:
        out[0], out[1], out[2] = 0xE0 | (char >> 12), 0x80 | ((char >> 6) & 63), 0x80 | (char & 63)
        return 3
    out[0], out[1] = 0xF0 | (char >> 18), 0x80 | ((char >> 12) & 63)
    out[2], out[3] = 0x80 | ((char >> 6) & 63), 0x80 | (char & 63)
    return 4


cdef inline Text unescape_one(Text at, Text end, unsigned char* out, Py_ssize_t* size) noexcept nogil:
    """Write what the valid escape at ``at`` stands for (6 bytes give at most 3, 12 at most 4); where it ends."""
    cdef unsigned char kind = at[1]
    cdef int high, low
    if kind != c"u":
        if kind == c"n":
            kind = c"\n"
        elif kind == c"t":
            kind = c"\t"
        elif kind == c"r":
            kind = c"\r"
        elif kind == c"b":
            kind = 8
        elif kind == c"f":
            kind = 12
        out[size[0]] = kind
        size[0] += 1
        return at + 2
    high = hex_of(at + 2)
    at += 6
    if 0xD800 <= high <= 0xDBFF and end - at >= 6 and at[0] == c"\\" and at[1] == c"u":
        low = hex_of(at + 2)
        if 0xDC00 <= low <= 0xDFFF:
            high = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)
            at += 6
    size[0] += put_char(out + size[0], <unsigned int>high)
    return at
