"""Validate multipart uploads while they are received: one file part named `file`, short text, a mapping.

BentoML resolves a text value of a file parameter as a URL and fetches it. Requests are therefore checked
here, with the multipart parser that Starlette uses too, before BentoML reads them;
`bentos.bentoml_patches` disables the fetching itself.
"""

from __future__ import annotations

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from bentos.problems import FieldError, Headers, Problem, invalid

FILE_FIELD = "file"
SOURCE_FIELD = b"source"
MAPPING_FIELD = b"mapping"
MAPPING_LIMIT_BYTES = 64 * 1024
TEXT_LIMIT_BYTES = 256
"""Largest text field other than the mapping; BentoML parses each as JSON."""

MEDIA_TYPE = b"multipart/form-data"
REMEDY = f"send the file as multipart/form-data, in one part named `{FILE_FIELD}` that has a file name."


def form_problem(detail: str) -> Problem:
    """422: the body is not a form with one file part."""
    return Problem(422, "no-form", detail, remedy=REMEDY)


def form_boundary(headers: Headers) -> bytes:
    """The boundary of a multipart body, from the request's headers.

    Raises:
        Problem: 422 unless there is exactly one content type, multipart/form-data in UTF-8 with a boundary.
    """
    content_types = [value for name, value in headers if name == b"content-type"]
    if len(content_types) != 1:
        raise form_problem("An upload has exactly one header Content-Type.")
    media_type, options = parse_options_header(content_types[0])
    if media_type != MEDIA_TYPE:
        raise form_problem("An upload is a multipart form.")
    if options.get(b"charset", b"utf-8").lower() != b"utf-8":
        raise form_problem("The names of the fields of a form are in UTF-8.")
    if not options.get(b"boundary"):
        raise form_problem("The header Content-Type of an upload names the boundary of the form.")
    return options[b"boundary"]


def with_canonical_media_type(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The headers with the media type in lower case: BentoML compares it by case."""
    return [
        (name, MEDIA_TYPE + value[len(MEDIA_TYPE) :])
        if name == b"content-type" and value[: len(MEDIA_TYPE)].lower() == MEDIA_TYPE
        else (name, value)
        for name, value in headers
    ]


def check_mapping(text: bytes) -> None:
    """Check the mapping of an upload; takes up to a second, so that it belongs in a thread.

    Raises:
        Problem: 422 with the key at fault (`mapping.columns.price`).
    """
    # The real-time process imports this module too, and starts sooner without these.
    from retail_core.sources import MappingError, mapping_from_text

    try:
        mapping_from_text(text.decode())
    except UnicodeDecodeError as error:
        raise invalid("mapping", "is not UTF-8 text") from error
    except MappingError as error:
        field = f"mapping.{error.key}" if error.key else "mapping"
        errors = (FieldError(field, error.rule),)
        raise Problem(422, "invalid-request", error.message, errors, remedy=error.remedy) from error


class UploadForm:
    """Incremental check of one multipart body.

    A part named `file` needs a file name, and any other part is short text or the mapping, which replaces the
    source. At the end of the body there was exactly one file.

    Args:
        boundary: the boundary, see `form_boundary`.

    Attributes:
        mapping: the content of the part `mapping`, None without one.
    """

    def __init__(self, boundary: bytes) -> None:
        self.mapping: bytes | None = None
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self._file_parts = 0
        self._part_name = b""
        self._text_bytes = 0
        self._has_source = False
        self._complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_end": self._on_end,
            },
        )

    def feed(self, chunk: bytes, *, last: bool) -> None:
        """Check the next bytes of the body; `last` if no more follow.

        Raises:
            Problem: 422 if the body is not a form with exactly one file.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise form_problem("The body is not a valid multipart form.") from error
        if not last:
            return
        if not self._complete:
            raise form_problem("The multipart form is incomplete.")
        if not self._file_parts:
            raise form_problem(f"The form has no part `{FILE_FIELD}`.")
        if self.mapping is not None and self._has_source:
            raise invalid("mapping", "a form has a source or a mapping, not both")

    def _on_part_begin(self) -> None:
        self._disposition = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise form_problem("Each part of a form has a name.")
        is_file = bool(options.get(b"filename"))
        self._part_name = options[b"name"]
        if self._part_name != FILE_FIELD.encode():
            if b"filename" in options:
                raise form_problem(f"Only the part `{FILE_FIELD}` is a file.")
            self._begin_text()
            return
        if not is_file:
            raise form_problem(f"The part `{FILE_FIELD}` is text; URLs are not fetched.")
        self._file_parts += 1
        if self._file_parts > 1:
            raise form_problem(f"The form has more than one part `{FILE_FIELD}`.")

    def _begin_text(self) -> None:
        self._text_bytes = 0
        self._has_source |= self._part_name == SOURCE_FIELD
        if self._part_name == MAPPING_FIELD:
            if self.mapping is not None:
                raise invalid("mapping", "the form has more than one part of this name")
            self.mapping = b""

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part_name == FILE_FIELD.encode():
            return
        is_mapping = self._part_name == MAPPING_FIELD
        limit = MAPPING_LIMIT_BYTES if is_mapping else TEXT_LIMIT_BYTES
        self._text_bytes += end - start
        if self._text_bytes > limit:
            name = self._part_name[:TEXT_LIMIT_BYTES].decode("utf-8", "replace")
            raise invalid(name, f"is longer than {limit} bytes")
        if is_mapping:
            self.mapping = (self.mapping or b"") + data[start:end]

    def _on_end(self) -> None:
        self._complete = True
