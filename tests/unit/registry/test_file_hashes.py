"""Files of a registered model are those whose hashes were stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from retail_core.errors import IntegrityError
from retail_core.registry.file_hashes import TAG, hash_files, verify_files


def test_a_changed_or_missing_file_is_named(tmp_path: Path) -> None:
    spec = tmp_path / "extra_files" / "spec.json"
    spec.parent.mkdir()
    spec.write_text('{"threshold": 0.5}')
    (tmp_path / "model.skops").write_bytes(b"model")
    tags = {TAG: hash_files(tmp_path)}
    (tmp_path / "registered_model_meta").write_text("added by a download")
    verify_files(tmp_path, tags, "3")
    verify_files(tmp_path, {}, "3")
    spec.write_text('{"threshold": 0.4}')
    with pytest.raises(IntegrityError, match=r"Version 3 .*spec\.json is not the file that was registered"):
        verify_files(tmp_path, tags, "3", only="extra_files/spec.json")
    spec.write_text('{"threshold": 0.5}')
    (tmp_path / "model.skops").unlink()
    verify_files(tmp_path, tags, "3", only="extra_files/spec.json")
    with pytest.raises(IntegrityError, match=r"model\.skops is missing"):
        verify_files(tmp_path, tags, "3")
