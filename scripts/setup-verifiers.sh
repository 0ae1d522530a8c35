#!/bin/sh
# Installs the official Standard Webhooks libraries for Python and JavaScript into .tools/, for tests/webhooks_live.rs.
# Does nothing when they are there. Leaves out a language whose interpreter is missing, and says so.
set -eu

PYTHON_VERSION=1.1.0
JS_VERSION=1.1.1

cd "$(dirname "$0")/.."
mkdir -p .tools

setup_python() {
    if ! command -v python3 >/dev/null 2>&1; then
        echo "setup-verifiers: no python3, the Python check of webhooks will be skipped"
        return
    fi
    if .tools/python/bin/python -c "
import importlib.metadata as m, sys
sys.exit(m.version('standardwebhooks') != '$PYTHON_VERSION')" >/dev/null 2>&1; then
        return
    fi
    echo "setup-verifiers: installing standardwebhooks $PYTHON_VERSION (Python) into .tools/python"
    rm -rf .tools/python
    if ! python3 -m venv .tools/python || ! .tools/python/bin/python -m pip install --quiet \
        --disable-pip-version-check "standardwebhooks==$PYTHON_VERSION"; then
        rm -rf .tools/python
        echo "setup-verifiers: that failed (no venv module, or no network); the Python check will be skipped"
    fi
}

setup_js() {
    if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
        echo "setup-verifiers: no node or npm, the JavaScript check of webhooks will be skipped"
        return
    fi
    installed=.tools/js/node_modules/standardwebhooks/package.json
    if [ -f "$installed" ] && grep -q "\"version\": \"$JS_VERSION\"" "$installed"; then
        return
    fi
    echo "setup-verifiers: installing standardwebhooks $JS_VERSION (JavaScript) into .tools/js"
    rm -rf .tools/js
    mkdir -p .tools/js
    if ! npm install --silent --no-audit --no-fund --ignore-scripts --fetch-retries=1 --prefix .tools/js "standardwebhooks@$JS_VERSION"; then
        rm -rf .tools/js
        echo "setup-verifiers: that failed (no network?); the JavaScript check will be skipped"
    fi
}

setup_python
setup_js
