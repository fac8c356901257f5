"""A dialect of single words, for tests of what stands between two dialects: see `SAYS` and `WORDS`."""

from msgspec import Raw

from fastgw.call import Usage
from fastgw.dialects.hub import (
    Done,
    Fail,
    OpaqueDelta,
    Problem,
    Start,
    Stop,
    TextDelta,
    ThinkDelta,
    ToolDelta,
    ToolStart,
    UsageSeen,
)

PROBLEM = Problem("overloaded", 529, "too much")
SAYS = {
    "start": [Start("i", "m")],
    "text": [TextDelta("hi")],
    "two": [TextDelta("a"), TextDelta("b")],
    "think": [ThinkDelta("hm")],
    "tool": [ToolStart(0, "c", "f")],
    "args": [ToolDelta(0, "{}")],
    "other": [OpaqueDelta("x", "k", Raw(b"1"))],
    "in": [UsageSeen(Usage(input=7, cached=2))],
    "out": [UsageSeen(Usage(output=5))],
    "more": [UsageSeen(Usage(output=9, reasoning=1))],
    "stop": [Stop("stop")],
    "done": [Done()],
    "last": [Stop("stop"), UsageSeen(Usage(output=5)), Done()],
    "fail": [Fail(PROBLEM)],
    "texfail": [TextDelta("x"), Fail(PROBLEM)],
    "nothing": [],
}
WORDS = {
    Start: b"S", TextDelta: b"t", ThinkDelta: b"h", ToolStart: b"c", ToolDelta: b"a", OpaqueDelta: b"o",
    UsageSeen: b"", Stop: b"X",
}  # fmt: skip


class Reader:
    """Says what the data names; `at_end` comes when the upstream closes."""

    def __init__(self, *at_end):
        self.at_end, self.names = at_end, []

    def feed(self, name, data):
        self.names.append(name)
        if data == b"deep":
            raise RecursionError
        try:
            return list(SAYS[data.decode()])
        except KeyError:
            raise ValueError("not of this dialect") from None

    def end(self):
        return list(self.at_end)


class Writer:
    """One letter an event, `.` for the end, `!` and the message for a failure."""

    def __init__(self):
        self.ends, self.fails = 0, []

    def feed(self, event):
        return WORDS[type(event)]

    def end(self):
        self.ends += 1
        return b"."

    def fail(self, error, call_id):
        self.fails.append((error, call_id))
        return b"!" + error.message.encode()


def frames(*words):
    return b"".join(b"data: %b\n\n" % word.encode() for word in words)


class Odd:
    """A codec that answers as told."""

    name = "odd"

    def __init__(self, answer):
        self.answer = answer

    def read_reply(self, body):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def read_request(self, body, *, model, stream):
        raise self.answer


class Named(Odd):
    """An upstream's codec, and a client's, made of the reader and writer above."""

    def __init__(self, answer=None):
        super().__init__(answer)
        self.written = Writer()

    def reader(self):
        return Reader()

    def writer(self, *, model, stream_usage):
        return self.written

    def write_problem(self, problem, call_id):
        return 503, problem.message.encode()
