#!/usr/bin/env bash
# Installs what `make demo` and `make test` need besides Go:
#
#   debian    the PostgreSQL server and psql of the distribution
#   npm       the other major versions, for the tests, into .pg/<major>
#   compiler  a C compiler, which the race detector needs
#   openssl   the command, with which tests check our certificates
#   pgbouncer the peer of the benchmarks; not part of all
#
#   tools/pg/install.sh {debian | npm | compiler | openssl | pgbouncer | all}...
#
# It asks nothing, does nothing twice, and says what it does. The npm packages
# are pinned with their SHA-512 in package-lock.json, and their install scripts
# are not run.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
target="$(cd "$here/../.." && pwd)/.pg"

say() { printf 'postgresql: %s\n' "$*"; }
die() {
  say "$*" >&2
  exit 1
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "root or sudo is needed to run: $*"
  fi
}

# apt installs the packages named, without questions.
apt() {
  command -v apt-get >/dev/null || die "install these packages first: $*"
  say "installing with apt-get: $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

install_debian() {
  if compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null && command -v psql >/dev/null; then
    say "the distribution's server and psql are there"
    return
  fi
  # Debian starts a cluster of its own when the server is installed. Nothing
  # here uses it, so it is not made; one that exists already is left alone.
  local conf=/etc/postgresql-common/createcluster.conf
  if [ ! -e "$conf" ]; then
    apt postgresql-common
  fi
  if [ -e "$conf" ] && ! compgen -G '/etc/postgresql/*/*' >/dev/null; then
    as_root sed -i 's/^#\?create_main_cluster *=.*/create_main_cluster = false/' "$conf"
  fi
  apt postgresql postgresql-client
}

# hydrate makes the symbolic links that npm packages cannot carry.
hydrate() {
  node -e '
    const fs = require("fs"), path = require("path");
    const [root] = process.argv.slice(1);
    for (const { source, target } of JSON.parse(fs.readFileSync(path.join(root, "native/pg-symlinks.json"), "utf8"))) {
      const link = path.join(root, target);
      fs.rmSync(link, { force: true });
      fs.symlinkSync(path.relative(path.dirname(target), source), link);
    }' "$1"
}

install_npm() {
  [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || die "the npm servers exist for Linux on x86-64 only"
  local stamp
  stamp="$(sha256sum "$here/package-lock.json" | cut -d' ' -f1)"
  if [ "$(cat "$target/.installed" 2>/dev/null || true)" = "$stamp" ]; then
    say "the versions from npm are in $target"
    return
  fi
  command -v npm >/dev/null || apt nodejs npm
  mkdir -p "$target"
  # Not local: the trap runs after this function has returned.
  work="$(mktemp -d "$target/.npm.XXXXXX")"
  trap 'rm -rf "$work"' EXIT
  cp "$here/package.json" "$here/package-lock.json" "$work/"
  say "downloading the versions named in tools/pg/package.json from npm"
  npm ci --prefix "$work" --ignore-scripts --no-audit --no-fund --loglevel=error
  local package major
  for package in "$work"/node_modules/pg*; do
    major="${package##*/pg}"
    hydrate "$package"
    rm -rf "${target:?}/$major"
    mv "$package/native" "$target/$major"
    cp "$package/LICENSE.md" "$target/$major/"
    # The servers never run as root: whoever runs them must be able to read them.
    chmod -R a+rX "$target/$major"
    say "installed $(LD_LIBRARY_PATH="$target/$major/lib" "$target/$major/bin/postgres" --version) in $target/$major"
  done
  chmod a+rx "$target"
  echo "$stamp" >"$target/.installed"
}

install_compiler() {
  command -v gcc >/dev/null || apt gcc libc6-dev
}

install_openssl() {
  command -v openssl >/dev/null || apt openssl
}

# Debian starts it with an empty list of databases; nothing here uses that one.
install_pgbouncer() {
  command -v pgbouncer >/dev/null || apt pgbouncer
}

[ "$#" -gt 0 ] || set -- all
for what in "$@"; do
  case "$what" in
    debian) install_debian ;;
    npm) install_npm ;;
    compiler) install_compiler ;;
    openssl) install_openssl ;;
    pgbouncer) install_pgbouncer ;;
    all)
      install_debian
      install_npm
      install_compiler
      install_openssl
      ;;
    *) die "unknown: $what (want debian, npm, compiler, openssl, pgbouncer or all)" ;;
  esac
done
