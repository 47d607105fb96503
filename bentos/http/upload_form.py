"""Read multipart uploads while they are received: one file part named `file`, short text, a mapping.

Starlette's parser, which uses the same library, writes files to the temporary folder; here their bytes are
handed on as they arrive.
"""

from __future__ import annotations

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from bentos.problems import FieldError, Headers, Problem, invalid

FILE_FIELD = "file"
SOURCE_FIELD = "source"
MAPPING_FIELD = "mapping"
TEXT_FIELDS = frozenset({SOURCE_FIELD, MAPPING_FIELD, "as_of", "reasons"})
MAPPING_LIMIT_BYTES = 64 * 1024
TEXT_LIMIT_BYTES = 256
"""Largest text field other than the mapping, and largest file name."""

MAX_REASONS = 1_000_000
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
    """Incremental reader of one multipart body.

    A part named `file` needs a file name, and any other part is short text or the mapping, which replaces the
    source. At the end of the body there was exactly one file.

    Args:
        boundary: the boundary, see `form_boundary`.

    Attributes:
        file_name: name of the file as sent; empty before its part.
        texts: bytes of the text fields by name.
    """

    def __init__(self, boundary: bytes) -> None:
        self.file_name = ""
        self.texts: dict[str, bytes] = {}
        self._file_bytes = bytearray()
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self._file_parts = 0
        self._part_name = ""
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

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the body.

        Raises:
            Problem: 422 if the body is not a form with exactly one file.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise form_problem("The body is not a valid multipart form.") from error

    def finish(self) -> None:
        """Check at the end of the body that the form is complete.

        Raises:
            Problem: 422 if it is not.
        """
        if not self._complete:
            raise form_problem("The multipart form is incomplete.")
        if not self._file_parts:
            raise form_problem(f"The form has no part `{FILE_FIELD}`.")
        if MAPPING_FIELD in self.texts and SOURCE_FIELD in self.texts:
            raise invalid(MAPPING_FIELD, "a form has a source or a mapping, not both")

    @property
    def file_bytes_held(self) -> int:
        """Number of bytes of the file that `take_file_bytes` would return."""
        return len(self._file_bytes)

    def take_file_bytes(self) -> bytes:
        """The bytes of the file since the last call, which are no longer held here."""
        file_bytes = bytes(self._file_bytes)
        self._file_bytes.clear()
        return file_bytes

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
        self._part_name = options[b"name"][:TEXT_LIMIT_BYTES].decode("utf-8", "replace")
        if self._part_name != FILE_FIELD:
            if b"filename" in options:
                raise form_problem(f"Only the part `{FILE_FIELD}` is a file.")
            self._begin_text(self._part_name)
            return
        if not options.get(b"filename"):
            raise form_problem(f"The part `{FILE_FIELD}` is text; URLs are not fetched.")
        self._file_parts += 1
        if self._file_parts > 1:
            raise form_problem(f"The form has more than one part `{FILE_FIELD}`.")
        self.file_name = options[b"filename"][:TEXT_LIMIT_BYTES].decode("utf-8", "replace")

    def _begin_text(self, name: str) -> None:
        if name not in TEXT_FIELDS:
            errors = (FieldError(name, "is no field of this form"),)
            remedy = f"send a file and, where needed, {', '.join(sorted(TEXT_FIELDS))}."
            raise Problem(422, "invalid-request", f"{name}: is no field of this form.", errors, remedy=remedy)
        if name in self.texts:
            raise invalid(name, "the form has more than one part of this name")
        self.texts[name] = b""

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        name = self._part_name
        if name == FILE_FIELD:
            self._file_bytes += data[start:end]
            return
        self.texts[name] += data[start:end]
        limit = MAPPING_LIMIT_BYTES if name == MAPPING_FIELD else TEXT_LIMIT_BYTES
        if len(self.texts[name]) > limit:
            raise invalid(name, f"is longer than {limit} bytes")

    def _on_end(self) -> None:
        self._complete = True
