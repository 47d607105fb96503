"""python slim.py SITE_PACKAGES: remove files of installed packages that a server never reads.

These are tests, sources, headers, unused libraries and debug symbols.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = (
    *(".a", ".c", ".cc", ".cpp", ".cu", ".f", ".f90", ".h", ".hpp"),
    *(".pxd", ".pxi", ".pyi", ".pyx", ".pyx.in"),
)
UNUSED = (
    "ibis/backends/*/tests",
    # A copy for C programs; Python's extension contains the whole library.
    "onnxruntime/capi/libonnxruntime.so.*",
    *(f"onnxruntime/{part}" for part in ("backend", "datasets", "quantization", "tools", "transformers")),
    "pyarrow/*flight*",
    # The wheel contains each library three times; the file with the version number is loaded.
    "pyarrow/libarrow_python*.so",
    "pyarrow/libarrow_python*.so.*.*",
    "pyarrow/include",
    "pyarrow/src",
)
STRIP_FROM_BYTES = 500_000


def main(packages: Path) -> None:
    """Remove the files and print the size before and after."""
    before = size(packages)
    for pattern in UNUSED:
        for path in packages.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in list(packages.rglob("*")):
        if path.is_file() and (is_source(path) or is_test(path)):
            path.unlink()
    strip(packages)
    print(f"{before / 1e6:.0f} MB of packages reduced to {size(packages) / 1e6:.0f} MB")  # noqa: T201


def size(packages: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in packages.rglob("*") if path.is_file())


def is_source(path: Path) -> bool:
    """Whether only a compiler or a type checker reads the file."""
    return path.name.endswith(SOURCES)


def is_test(path: Path) -> bool:
    """Whether the file is a test or test data. Test helpers are kept: NumPy imports one of them."""
    return "tests" in path.parts and (path.suffix != ".py" or path.name.startswith("test_"))


def strip(packages: Path) -> None:
    """Remove debug symbols, except from libraries that auditwheel has relocated (`*.libs`)."""
    large = [path for path in packages.rglob("*.so*") if path.stat().st_size >= STRIP_FROM_BYTES]
    libraries = [path for path in large if not path.parent.name.endswith(".libs")]
    subprocess.run(["strip", "--strip-unneeded", *libraries], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
