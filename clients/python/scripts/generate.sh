#!/usr/bin/env bash
# Generates src/chatledger/v1 from the repository's proto/, or into the directory that is given.
#
# With the oldest generator whose code runs on all the versions that pyproject.toml allows: code of a newer protoc
# refuses an older runtime, and from 5.26 on also one that is two major versions newer.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$here/src}
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv"
# setuptools: this generator still imports pkg_resources.
"$venv/bin/pip" install --quiet --disable-pip-version-check grpcio-tools==1.62.3 protobuf==4.25.9 'setuptools<80'
mkdir -p "$out"
"$venv/bin/python" -m grpc_tools.protoc -I "$here/../../proto" --python_out="$out" --pyi_out="$out" \
    --grpc_python_out="$out" "$here"/../../proto/chatledger/v1/*.proto
