#!/bin/sh
# The base install by itself, as a user gets it: no extras, no test tools. Fails where a light part needs a heavy one.
set -eu
python=${1:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" --disable-pip-version-check install -q -c "$root/constraints.txt" "$root"
cd "$work"
stillwatt="$work/venv/bin/stillwatt"
"$stillwatt" --version
"$stillwatt" doctor
"$stillwatt" measure --name smoke -- "$python" -c 'sum(range(10_000_000))'
"$stillwatt" measure --name smoke-synthetic --sensors synthetic -- sleep 1
"$stillwatt" ledger list
"$stillwatt" ledger verify
"$stillwatt" ledger show latest --json >/dev/null
echo "smoke: ok"
