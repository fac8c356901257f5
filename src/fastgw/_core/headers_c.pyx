# cython: language_level=3
"""Request and reply headers in one native pass; ``headers_py`` is the specification.

Every length here comes from the network. Pointers are only ever used together with the size of the bytes object they
point into, and that object is held by a reference while the pointer lives.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.string cimport memcmp, memcpy

from fastgw._core.text cimport View, all_between, cut, equal, has_control, holds, lower_of, same, stripped, view_of

from fastgw._core import headers_py as twin

HeaderError = twin.HeaderError
Raw = twin.Raw
DEFAULT_NAMES = twin.DEFAULT_NAMES
DEFAULT_PREFIXES = twin.DEFAULT_PREFIXES
REPLY_NAMES = twin.REPLY_NAMES

cdef enum:
    NAME_MAX = 128
    KEY_MAX = 512

cdef enum Known:
    OTHER, HOST, AUTHORIZATION, KEY, TYPE, LENGTH, TRANSFER, CODING, IDEMPOTENCY, LABEL, ACCEPT, EXPECT, UPGRADE

# What a byte may be part of: a bit each, so that one look-up answers.
cdef enum:
    IN_HOST = 1
    IN_ADDRESS = 2
    IN_LABEL = 4

cdef unsigned char TOKEN[256]    # the lower-case form of a token character, 0 for all others
cdef unsigned char CLASS[256]


cdef void build_tables():
    cdef int byte
    for byte in range(256):
        TOKEN[byte] = CLASS[byte] = 0
        if c"0" <= byte <= c"9" or c"A" <= byte <= c"Z" or c"a" <= byte <= c"z" or byte in b"!#$%&'*+-.^_`|~":
            TOKEN[byte] = lower_of(byte)
        if c"0" <= byte <= c"9" or c"A" <= byte <= c"Z" or c"a" <= byte <= c"z" or byte in b"._-":
            CLASS[byte] |= IN_HOST | IN_LABEL
        if byte == c":":
            CLASS[byte] |= IN_LABEL
        if c"0" <= byte <= c"9" or c"A" <= byte <= c"F" or c"a" <= byte <= c"f" or byte in b":.":
            CLASS[byte] |= IN_ADDRESS


build_tables()


cdef inline bint all_in(View view, unsigned char kind) noexcept:
    cdef Py_ssize_t at
    for at in range(view.size):
        if not CLASS[view.at[at]] & kind:
            return False
    return True


cdef inline bint fold(View name, unsigned char* lower, bint* underscore) noexcept:
    """Whether ``name`` is a token; its first NAME_MAX bytes go to ``lower`` in lower case."""
    cdef Py_ssize_t at
    cdef unsigned char byte
    underscore[0] = False
    for at in range(name.size):
        byte = TOKEN[name.at[at]]
        if byte == 0:
            return False
        if byte == c"_":
            underscore[0] = True
        if at < NAME_MAX:
            lower[at] = byte
    return name.size > 0


cdef inline Known known(const unsigned char* lower, Py_ssize_t size) noexcept:
    """Which of the headers we read a folded name of ``size`` bytes is."""
    if size == 4:
        return HOST if equal(lower, b"host", 4) else OTHER
    if size == 6:
        if equal(lower, b"accept", 6):
            return ACCEPT
        return EXPECT if equal(lower, b"expect", 6) else OTHER
    if size == 7:
        if equal(lower, b"api-key", 7):
            return KEY
        return UPGRADE if equal(lower, b"upgrade", 7) else OTHER
    if size == 9:
        return KEY if equal(lower, b"x-api-key", 9) else OTHER
    if size == 12:
        if equal(lower, b"content-type", 12):
            return TYPE
        return LABEL if equal(lower, b"x-request-id", 12) else OTHER
    if size == 13:
        return AUTHORIZATION if equal(lower, b"authorization", 13) else OTHER
    if size == 14:
        if equal(lower, b"content-length", 14):
            return LENGTH
        return KEY if equal(lower, b"x-goog-api-key", 14) else OTHER
    if size == 15:
        return IDEMPOTENCY if equal(lower, b"idempotency-key", 15) else OTHER
    if size == 16:
        return CODING if equal(lower, b"content-encoding", 16) else OTHER
    if size == 17:
        return TRANSFER if equal(lower, b"transfer-encoding", 17) else OTHER
    return OTHER


cdef bint good_port(View port) noexcept:
    cdef int number = 0
    cdef Py_ssize_t at
    if not 1 <= port.size <= 5 or not all_between(port, c"0", c"9"):
        return False
    for at in range(port.size):
        number = number * 10 + (port.at[at] - c"0")
    return number <= 65535


cdef bint good_host(View host) noexcept:
    """host[:port], the host a name, an IPv4 address or a bracketed IPv6 address."""
    cdef View part = host
    cdef View port
    cdef Py_ssize_t end = 0
    cdef bint colon = False
    if host.size and host.at[0] == c"[":
        while end < host.size and host.at[end] != c"]":
            colon = colon or host.at[end] == c":"
            end += 1
        if end == host.size or not colon:
            return False
        part.at, part.size = host.at + 1, end - 1
        if not 2 <= part.size <= 45 or not all_in(part, IN_ADDRESS):
            return False
        end += 1
    else:
        while end < host.size and host.at[end] != c":":
            end += 1
        part.size = end
        if not 1 <= part.size <= 253 or not all_in(part, IN_HOST):
            return False
    if end == host.size:
        return True
    if host.at[end] != c":":
        return False
    port.at, port.size = host.at + end + 1, host.size - end - 1
    return good_port(port)


cdef inline int unpack(object item, View* name, View* value) except -1:
    """The two halves of a header line; the caller holds ``item``, which holds them."""
    if type(item) is not tuple or len(<tuple>item) != 2:
        raise TypeError(twin.TYPE_RULE)
    if type((<tuple>item)[0]) is not bytes or type((<tuple>item)[1]) is not bytes:
        raise TypeError(twin.TYPE_RULE)
    name[0] = view_of(<bytes>(<tuple>item)[0])
    value[0] = view_of(<bytes>(<tuple>item)[1])
    return 0


@cython.final
cdef class Scan:
    """What the gateway wants to know of a request's head; see ``headers_py.Scan``."""

    cdef readonly bytes key
    cdef readonly bytes host
    cdef readonly bytes content_type
    cdef readonly long long content_length
    cdef readonly bint chunked
    cdef readonly bint sse
    cdef readonly bytes label
    cdef readonly bytes idempotency_key
    cdef readonly bint expect
    cdef readonly bint websocket

    def __cinit__(self):
        self.content_length = -1

    cdef int take(self, Known which, bytes value) except -1:
        cdef View view = stripped(view_of(value))
        if which == HOST:
            return self.take_host(value, view)
        if which == AUTHORIZATION:
            return self.take_authorization(value, view)
        if which == KEY:
            return self.take_key(value, view)
        if which == TYPE:
            return self.take_type(value, view)
        if which == LENGTH:
            return self.take_length(view)
        if which == TRANSFER:
            return self.take_transfer(view)
        if which == CODING:
            return self.take_coding(view)
        if which == IDEMPOTENCY:
            return self.take_idempotency(value, view)
        if which == LABEL:
            if self.label is None and 1 <= view.size <= 128 and all_in(view, IN_LABEL):
                self.label = cut(value, view)
        elif which == ACCEPT:
            self.sse = self.sse or holds(view, b"text/event-stream", 17)
        elif which == EXPECT:
            self.expect = self.expect or same(view, b"100-continue", 12)
        elif which == UPGRADE:
            self.websocket = self.websocket or same(view, b"websocket", 9)
        return 0

    cdef int take_host(self, bytes value, View view) except -1:
        if self.host is not None:
            raise twin.bad(b"host", twin.RULE_TWO_HOSTS)
        if not good_host(view):
            raise twin.bad(b"host", twin.RULE_HOST)
        self.host = cut(value, view)
        return 0

    cdef int take_authorization(self, bytes value, View view) except -1:
        cdef View scheme = view
        scheme.size = 7 if view.size > 7 else 0
        if not same(scheme, b"bearer ", 7):
            view.size = 0
        else:
            view.at += 7
            view.size -= 7
        while view.size > 0 and view.at[0] == c" ":    # blanks only: a tab is part of a bad key
            view.at += 1
            view.size -= 1
        return self.take_key(value, view)

    cdef int take_key(self, bytes value, View view) except -1:
        cdef bytes key = b""
        if 1 <= view.size <= KEY_MAX and all_between(view, 33, 126):
            key = cut(value, view)
        if self.key is not None and self.key != key:
            raise twin.ambiguous()
        self.key = key
        return 0

    cdef int take_type(self, bytes value, View view) except -1:
        if self.content_type is not None and self.content_type != cut(value, view):
            raise twin.bad(b"content-type", twin.RULE_DIFFERS)
        self.content_type = cut(value, view)
        return 0

    cdef int take_length(self, View view) except -1:
        cdef long long number = 0
        cdef Py_ssize_t at
        if not 1 <= view.size <= 18 or not all_between(view, c"0", c"9"):
            raise twin.bad(b"content-length", twin.RULE_LENGTH)
        for at in range(view.size):
            number = number * 10 + (view.at[at] - c"0")
        if self.content_length >= 0 and self.content_length != number:
            raise twin.bad(b"content-length", twin.RULE_LENGTHS)
        self.content_length = number
        return 0

    cdef int take_transfer(self, View view) except -1:
        if self.chunked or not same(view, b"chunked", 7):
            raise twin.bad(b"transfer-encoding", twin.RULE_CHUNKED)
        self.chunked = True
        return 0

    cdef int take_coding(self, View view) except -1:
        if not same(view, b"identity", 8):
            raise twin.bad(b"content-encoding", twin.RULE_CODING)
        return 0

    cdef int take_idempotency(self, bytes value, View view) except -1:
        if not 1 <= view.size <= 255 or not all_between(view, 32, 126):
            raise twin.bad(b"idempotency-key", twin.RULE_IDEMPOTENCY)
        if self.idempotency_key is not None and self.idempotency_key != cut(value, view):
            raise twin.bad(b"idempotency-key", twin.RULE_DIFFERS)
        self.idempotency_key = cut(value, view)
        return 0

    cdef int finish(self) except -1:
        if self.host is None:
            raise twin.bad(b"host", twin.RULE_NO_HOST)
        if self.chunked and self.content_length >= 0:
            raise twin.bad(b"transfer-encoding", twin.RULE_FRAMING)
        if self.content_type is not None:
            self.content_type = media_type(self.content_type)
        return 0


cdef bytes media_type(bytes value):
    """The media type without parameters, in lower case; None when there is none."""
    cdef View view = view_of(value)
    cdef Py_ssize_t at
    cdef bint upper = False
    for at in range(view.size):
        if view.at[at] == c";":
            view.size = at
            break
        upper = upper or lower_of(view.at[at]) != view.at[at]
    view = stripped(view)
    if view.size == 0:
        return None
    return cut(value, view).lower() if upper else cut(value, view)


def scan(list raw not None, Py_ssize_t max_count=100, Py_ssize_t max_bytes=32768):
    """Check every header of a request and pick out the known ones; see ``headers_py.scan``."""
    cdef Scan found = Scan.__new__(Scan)
    cdef unsigned char lower[NAME_MAX]
    cdef View name, value
    cdef bint underscore = False
    cdef Py_ssize_t size = 0
    cdef Known which
    if len(raw) > max_count:
        raise twin.too_many(max_count)
    for item in raw:
        unpack(item, &name, &value)
        size += name.size + value.size
        if size > max_bytes:
            raise twin.too_large(max_bytes)
        if not fold(name, lower, &underscore):
            raise twin.bad_name()
        if has_control(value):
            raise twin.bad(<bytes>(<tuple>item)[0], twin.RULE_VALUE)
        if underscore and twin.underscore_twin((<bytes>(<tuple>item)[0]).lower()):
            raise twin.bad(<bytes>(<tuple>item)[0], twin.RULE_TWIN)
        which = known(lower, name.size)
        if which != OTHER:
            found.take(which, <bytes>(<tuple>item)[1])
    found.finish()
    return found


cdef struct Entry:
    View text
    bint prefix
    bint guarded    # some name under this prefix may never travel on


@cython.final
cdef class Allow:
    """A compiled allow-list; see ``headers_py.Allow``."""

    cdef list texts    # holds the bytes that the entries point into
    cdef Entry* entries
    cdef Py_ssize_t count
    cdef bint first[256]

    def __init__(self, names, prefixes=()):
        exact = [twin.allowed_name(name) for name in names]
        heads = [twin.allowed_prefix(prefix) for prefix in prefixes]
        if self.entries != NULL:
            raise TypeError("an allow-list is made once")
        self.texts = exact + heads
        self.entries = <Entry*>PyMem_Malloc((len(self.texts) or 1) * sizeof(Entry))
        if self.entries == NULL:
            raise MemoryError
        for text in self.texts:
            self.add(text, self.count >= len(exact))

    cdef int add(self, bytes text, bint prefix) except -1:
        cdef Entry* entry = &self.entries[self.count]
        entry.text = view_of(text)
        entry.prefix = prefix
        entry.guarded = prefix and twin.overlaps_never(text)
        self.first[entry.text.at[0]] = True
        self.count += 1
        return 0

    def __dealloc__(self):
        PyMem_Free(self.entries)

    def permits(self, bytes name not None):
        """Whether a header of this name may travel on."""
        cdef unsigned char lower[NAME_MAX]
        cdef bint underscore = False
        return self.admits(view_of(name), lower, &underscore)

    cdef bint admits(self, View name, unsigned char* lower, bint* underscore) except -1:
        """The same; ``lower`` then holds the folded name."""
        cdef Entry* entry
        cdef Py_ssize_t at
        if not 1 <= name.size <= NAME_MAX or not self.first[lower_of(name.at[0])] or not fold(name, lower, underscore):
            return False
        for at in range(self.count):
            entry = &self.entries[at]
            if entry.text.size != name.size and (not entry.prefix or entry.text.size > name.size):
                continue
            if memcmp(lower, entry.text.at, entry.text.size) == 0:
                if not entry.guarded or not twin.never(PyBytes_FromStringAndSize(<char*>lower, name.size)):
                    return True
        return False


@cython.final
cdef class Filter:
    """One message's pass through an allow-list: what its Connection headers drop, and which singletons were seen."""

    cdef Allow allow
    cdef frozenset dropped
    cdef Py_ssize_t total    # bytes of all lines, kept or not
    cdef bint typed
    cdef bint keyed
    cdef unsigned char lower[NAME_MAX]

    cdef int open(self, list raw, Allow allow) except -1:
        cdef View name, value
        self.allow = allow
        for item in raw:
            unpack(item, &name, &value)
            self.total += name.size + value.size + 4
            if name.size != 10 or not same(name, b"connection", 10):
                continue
            value = stripped(value)
            # The two options nearly every client sends name no header we could forward.
            if self.dropped is None and not same(value, b"keep-alive", 10) and not same(value, b"close", 5):
                self.dropped = twin.connection_names(raw)
        return 0

    cdef bint keeps(self, View name, View* value) except -1:
        """Whether the line travels on; then ``value`` is stripped and ``self.lower`` holds the folded name."""
        cdef bint underscore = False
        if not self.allow.admits(name, self.lower, &underscore) or has_control(value[0]):
            return False
        if self.dropped is not None and PyBytes_FromStringAndSize(<char*>self.lower, name.size) in self.dropped:
            return False
        value[0] = stripped(value[0])
        if name.size == 12 and equal(self.lower, b"content-type", 12):
            if self.typed:
                return False
            self.typed = True
        elif name.size == 15 and equal(self.lower, b"idempotency-key", 15):
            if self.keyed:
                return False
            self.keyed = True
        return True


def forward(list raw not None, Allow allow not None):
    r"""The allowed request headers as ``name: value\r\n`` lines; see ``headers_py.forward``."""
    cdef Filter sieve = Filter.__new__(Filter)
    cdef View name, value
    cdef bytearray head = bytearray()
    cdef Py_ssize_t size = 0, need
    cdef char* at
    sieve.open(raw, allow)
    PyByteArray_Resize(head, sieve.total)
    for item in raw:
        unpack(item, &name, &value)
        if not sieve.keeps(name, &value):
            continue
        need = name.size + value.size + 4
        if PyByteArray_GET_SIZE(head) - size < need:    # only if the list grew meanwhile
            PyByteArray_Resize(head, size + need)
        at = PyByteArray_AS_STRING(head) + size
        memcpy(at, sieve.lower, name.size)
        memcpy(at + name.size, b": ", 2)
        memcpy(at + name.size + 2, value.at, value.size)
        memcpy(at + name.size + 2 + value.size, b"\r\n", 2)
        size += need
    return PyBytes_FromStringAndSize(PyByteArray_AS_STRING(head), size)


def respond(list raw not None, Allow allow not None):
    """The allowed headers of an upstream's reply; see ``headers_py.respond``."""
    cdef Filter sieve = Filter.__new__(Filter)
    cdef View name, value
    cdef bytes label
    cdef list kept = []
    sieve.open(raw, allow)
    for item in raw:
        unpack(item, &name, &value)
        if not sieve.keeps(name, &value) or (name.size == 12 and equal(sieve.lower, b"x-request-id", 12)):
            continue
        label = <bytes>(<tuple>item)[0]
        if memcmp(sieve.lower, name.at, name.size) != 0:
            label = PyBytes_FromStringAndSize(<char*>sieve.lower, name.size)
        kept.append((label, cut(<bytes>(<tuple>item)[1], value)))
    return kept


DEFAULT_ALLOW = Allow(twin.DEFAULT_NAMES, twin.DEFAULT_PREFIXES)
DEFAULT_REPLY_ALLOW = Allow(twin.REPLY_NAMES)
