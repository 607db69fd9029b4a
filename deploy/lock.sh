#!/bin/sh
# Resolve requirements/: universal, hash-pinned, without download addresses. Usage: deploy/lock.sh UV
set -eu
uv=$1
common="--universal --generate-hashes --no-emit-index-url --no-emit-package sprat-proto --no-emit-package sprat-agent --no-emit-package sprat-controller --no-emit-package llama-cpp-python --quiet"
"$uv" pip compile $common pyproject.toml --group dev -o requirements/dev.txt
"$uv" pip compile $common -c requirements/dev.txt agent/pyproject.toml --extra llama --extra pkcs11 -o requirements/agent.txt
"$uv" pip compile $common -c requirements/dev.txt controller/pyproject.toml --extra publish --extra pkcs11 --extra postgresql -o requirements/controller.txt
echo "llama-cpp-python==0.3.36" | "$uv" pip compile --universal --generate-hashes --no-emit-index-url --no-deps --quiet - -o requirements/llama.txt
echo "uv==0.13.9" | "$uv" pip compile --universal --generate-hashes --no-emit-index-url --no-deps --quiet - -o requirements/uv.txt
# What llama_cpp.server needs beside the development packages; only `make bench` installs it.
printf '%s\n' pydantic-settings python-dotenv sse-starlette 'starlette-context>=0.3.6,<0.4' |
    "$uv" pip compile --universal --generate-hashes --no-emit-index-url --no-deps --quiet - -o requirements/peers.txt
