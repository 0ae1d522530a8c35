#!/usr/bin/env bash
# Installs what a make target needs and this machine lacks, after saying so. Does nothing, quickly, when all is there.
#
#   scripts/setup.sh demo|build|lint|test|bench
#
# Debian and Ubuntu through apt (as root or with sudo), macOS through Homebrew. The Rust toolchain is expected to be
# there; its parts (clippy, rustfmt) are added through rustup when missing. Servers are installed, never started:
# whatever needs one starts its own, on a socket or port of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

purpose=${1:-test}
rust_wanted=95 # minor version of `rust-version` in Cargo.toml
nextest_version=0.9.143

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# ---------------------------------------------------------------- what is missing

has_postgres() { has initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }
has_pgbench() { has pgbench || compgen -G '/usr/lib/postgresql/*/bin/pgbench' >/dev/null; }
has_venv() { python3 -c 'import venv, ensurepip' >/dev/null 2>&1; }
has_compose() { has docker-compose || docker compose version >/dev/null 2>&1; }

# Each line: what it is for | is it there? | Debian's packages | Homebrew's formula. `need` stops when it cannot be had;
# `want` says what is skipped without it.
need_packages=() want_packages=()
need() { "$2" ${5:+"$5"} || need_packages+=("$(package "$3" "$4")"); }
want() { "$2" ${5:+"$5"} || want_packages+=("$1|$(package "$3" "$4")"); }
package() { if [[ $(uname) == Darwin ]]; then echo "$2"; else echo "$1"; fi; }

find_missing() {
  need_packages=() want_packages=()
  need "compiling the bundled C code" has gcc+libc6-dev gcc cc
  need "the store" has redis-server redis redis-server
  case $purpose in
    test)
      need "PostgreSQL data centers in tests" has_postgres postgresql postgresql@16
      need "their sample data" has_pgbench postgresql postgresql@16
      want "webhooks are not verified by the official Python library" has_venv python3+python3-venv python
      want "webhooks are not verified by the official JavaScript library" has nodejs node node
      want "webhooks are not verified by the official JavaScript library" has npm node npm
      want "docker-compose.yml is not checked" has_compose docker-compose docker-compose
      ;;
    bench)
      want "BullMQ is not measured" has nodejs node node
      want "BullMQ is not measured" has npm node npm
      ;;
  esac
}

# ---------------------------------------------------------------- installing

as_root() {
  if [[ $(id -u) == 0 ]]; then "$@"; elif has sudo; then sudo "$@"; else fail "not root and no sudo: cannot run: $*"; fi
}

# While packages are installed no service may start; the switch for that is Debian's policy-rc.d.
hold_services() {
  [[ -e /usr/sbin/policy-rc.d ]] && return
  printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
  as_root chmod 755 /usr/sbin/policy-rc.d
  trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
}

release_services() {
  [[ $(trap -p EXIT) == *policy-rc.d* ]] || return 0
  as_root rm -f /usr/sbin/policy-rc.d
  trap - EXIT
}

apt_get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq "$@" </dev/null; }

apt_install() {
  compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null || apt_get update
  apt_get install --yes --no-install-recommends "$@" >/dev/null && return
  apt_get update # the lists may be too old to name a package that still exists
  apt_get install --yes --no-install-recommends "$@" >/dev/null
}

install() { # packages, several in one word joined by +
  local packages status=0
  read -ra packages <<<"$(printf '%s\n' "$@" | tr '+' '\n' | sort -u | tr '\n' ' ')"
  say "installing ${packages[*]}"
  if has apt-get; then
    hold_services
    apt_install "${packages[@]}" || status=$?
    release_services
    return "$status"
  elif has brew; then
    brew install --quiet "${packages[@]}"
  else
    fail "neither apt-get nor brew here; please install: ${packages[*]}"
  fi
}

install_missing() {
  find_missing
  if ((${#need_packages[@]})); then
    install "${need_packages[@]}"
  fi
  local each
  for each in ${want_packages[@]+"${want_packages[@]}"}; do
    (install "${each#*|}") || say "skipped: ${each%%|*} (${each#*|} could not be installed)"
  done
  find_missing
  ((${#need_packages[@]} == 0)) || fail "still missing after the installation: ${need_packages[*]}"
}

# ---------------------------------------------------------------- Rust

check_rust() {
  has cargo || fail "no Rust toolchain here; please install Rust 1.$rust_wanted or newer with rustup"
  local version minor
  version=$(rustc --version)
  minor=$(sed -E 's/^rustc 1\.([0-9]+)\..*/\1/' <<<"$version")
  [[ $minor -ge $rust_wanted ]] || fail "$version is too old; 1.$rust_wanted or newer is needed (rustup update stable)"
}

add_component() { # component, command that proves it
  cargo "$2" --version >/dev/null 2>&1 && return
  has rustup || fail "cargo $2 is missing and so is rustup, which could add it"
  say "adding $1 to the Rust toolchain"
  rustup --quiet component add "$1"
}

check_nextest() {
  has cargo-nextest && return
  say "building cargo-nextest $nextest_version, once (a few minutes)"
  # Without its self-update, which would want OpenSSL's headers; unoptimised, which halves the wait.
  cargo install --quiet --locked --debug --no-default-features --features default-no-update \
    --version "$nextest_version" cargo-nextest
}

install_missing
check_rust
case $purpose in lint | test)
  add_component rustfmt fmt
  add_component clippy clippy
  ;;
esac
if [[ $purpose == test ]]; then
  check_nextest
  scripts/setup-verifiers.sh
fi
