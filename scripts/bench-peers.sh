#!/usr/bin/env bash
# Installs the peers that `make bench` measures, at the versions of bench/peers/package-lock.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../bench/peers"

if ! command -v npm >/dev/null 2>&1; then
  echo "skipped: BullMQ is not measured (no npm here)"
elif [[ ! -d node_modules || package-lock.json -nt node_modules/.package-lock.json ]]; then
  echo "installing the peers with npm ci"
  npm ci --no-fund --no-audit --silent || echo "skipped: BullMQ is not measured (npm ci failed)"
fi
