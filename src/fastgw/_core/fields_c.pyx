# cython: language_level=3
"""The top-level fields of a JSON object in one native pass; ``fields_py`` is the specification.

The grammar is in ``json_text.pxd``. Spans are pointers into the body, or into a decoded name; ``Fields`` holds both.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.string cimport memchr, memcmp, memcpy

from fastgw._core.json_text cimport DEPTH_LIMIT, Cursor, Text, fail, skip_name, skip_plain, skip_value, space
from fastgw._core.json_text cimport unescape_one

from fastgw._core import fields_py as twin

FieldError = twin.FieldError
MAX_DEPTH = DEPTH_LIMIT
MAX_FIELDS = FIELD_LIMIT

cdef enum:
    FIELD_LIMIT = 4096
    FEW = 32    # up to here comparing with each is cheaper than hashing

cdef struct Member:
    Text name          # decoded
    Py_ssize_t size
    Text begin         # after the brace or comma before it
    Text start         # the value's span
    Text stop


cdef bytes unescaped(Text at, Text end):
    """The decoded content of a valid string, in UTF-8 but for lone surrogates."""
    cdef unsigned char* out = <unsigned char*>PyMem_Malloc(end - at + 1)
    cdef Text slash
    cdef Py_ssize_t size = 0
    if out == NULL:
        raise MemoryError
    try:
        while at < end:
            slash = <Text>memchr(at, c"\\", end - at)
            if slash == NULL:
                slash = end
            memcpy(out + size, at, slash - at)
            size += slash - at
            at = slash if slash == end else unescape_one(slash, end, out, &size)
        return PyBytes_FromStringAndSize(<char*>out, size)
    finally:
        PyMem_Free(out)


cdef inline Py_ssize_t put(unsigned char* out, Py_ssize_t size, Text at, Text end) noexcept:
    """Copy a run to ``out + size`` (unless ``out`` is NULL); how long it is."""
    if out != NULL:
        memcpy(out + size, at, end - at)
    return end - at


cdef inline Py_ssize_t put_bytes(unsigned char* out, Py_ssize_t size, bytes piece) except -1:
    return put(out, size, <Text>PyBytes_AS_STRING(piece), <Text>PyBytes_AS_STRING(piece) + PyBytes_GET_SIZE(piece))


cdef inline bytes exact(object value):
    """``value`` as bytes, which None is not."""
    if type(value) is not bytes:
        raise TypeError("field names and values must be bytes")
    return <bytes>value


cpdef bytes quote(bytes name):
    """``name`` as a JSON string; ValueError when it is not UTF-8."""
    cdef Text at = <Text>PyBytes_AS_STRING(exact(name))
    cdef Text end = at + PyBytes_GET_SIZE(name)
    if skip_plain(at, end) == end and b"\x7f" not in name:
        return b'"' + name + b'"'
    return twin.quote(name)


cdef inline bytes span(Text at, Text end):
    return PyBytes_FromStringAndSize(<const char*>at, end - at)


cdef inline bint is_literal(Member* member, const char* literal, Py_ssize_t size) noexcept:
    return member.stop - member.start == size and memcmp(member.start, literal, size) == 0


cdef inline bint begins(Member* member, bytes prefix) noexcept:
    """Whether the member's name begins with ``prefix``."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(prefix)
    return member.size >= size and memcmp(member.name, PyBytes_AS_STRING(prefix), size) == 0


cdef bint is_value(bytes raw) except -1:
    """Whether ``raw`` is exactly one valid JSON value, blanks around it allowed."""
    cdef Cursor cursor
    cursor.at = <Text>PyBytes_AS_STRING(raw)
    cursor.end = cursor.at + PyBytes_GET_SIZE(raw)
    space(&cursor)
    return skip_value(&cursor) and space(&cursor) == -1


@cython.final
cdef class Fields:
    """The top-level fields of one document, in order; see ``fields_py.Fields``."""

    cdef bytes body
    cdef list decoded      # holds the names that had escapes
    cdef dict index        # name -> place, when there are more than FEW
    cdef Member* members
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity
    cdef Text open         # after the opening brace
    cdef Text close        # the closing brace

    def __dealloc__(self):
        PyMem_Free(self.members)

    cdef Member* grow(self) except NULL:
        """A new last member."""
        cdef Member* members
        cdef Py_ssize_t capacity = self.capacity * 2 or 16
        if self.count == self.capacity:
            members = <Member*>PyMem_Realloc(self.members, capacity * sizeof(Member))
            if members == NULL:
                raise MemoryError
            self.members = members
            self.capacity = capacity
        self.count += 1
        return &self.members[self.count - 1]

    cdef bint read(self, Cursor* cursor) except -1:
        """Read the document; False, with the cursor's problem set, when it is not valid."""
        if space(cursor) != c"{":
            return fail(cursor, b"expected '{'")
        cursor.at += 1
        self.open = cursor.at
        if not self.read_members(cursor):
            return False
        self.close = cursor.at
        cursor.at += 1
        if space(cursor) != -1:
            return fail(cursor, b"something follows the end")
        return True

    cdef bint read_members(self, Cursor* cursor) except -1:
        """Read members up to the closing brace."""
        cdef Text begin = cursor.at
        cdef int byte = space(cursor)
        if byte == c"}":
            return True
        while True:
            if self.count == FIELD_LIMIT:
                return fail(cursor, b"too many fields")
            if not self.read_member(cursor, begin):
                return False
            byte = space(cursor)
            if byte == c"}":
                return True
            if byte != c",":
                return fail(cursor, b"expected ',' or '}'")
            cursor.at += 1
            begin = cursor.at

    cdef bint read_member(self, Cursor* cursor, Text begin) except -1:
        cdef bint escaped = False
        cdef Member* member
        cdef Text name, end
        cdef bytes decoded
        space(cursor)
        name = cursor.at + 1
        if not skip_name(cursor, &end, &escaped):
            return False
        member = self.grow()
        member.name, member.size = name, end - name
        if escaped:
            decoded = unescaped(name, end)
            self.decoded = self.decoded or []
            self.decoded.append(decoded)
            member.name, member.size = <Text>PyBytes_AS_STRING(decoded), PyBytes_GET_SIZE(decoded)
        member.begin, member.start = begin, cursor.at
        if not skip_value(cursor):
            return False
        member.stop = cursor.at
        return True

    cdef int refuse_duplicates(self) except -1:
        """Raise for the first name that is there again; make the index when there are many."""
        cdef Py_ssize_t at, before
        cdef Member* member
        if self.count > FEW:
            self.index = {}
        for at in range(self.count):
            member = &self.members[at]
            if self.index is not None:
                name = span(member.name, member.name + member.size)
                before = self.index.setdefault(name, at)
            else:
                before = self.place_of(member.name, member.size, at)
            if 0 <= before < at:
                name = span(member.name, member.name + member.size)
                raise twin.duplicate(name, member.start - <Text>PyBytes_AS_STRING(self.body))
        return 0

    cdef inline Py_ssize_t place_of(self, Text name, Py_ssize_t size, Py_ssize_t limit) noexcept:
        """Where among the first ``limit`` members the name is, -1 when it is not."""
        cdef Py_ssize_t at
        for at in range(limit):
            if self.members[at].size == size and memcmp(self.members[at].name, name, size) == 0:
                return at
        return -1

    cdef Member* find(self, bytes name) except? NULL:
        cdef Py_ssize_t at
        if self.index is not None:
            at = self.index.get(name, -1)
        else:
            at = self.place_of(<Text>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), self.count)
        return NULL if at < 0 else &self.members[at]

    cdef object wrong(self, Member* member, str expected):
        """The refusal of the member's value."""
        name = span(member.name, member.name + member.size)
        return twin.wrong_type(name, expected, member.start - <Text>PyBytes_AS_STRING(self.body))

    def get(self, bytes name not None):
        """The value of a field as it is written; None when it is not there."""
        cdef Member* member = self.find(name)
        return None if member == NULL else span(member.start, member.stop)

    def has(self, bytes name not None):
        """Whether the field is there, ``null`` or not."""
        return self.find(name) != NULL

    def names(self):
        """The decoded names, in order."""
        cdef Py_ssize_t at
        return [span(self.members[at].name, self.members[at].name + self.members[at].size) for at in range(self.count)]

    def text(self, bytes name not None):
        """The decoded string; None when absent or null. FieldError ``invalid_type`` for anything else."""
        cdef Member* member = self.find(name)
        cdef Text begin
        cdef Py_ssize_t size
        if member == NULL or is_literal(member, b"null", 4):
            return None
        if member.start[0] != c'"':
            raise self.wrong(member, "a string")
        begin, size = member.start + 1, member.stop - member.start - 2
        if memchr(begin, c"\\", size) == NULL:
            return PyUnicode_DecodeUTF8(<const char*>begin, size, NULL)
        try:
            return unescaped(begin, begin + size).decode("utf-8")
        except UnicodeDecodeError:    # a lone surrogate
            raise self.wrong(member, "a string") from None

    def flag(self, bytes name not None):
        """The boolean; False when absent or null. FieldError ``invalid_type`` for anything else."""
        cdef Member* member = self.find(name)
        if member == NULL or is_literal(member, b"false", 5) or is_literal(member, b"null", 4):
            return False
        if is_literal(member, b"true", 4):
            return True
        raise self.wrong(member, "true or false")

    def number(self, bytes name not None):
        """The whole number, 0 to 10**18 - 1; None when absent or null. FieldError ``invalid_type`` for all else."""
        cdef Member* member = self.find(name)
        cdef long long value = 0
        cdef Text at
        if member == NULL or is_literal(member, b"null", 4):
            return None
        at = member.start
        while at < member.stop and at - member.start < 18 and c"0" <= at[0] <= c"9":
            value = value * 10 + (at[0] - c"0")
            at += 1
        if at < member.stop:
            raise self.wrong(member, "a whole number, 0 or more")
        return value

    def positive(self, tuple names not None):
        """The first of these fields that is a whole number from 1 to 10**18 - 1; 0 when none is."""
        cdef Member* member
        cdef long long value
        cdef Text at
        for name in names:
            member = self.find(exact(name))
            if member == NULL or member.stop - member.start > 18:
                continue
            value = 0
            at = member.start
            while at < member.stop and c"0" <= at[0] <= c"9":
                value = value * 10 + (at[0] - c"0")
                at += 1
            if at == member.stop and value:
                return value
        return 0

    def forbidden(self, frozenset names not None, tuple prefixes not None):
        """The first field whose name is one of ``names`` or begins with one of ``prefixes``; None when none does."""
        cdef Py_ssize_t first = self.count, at
        cdef Member* member
        for name in names:
            member = self.find(exact(name))
            if member != NULL and member - self.members < first:
                first = member - self.members
        for prefix in prefixes:
            for at in range(first):
                member = &self.members[at]
                if begins(member, exact(prefix)):
                    first = at
                    break
        if first == self.count:
            return None
        return span(self.members[first].name, self.members[first].name + self.members[first].size)

    def replace(self, dict changes not None):
        """The document with other values; see ``fields_py.Fields.replace``."""
        cdef list edits = [...] * self.count    # ... keeps a member, None removes it
        cdef list added = []
        cdef Member* member
        cdef bint changed = False
        for name, value in changes.items():
            if value is not None and not is_value(exact(value)):
                raise twin.not_a_value(name)
            member = self.find(exact(name))
            if member == NULL:
                if value is not None:
                    added.append(quote(name) + b":" + <bytes>value)
            elif value is None or <bytes>value != span(member.start, member.stop):
                edits[member - self.members] = value
                changed = True
        if not changed and not added:
            return self.body
        return self.spliced(edits, b",".join(added))

    cdef bytes spliced(self, list edits, bytes added):
        """Measure, then write: the pieces are the same, as nothing else holds ``edits``."""
        cdef bytes result = PyBytes_FromStringAndSize(NULL, self.splice(edits, added, NULL))
        self.splice(edits, added, <unsigned char*>PyBytes_AS_STRING(result))
        return result

    cdef Py_ssize_t splice(self, list edits, bytes added, unsigned char* out) except -1:
        """Write the edited document to ``out`` (unless that is NULL); how many bytes it has."""
        cdef Text run = <Text>PyBytes_AS_STRING(self.body)    # what is copied next begins here
        cdef Text end = run + PyBytes_GET_SIZE(self.body)
        cdef Py_ssize_t size = 0, at, last = self.count - 1
        cdef Member* member
        while last >= 0 and edits[last] is None:
            last -= 1
        for at in range(last + 1):
            member = &self.members[at]
            if edits[at] is None:
                size += put(out, size, run, member.begin)
                run = self.members[at + 1].begin
            elif edits[at] is not ...:
                size += put(out, size, run, member.start)
                size += put_bytes(out, size, edits[at])
                run = member.stop
        if last < 0:
            size += put(out, size, run, self.open)
            size += put_bytes(out, size, added)
            return size + put(out, size, self.open if self.count == 0 else self.close, end)
        if added:
            size += put(out, size, run, self.members[last].stop)
            size += put_bytes(out, size, b",")
            size += put_bytes(out, size, added)
            run = self.members[last].stop
        if last < self.count - 1:    # the rest is removed, with the comma before it
            size += put(out, size, run, self.members[last + 1].begin - 1)
            run = self.close
        return size + put(out, size, run, end)


def scan(bytes body not None):
    """Check ``body`` and find its top-level fields; see ``fields_py.scan``."""
    cdef Fields fields = Fields.__new__(Fields)
    cdef Cursor cursor
    fields.body = body
    cursor.at = <Text>PyBytes_AS_STRING(body)
    cursor.end = cursor.at + PyBytes_GET_SIZE(body)
    cursor.problem = b"broken"
    if not fields.read(&cursor):
        offset = cursor.at - <Text>PyBytes_AS_STRING(body)
        raise twin.invalid(cursor.problem.decode("ascii"), offset)
    fields.refuse_duplicates()
    return fields
