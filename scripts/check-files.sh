#!/usr/bin/env bash
# Checks the files that no compiler reads: shell scripts, the lists of guards, docker-compose.yml.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for script in .ci/run scripts/*.sh; do
  bash -n "$script"
  [[ -x $script ]] || { echo "$script is not executable" >&2; exit 1; }
done
if command -v shellcheck >/dev/null 2>&1; then
  shellcheck --severity=warning .ci/run scripts/*.sh
fi

# tomllib is in Python since 3.11.
if python3 -c 'import tomllib' 2>/dev/null; then
  scripts/guards.py --check
else
  echo "skipped: tests/guards.toml and its like are not checked (no python3 with tomllib here)"
fi

if docker compose version >/dev/null 2>&1; then
  docker compose --file docker-compose.yml config --quiet
elif command -v docker-compose >/dev/null 2>&1; then
  docker-compose --file docker-compose.yml config --quiet
else
  echo "skipped: docker-compose.yml is not checked (no docker-compose here)"
fi
