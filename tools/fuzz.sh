#!/usr/bin/env bash
# Runs every fuzz target of the module for a while. Usage: tools/fuzz.sh [TIME]
set -euo pipefail
cd "$(dirname "$0")/.."
for package in $(go list ./...); do
	targets=$(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true)
	for target in $targets; do
		echo "== $package $target"
		(ulimit -v 8000000 2>/dev/null || true; go test -run '^$' -fuzz "^$target\$" -fuzztime "${1:-1m}" -parallel 2 "$package")
	done
done
