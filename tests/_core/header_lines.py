"""Header lines that a peer might send, as hypothesis strategies shared by the tests of both header files."""

from hypothesis import strategies as st

from fastgw._core import headers_py

NEVER = [
    *(b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"proxy-authorization"),
    *(b"proxy-connection", b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"cookie", b"set-cookie"),
    *(b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-real-ip", b"host", b"content-length", b"expect"),
    *(b"x-fastgw-cost", b"via", b"accept-encoding"),
]

KNOWN = sorted({*headers_py._TAKE, *headers_py.DEFAULT_NAMES, *NEVER, b"x-stainless-os", b"x_api_key", b"my_name"})
VALUES = [
    *(
        b"chunked",
        b"5",
        b"05",
        b"6",
        b"identity",
        b"gzip",
        b"Bearer k",
        b"bearer  k ",
        b"Basic k",
        b"k",
        b"",
        b" ",
        b"\t",
    ),
    *(b"example.com", b"[::1]:80", b"a:99999", b"text/event-stream", b"100-continue", b"websocket", b"close, accept"),
    *(b"keep-alive", b"x-stainless-os", b"A/B;c=d", b"a\r\nb", b"a\x00", b"\x80\xff", b"x" * 300, b"k" * 513),
]


@st.composite
def spelled(draw: st.DrawFn) -> bytes:
    """A known name as some peer might write it."""
    name = draw(st.sampled_from(KNOWN))
    return draw(st.sampled_from([name, name, name, name.title(), name.upper(), name.replace(b"-", b"_"), name[:-1]]))


LINES = st.tuples(
    spelled() | st.binary(max_size=5) | st.text("abx-_ AZ", max_size=140).map(str.encode),
    st.sampled_from(VALUES) | st.binary(max_size=20),
)
