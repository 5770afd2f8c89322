#!/usr/bin/env bash
# Installs the clients that the tests connect with, beside those that come with
# PostgreSQL: psycopg2 and JDBC from Debian (a JDK, which runs a source file as it
# is), node-postgres from npm into .clients.
#
# It asks nothing, does nothing twice, and says what it does. The npm packages are
# pinned with their SHA-512 in package-lock.json, and their install scripts are
# not run.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
target="$(cd "$here/../.." && pwd)/.clients"

say() { printf 'clients: %s\n' "$*"; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  else
    sudo "$@"
  fi
}

packages=()
/usr/bin/python3 -c 'import psycopg2' 2>/dev/null || packages+=(python3-psycopg2)
[ -e /usr/share/java/postgresql.jar ] || packages+=(libpostgresql-jdbc-java)
command -v javac >/dev/null || packages+=(openjdk-17-jdk-headless)
command -v npm >/dev/null || packages+=(nodejs npm)
if [ "${#packages[@]}" -gt 0 ]; then
  say "installing with apt-get: ${packages[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

stamp="$(sha256sum "$here/package-lock.json" | cut -d' ' -f1)"
if [ "$(cat "$target/.installed" 2>/dev/null || true)" != "$stamp" ]; then
  mkdir -p "$target"
  cp "$here/package.json" "$here/package-lock.json" "$target/"
  say "downloading node-postgres from npm"
  npm ci --prefix "$target" --ignore-scripts --no-audit --no-fund --loglevel=error
  echo "$stamp" >"$target/.installed"
fi
say "psycopg2, JDBC and node-postgres are there"
