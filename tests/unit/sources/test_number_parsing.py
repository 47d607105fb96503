"""Prices and quantities: every value is exact, or left out or refused by a named rule."""

from __future__ import annotations

import pyarrow as pa
import pytest

from retail_core.sources.number_parsing import (
    NumberFormat,
    divide_by_quantity,
    minor_units,
    parse_prices,
    parse_quantity,
    split_currency,
)


@pytest.mark.parametrize(
    ("raw", "hundredths"),
    [
        ("35.79", 3579),
        ("0", 0),
        ("0.125", 12),
        ("0.135", 14),
        ("0.12500000000000000000000000000001", 13),
        ("1e3", 100_000),
        ("12345678901.23", 1_234_567_890_123),
        ("99999999999.99", 9_999_999_999_999),
        (".5", 50),
        ("1,234.50", "price_separator"),
        ("1.234,50", "price_separator"),
        ("12,50", "price_separator"),
        ("-1", "price_negative"),
        ("(1)", "price_negative"),
        ("1-", "price_negative"),
        ("\N{MINUS SIGN}1", "price_negative"),
        ("-inf", "price_finite"),
        ("£3", "price"),
        ("12,50 EUR", "price"),
        ("12.-", 1200),
        ("12.\N{EN DASH}", 1200),
        ("12.--", 1200),
        ("-12.-", "price_negative"),
        ("12.50-", "price_negative"),
        ("12,-", "price_separator"),
        ("1e300", "too_large"),
        ("100000000001", "too_large"),
    ],
)
def test_prices_are_exact_or_break_a_rule(raw: str, hundredths: int | str) -> None:
    assert minor_units(raw) == hundredths
    values, rules = parse_prices(pa.array([raw, None, "7.5"]))
    assert (rules.get(0, values[0].as_py()), values.to_pylist()[1:]) == (hundredths, [None, 750])


@pytest.mark.parametrize(
    ("decimal", "raw", "hundredths"),
    [
        (",", "12,50", 1250),
        (",", "1.012,50", 101_250),
        (",", "1.299", 129_900),
        (",", "1 012 345,5", 101_234_550),
        (",", "1'012,50", 101_250),
        (",", "1\u00a0012,50", 101_250),
        (",", "1.29", "price_separator"),
        (",", "1.0123,50", "price_separator"),
        (",", "1.012 345,50", "price_separator"),
        (",", "-12,50", "price_negative"),
        (",", ",5", 50),
        (",", "12,-", 1200),
        (",", "1.299,\N{EM DASH}", 129_900),
        (",", "(12,-)", "price_negative"),
        (".", "1'299.-", 129_900),
        (",", ",", "price"),
        (".", "1,299.00", 129_900),
        (".", "1,299", 129_900),
        (".", "12,50", "price_separator"),
        (".", "1,00,000.00", "price_separator"),
    ],
)
def test_a_stated_decimal_sign_allows_grouped_digits(decimal: str, raw: str, hundredths: int | str) -> None:
    form = NumberFormat(decimal=decimal)  # type: ignore[arg-type]
    values, rules = parse_prices(pa.array([raw, None]), form)
    assert rules.get(0, values[0].as_py()) == hundredths


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        ("3", 3),
        ("3.0", 3),
        ("2.5", "quantity"),
        ("two", "quantity"),
        ("-1", "quantity_negative"),
        ("1e16", "too_large"),
    ],
)
def test_quantities_are_whole(raw: str, number: int | str) -> None:
    assert parse_quantity(raw) == number


@pytest.mark.parametrize(
    ("raw", "amount", "code"),
    [
        ("$10.00", "10.00", "USD"),
        ("$ 10", "10", "USD"),
        ("-$10", "-10", "USD"),
        ("($10)", "(10)", "USD"),
        ("10 EUR", "10", "EUR"),
        ("A$10", "10", "AUD"),
        ("10", "10", None),
        ("10 CHF", "10 CHF", None),
        ("1$0", "1$0", None),
    ],
)
def test_a_currency_sign_stands_before_or_after_the_amount(raw: str, amount: str, code: str | None) -> None:
    amounts, codes = split_currency(pa.array([raw, None]), {"$": "USD", "A$": "AUD", "EUR": "EUR"})
    assert (amounts.to_pylist(), codes.to_pylist()) == ([amount, None], [code, None])


def test_line_totals_are_divided_half_to_even() -> None:
    prices, rules = divide_by_quantity(
        pa.array([1000, 25, 75, 10, None], pa.int64()), pa.array([4, 10, 10, None, 2], pa.int64())
    )
    assert (prices.to_pylist(), rules) == ([250, 2, 8, 10, None], {})
    assert divide_by_quantity(pa.array([10]), pa.array([0]))[1] == {0: "price_line"}
