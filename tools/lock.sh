#!/usr/bin/env bash
# Resolves pyproject.toml into requirement files with hashes and without index addresses.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() { .venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header "$@"; }
compile pyproject.toml --extra dev -o requirements-dev.lock
compile pyproject.toml -c requirements-dev.lock -o requirements.lock
compile bentos/requirements.in -c requirements.lock -o requirements-serve.lock
echo 'uv==0.13.9' | compile - -o requirements-uv.lock

# Check that wheels exist for every platform of docs/operations.md. ONNX Runtime needs macOS 14.
export MACOSX_DEPLOYMENT_TARGET=14.0
for platform in x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu aarch64-apple-darwin; do
  for version in 3.11 3.12 3.13 3.14; do
    for lock in requirements-dev.lock requirements.lock requirements-serve.lock requirements-uv.lock; do
      .venv/bin/uv pip sync -q --dry-run --require-hashes --only-binary :all: --no-binary pyspark \
        --python .venv/bin/python --target .venv --python-platform "$platform" --python-version "$version" "$lock"
    done
  done
done
