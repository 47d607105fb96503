"""Multipart uploads: exactly one file part, whatever the chunks in which the body arrives."""

from __future__ import annotations

import pytest

from bentos.http.upload_form import (
    MAPPING_LIMIT_BYTES,
    REMEDY,
    UploadForm,
    check_mapping,
    form_boundary,
)
from bentos.problems import Problem

FILE = b'Content-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\nuser_id\r\n'
TEXT = b'Content-Disposition: form-data; name="file"\r\n\r\nhttp://127.0.0.1/\r\n'
SOURCE = b'Content-Disposition: form-data; name="source"\r\n\r\ncanonical\r\n'


MAPPING = b'Content-Disposition: form-data; name="mapping"\r\n\r\n%s\r\n'


def form(*fields: bytes) -> bytes:
    return b"".join(b"--b\r\n" + field for field in fields) + b"--b--\r\n"


def check(body: bytes, size: int) -> UploadForm:
    upload = UploadForm(b"b")
    for start in range(0, len(body), size):
        upload.feed(body[start : start + size])
    upload.finish()
    return upload


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("body", [form(FILE), form(SOURCE, FILE), form(FILE, SOURCE)])
def test_a_form_with_one_file_is_accepted(body: bytes, size: int) -> None:
    upload = check(body, size)
    assert (upload.file_name, upload.file_bytes_held) == ("a.csv", 7)
    assert (upload.take_file_bytes(), upload.take_file_bytes()) == (b"user_id", b"")


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (form(TEXT), "text"),
        (form(FILE, TEXT), "text"),
        (form(TEXT, FILE), "text"),
        (form(FILE, FILE), "more than one"),
        (form(SOURCE), "no part"),
        (form(FILE.replace(b'"a.csv"', b'""')), "text"),
        (form(FILE.replace(b"filename=", b"filename*=utf-8''")), "text"),
        (form(FILE, SOURCE.replace(b"source", b'source"; filename="s')), "Only the part"),
        (form(b"\r\nhttp://127.0.0.1/\r\n"), "name"),
        (form(FILE)[:-8], "incomplete"),
        (b"http://127.0.0.1/", "valid"),
        (b"--c\r\n" + FILE + b"--c--\r\n", "valid"),
    ],
)
def test_any_other_form_is_refused(body: bytes, detail: str, size: int) -> None:
    with pytest.raises(Problem) as caught:
        check(body, size)
    assert (caught.value.status, caught.value.kind, caught.value.remedy) == (422, "no-form", REMEDY)
    assert detail in caught.value.detail


@pytest.mark.parametrize(
    "content_types",
    [
        (),
        (b"application/json",),
        (b"application/x-www-form-urlencoded",),
        (b"multipart/form-data",),
        (b"multipart/form-data; boundary=",),
        (b"multipart/mixed; boundary=b",),
        (b"multipart/form-data; boundary=b; charset=utf-7",),
        (b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=b"),
        (b"multipart/form-data; boundary=b", b"application/json"),
    ],
)
def test_a_body_of_another_type_is_refused(content_types: tuple[bytes, ...]) -> None:
    with pytest.raises(Problem) as caught:
        form_boundary([(b"content-type", content_type) for content_type in content_types])
    assert caught.value.status == 422


def test_the_boundary_is_read_as_starlette_reads_it() -> None:
    header = (b"content-type", b'Multipart/Form-Data; charset=UTF-8; boundary="b;c"')
    assert form_boundary([(b"accept", b"*/*"), header]) == b"b;c"


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("text", [b"", b"name: x\ncolumns: {}", b"#" * MAPPING_LIMIT_BYTES])
def test_the_mapping_is_collected(text: bytes, size: int) -> None:
    for body in (form(FILE, MAPPING % text), form(MAPPING % text, FILE)):
        assert check(body, size).texts == {"mapping": text}
    assert check(form(FILE, SOURCE), size).texts == {"source": b"canonical"}


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("fields", "field", "rule"),
    [
        ((FILE, MAPPING % (b"#" * (MAPPING_LIMIT_BYTES + 1))), "mapping", "longer than"),
        ((FILE, MAPPING % b"a", MAPPING % b"a"), "mapping", "more than one"),
        ((FILE, MAPPING % b"a", SOURCE), "mapping", "not both"),
        ((SOURCE, FILE, MAPPING % b"a"), "mapping", "not both"),
        ((FILE, SOURCE.replace(b"canonical", b"[" * 300)), "source", "longer than"),
        ((FILE, SOURCE, SOURCE), "source", "more than one"),
        ((FILE, MAPPING.replace(b"mapping", b"n" * 500) % b"a"), "n" * 256, "no field"),
    ],
)
def test_text_fields_are_bounded(fields: tuple[bytes, ...], field: str, rule: str, size: int) -> None:
    with pytest.raises(Problem) as caught:
        check(form(*fields), size)
    (error,) = caught.value.errors
    assert (caught.value.status, error.field) == (422, field)
    assert rule in error.rule


def test_a_wrong_mapping_is_a_problem_that_names_the_key() -> None:
    check_mapping(b"extends: rees46\ncolumns: {price: cost}\n")
    wrong = {
        b"extends: rees46\ncolumns: {price: 1.5}\n": "mapping.columns.price",
        b"extends: rees46\ntime: ['%d/%d/%Y']\n": "mapping.time",
        b"a: &x [1]\nb: [*x, *x]\n": "mapping",
        b"http://127.0.0.1/": "mapping",
        b"\xff": "mapping",
        b"": "mapping",
    }
    for text, field in wrong.items():
        with pytest.raises(Problem) as caught:
            check_mapping(text)
        (error,) = caught.value.errors
        assert (caught.value.status, error.field) == (422, field)
        assert error.rule
