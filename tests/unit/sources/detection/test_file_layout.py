"""Encoding, delimiter, title lines, comments and header of unknown files."""

from __future__ import annotations

from pathlib import Path

import pytest

from retail_core.errors import InputError
from retail_core.sources.detection.file_layout import file_layout
from retail_core.sources.text_encoding import probable_encoding

RUSSIAN = "клиент;событие\nиван;покупка товара\nанна;просмотр товара\n" * 5  # noqa: RUF001 - Cyrillic
ROWS = [f"u{row},2025-01-{1 + row:02d},kauf,{row}" for row in range(20)]
TEXT = "\n".join(["kunde,zeit,aktion,preis", *ROWS]) + "\n"


def _file(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "log"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "^", "\x01"])
def test_delimiters(tmp_path: Path, delimiter: str) -> None:
    layout = file_layout(_file(tmp_path, TEXT.replace(",", delimiter))).layout
    assert (layout.delimiter, layout.header, layout.skip_lines) == (delimiter, None, 0)


def test_decimal_commas_do_not_hide_the_delimiter(tmp_path: Path) -> None:
    text = "kunde;zeit;preis\n" + "".join(f"u{row};2025-01-01;{row},50\n" for row in range(20))
    assert file_layout(_file(tmp_path, text)).layout.delimiter == ";"


def test_a_sep_line_names_the_delimiter(tmp_path: Path) -> None:
    layout = file_layout(_file(tmp_path, "sep=;\n" + TEXT.replace(",", ";"))).layout
    assert (layout.delimiter, layout.skip_lines) == (";", 0)


@pytest.mark.parametrize("title", ["Report of my shop\n", "Report;;;\n\nfrom today;;;\n", "Report\n\n\n"])
def test_title_lines_are_skipped(tmp_path: Path, title: str) -> None:
    layout = file_layout(_file(tmp_path, title + TEXT.replace(",", ";"))).layout
    assert layout.skip_lines == title.count("\n")


def test_comments(tmp_path: Path) -> None:
    layout = file_layout(_file(tmp_path, "# version 3\n# shop\n" + TEXT)).layout
    assert (layout.comment, layout.skip_lines) == ("#", 0)


def test_orders_named_with_a_hash_are_no_comments(tmp_path: Path) -> None:
    text = "order,mail,time\n" + "".join(f"#{row},a@x.test,2025-01-01\n" for row in range(9))
    assert file_layout(_file(tmp_path, text)).layout.comment is None


def test_a_first_line_of_values_is_no_header(tmp_path: Path) -> None:
    layout = file_layout(_file(tmp_path, "\n".join(ROWS) + "\n")).layout
    assert layout.header == ("column1", "column2", "column3", "column4")


def test_no_delimiter_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No delimiter splits the lines"):
        file_layout(_file(tmp_path, "abc def\nghi jkl\n"))


def test_a_json_array_is_an_error_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a JSON array.*jq -c"):
        file_layout(_file(tmp_path, '[{"user_id": 1}]'))


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("Zoë;Köln\nJörg;Düsseldorf\n", "utf-8", "utf-8"),
        ("Zoë;Köln\nJörg;Düsseldorf\n", "utf-8-sig", "utf-8"),
        ("Zoë;Köln\nJörg;Düsseldorf\n", "cp1252", "cp1252"),
        ("Zoë;Köln\nJörg;Düsseldorf\n", "cp850", "cp850"),
        ("preis\n19,90 €\n5,00 €\n", "cp1252", "cp1252"),
        (RUSSIAN, "cp1251", "cp1251"),
        ("顧客,日時,イベント\n1,2025-01-01,購入\n", "cp932", "cp932"),
        ("user,time\n", "utf-16", "utf-16"),
        ("user,time\n", "utf-16-le", "utf-16-le"),
        ("user,time\n", "utf-32", "utf-32"),
    ],
)
def test_encodings(tmp_path: Path, text: str, encoding: str, expected: str) -> None:
    assert probable_encoding(text.encode(encoding)) == expected


def test_bytes_that_are_no_text_have_no_encoding() -> None:
    assert probable_encoding(bytes(range(256)) * 4) is None


def test_a_guessed_encoding_is_marked_as_a_guess(tmp_path: Path) -> None:
    found = file_layout(_file(tmp_path, TEXT.replace("kauf", "käufer").encode("cp1252")))
    assert (found.layout.encoding, found.encoding_guessed) == ("cp1252", True)
    assert not file_layout(_file(tmp_path, TEXT)).encoding_guessed
