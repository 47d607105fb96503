"""Takes out of a folder of installed packages what a server never reads.

python slim.py SITE_PACKAGES: tests, sources, headers, libraries for other uses, debug symbols.
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
    # A copy for programs in C; Python's extension has the whole library in itself.
    "onnxruntime/capi/libonnxruntime.so.*",
    *(f"onnxruntime/{part}" for part in ("backend", "datasets", "quantization", "tools", "transformers")),
    "pyarrow/*flight*",
    # The wheel holds each of its libraries three times; the one with the number is loaded.
    "pyarrow/libarrow_python*.so",
    "pyarrow/libarrow_python*.so.*.*",
    "pyarrow/include",
    "pyarrow/src",
)
STRIP_FROM_BYTES = 500_000


def main(packages: Path) -> None:
    """Make the folder smaller, and say by how much."""
    before = size(packages)
    for pattern in UNUSED:
        for path in packages.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in list(packages.rglob("*")):
        if path.is_file() and (is_source(path) or is_test(path)):
            path.unlink()
    strip(packages)
    print(f"{before / 1e6:.0f} MB of packages became {size(packages) / 1e6:.0f}")  # noqa: T201


def size(packages: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in packages.rglob("*") if path.is_file())


def is_source(path: Path) -> bool:
    """Whether only a compiler or a type checker would read it."""
    return path.name.endswith(SOURCES)


def is_test(path: Path) -> bool:
    """Whether it is a test or its data. Helpers stay: NumPy's own code imports one of them."""
    return "tests" in path.parts and (path.suffix != ".py" or path.name.startswith("test_"))


def strip(packages: Path) -> None:
    """Remove symbols that no loader asks for. What auditwheel has moved about (`*.libs`) is left alone."""
    large = [path for path in packages.rglob("*.so*") if path.stat().st_size >= STRIP_FROM_BYTES]
    libraries = [path for path in large if not path.parent.name.endswith(".libs")]
    subprocess.run(["strip", "--strip-unneeded", *libraries], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
