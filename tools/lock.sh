#!/usr/bin/env bash
# Resolves pyproject.toml into hashed requirement files that carry no index address.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() { .venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header "$@"; }
compile pyproject.toml --extra dev -o requirements-dev.lock
compile pyproject.toml -c requirements-dev.lock -o requirements.lock
compile bentos/requirements.in -c requirements.lock -o requirements-serve.lock
echo 'uv==0.13.9' | compile - -o requirements-uv.lock
