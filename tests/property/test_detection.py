"""`retail sources detect` ends with a result or one sentence, whatever the file contains."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st

from retail_core.errors import InputError
from retail_core.sources.detection import Detection, detect

_TOKENS = [
    b",", b";", b"\t", b"|", b"\n", b"\r\n", b"\r", b'"', b"{", b"}", b"[", b"]", b":", b"\x00", b"\xff",
    b"-", b"sep=;\n", b"#", b"user_id", b"event_time", b"event_type", b"price", b"order_id", b"purchase",
    b"2025-01-31", b"31.01.2025", b"1738317600", b"19,90", b"$5", b"1e999", b"null", b"NaN",
    b'{"a":{"b":[{"c":1}]}}',
    b"99999999999999999999",
]  # fmt: skip
_FILES = st.one_of(
    st.binary(max_size=400),
    st.lists(st.sampled_from(_TOKENS), max_size=80).map(b"".join),
    st.lists(
        st.dictionaries(
            st.sampled_from(["user_id", "time", "event", "properties", "items", "a.b", "x[0]", "?"]),
            st.recursive(
                st.one_of(
                    st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.just("2025-01-31")
                ),
                lambda inner: st.one_of(
                    st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
                ),
                max_leaves=6,
            ),
            max_size=5,
        ),
        max_size=8,
    ).map(lambda rows: "\n".join(map(json.dumps, rows)).encode()),
)


@given(content=_FILES)
def test_any_bytes_give_a_result_or_one_sentence(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        path.write_bytes(content)
        try:
            result = detect(path)
        except InputError as error:
            message = str(error)
        else:
            message = ""
            _check(result)
        assert "\n" not in message


def _check(result: Detection) -> None:
    assert isinstance(yaml.safe_load(result.text), dict)
    assert json.dumps(result.document(), default=str)
    assert sum(row["count"] for row in result.trial.refusals) == result.trial.refused
