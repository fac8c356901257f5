"""Forms: what is found in them, what is refused, and that an edit touches nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw._core import fields
from fastgw.dialects import form

FieldError = fields.FieldError

SINGLE = frozenset({b"model", b"stream"})


def part(name, value, *more):
    lines = [f'Content-Disposition: form-data; name="{name}"'.encode(), *more]
    return b"--B\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + value + b"\r\n"


def file(name, value):
    return part(name, value).replace(b'"\r\n', b'"; filename="a; name=model"\r\nContent-Type: audio/wav\r\n', 1)


def body_of(*parts):
    return b"".join(parts) + b"--B--\r\n"


def scan(body):
    return form.scan(body, b"B", SINGLE)


def code_of(body):
    with pytest.raises(FieldError) as caught:
        scan(body)
    return caught.value.code


PLAIN = body_of(file("file", b"\x00\r\n--C\r\n--"), part("model", b"hear"), part("stream", b"true"))


def test_what_is_there():
    found = scan(PLAIN)
    assert (found.text(b"model"), found.flag(b"stream")) == ("hear", True)
    assert (found.has(b"file"), found.has(b"name"), found.has(b"a")) == (True, False, False)
    assert (found.get(b"nothing"), found.text(b"nothing"), found.flag(b"nothing")) == (None, None, False)
    assert found.forbidden(frozenset({b"x"}), (b"mod",)) == b"model"
    assert found.forbidden(frozenset({b"x", b"stream"}), (b"y",)) == b"stream"
    assert found.forbidden(frozenset({b"x"}), (b"y",)) is None


def test_an_edit_touches_nothing_else():
    assert scan(PLAIN).replace({}) is PLAIN
    assert scan(PLAIN).replace({b"model": b'"hear"'}) is PLAIN
    assert scan(PLAIN).replace({b"model": b'"whisper-\\u0031"'}) == PLAIN.replace(b"hear", b"whisper-1")
    several = scan(PLAIN).replace({b"stream": b'""', b"model": b'"m"'})
    assert several == PLAIN.replace(b"hear", b"m").replace(b"\r\n\r\ntrue", b"\r\n\r\n")


def test_a_part_is_added_at_the_end():
    before = body_of(file("file", b"x"))
    after = scan(before).replace({b"model": b'"m"'})
    assert after == before.removesuffix(b"--B--\r\n") + part("model", b"m") + b"--B--\r\n"
    assert scan(after).text(b"model") == "m"


@pytest.mark.parametrize("value", [None, b"7", b"null", b'"a\\r\\nb"', b'"a\\nb"', b"x"])
def test_what_no_field_can_be(value):
    with pytest.raises(ValueError, match="JSON string"):
        scan(PLAIN).replace({b"model": value})


def test_a_file_is_no_text():
    found = scan(body_of(file("model", b"x"), part("stream", b"maybe"), part("other", b"\xff")))
    for read, name in ((found.text, b"model"), (found.flag, b"stream"), (found.text, b"other")):
        with pytest.raises(FieldError) as caught:
            read(name)
        assert (caught.value.code, caught.value.field) == ("invalid_type", name.decode())


@pytest.mark.parametrize(
    "body",
    [
        b"", b"--B--\r\n", b"--B\r\n", b"\r\n" + PLAIN, b"preamble\r\n" + PLAIN, PLAIN + b"epilogue", PLAIN[:-4],
        PLAIN[:-10], PLAIN + PLAIN, PLAIN.replace(b"\r\n", b"\n"), b"--C" + PLAIN[3:],
        body_of(part("model", b"x").replace(b"--B\r\n", b"--B \r\n")),
        body_of(b"--B\r\n\r\nx\r\n"), body_of(b"--B\r\nContent-Type: a/b\r\n\r\nx\r\n"),
        body_of(part("", b"x")), body_of(part("mo\\del", b"x")), body_of(part("model", b"x", b" folded: x")),
        body_of(part("model", b"x", b"Content-Transfer-Encoding: base64")),
        body_of(part("model", b"x", b'Content-Disposition: form-data; name="y"')),
        body_of(part('x"; name="y', b"x")), body_of(part("x\"; name*=utf-8''model; a=\"", b"x")),
        body_of(part("model", b"x", b"no colon")), body_of(part("model", b"x", b"a: " + b"y" * 9000)),
        body_of(b'--B\r\nContent-Disposition: attachment; name="model"\r\n\r\nx\r\n'),
        body_of(b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\n'),
        body_of(part("x", b"y") * (form.MAX_PARTS + 1)),
    ],
)  # fmt: skip
def test_what_two_parsers_may_read_differently_is_refused(body):
    assert code_of(body) == "bad_request"


def test_a_field_that_is_read_is_there_once():
    assert code_of(body_of(part("model", b"x"), part("model", b"x"))) == "duplicate_field"
    assert scan(body_of(part("image[]", b"x"), part("image[]", b"y"))).has(b"image[]")


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"), (b'Multipart/Form-Data;boundary="a b"', b"a b"),
        (b"multipart/form-data; charset=utf-8; boundary=abc", b"abc"),
        (b"multipart/form-data; boundary=abc; charset=utf-8", b"abc"),
    ],
)  # fmt: skip
def test_the_boundary(header, found):
    assert form.boundary(header) == found


@pytest.mark.parametrize(
    "header",
    [
        b"", b"multipart/form-data", b"multipart/form-data; boundary=", b'multipart/form-data; boundary=""',
        b"multipart/form-data; boundary=a; boundary=b", b"multipart/form-data; boundary=" + b"a" * 71,
        b'multipart/form-data; boundary="a\\"b"', b"multipart/form-data; boundary=a\xff",
        b"multipart/mixed; boundary=a", b'multipart/form-data; x="; boundary=a"; y=b',
    ],
)  # fmt: skip
def test_no_boundary_in_good_order(header):
    with pytest.raises(FieldError):
        form.boundary(header)


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=5), st.text("abc-1", min_size=1, max_size=9))
def test_any_files_pass_an_edit_untouched(files, model):
    files = [one for one in files if b"\r\n--B" not in b"\r\n" + one]
    body = body_of(*(file(f"f{i}", one) for i, one in enumerate(files)), part("model", b"old"))
    edited = scan(body).replace({b"model": b'"%b"' % model.encode()})
    assert edited == body_of(*(file(f"f{i}", one) for i, one in enumerate(files)), part("model", model.encode()))
    assert scan(edited).text(b"model") == model


@given(st.binary(max_size=200))
def test_nothing_but_its_own_error_is_raised(junk):
    for body in (junk, b"--B" + junk, b"--B\r\n" + junk + b"\r\n--B--"):
        try:
            scan(body)
        except FieldError as error:
            assert error.code in ("bad_request", "duplicate_field")  # noqa: PT017
