# What CONTRIBUTING.md asks people to type. `just` lists it; .ci/run uses the same recipes.
# `just` is the crate just, or the Python wheel rust-just; so are typos, squawk-cli and buf-bin wheels (.ci/requirements.txt).

set shell := ["bash", "-euo", "pipefail", "-c"]

[private]
default:
    @just --list --unsorted

# Everything that must pass before a commit, but the tests: a minute when warm
check: format spelling lint doc dependencies migrations protocol

# All tests; or those with FILTER in their name
test FILTER="":
    if command -v cargo-nextest >/dev/null; then cargo nextest run --locked {{ FILTER }}; else cargo test --locked {{ FILTER }}; fi
    # nextest doesn't know them.
    if [ -z "{{ FILTER }}" ] && command -v cargo-nextest >/dev/null; then cargo test --locked --doc; fi

# The integration tests with another PostgreSQL, whose programs are in BIN: those for which it matters which one it is
test-with BIN:
    # Chosen by a filter, and not as a target: Cargo would build everything again, with fewer features.
    if command -v cargo-nextest >/dev/null; then CHATLEDGER_PG_BIN={{ BIN }} cargo nextest run --locked -E 'binary(it) - test(/^(access|bench|cli_mistakes|config|connections|fairness|intake|load|logs|memory|metrics|rates|reload|server|server_tls|terminal|tls)(_|::)/)'; else CHATLEDGER_PG_BIN={{ BIN }} cargo test --locked --test it; fi

# The append path under COUNT seeded schedules
schedules COUNT="100000":
    CHATLEDGER_SCHEDULES={{ COUNT }} cargo test --release --lib simulation

# One of them again
seed SEED:
    CHATLEDGER_SEED={{ SEED }} cargo test --lib simulation

# Whether the code is formatted
format:
    cargo fmt --check

# Formats it
fmt:
    cargo fmt

# Spelling
spelling:
    typos

lint:
    cargo clippy --locked --all-targets -- -D warnings

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

# Licences, sources, duplicate and unused dependencies
dependencies:
    python3 .ci/dependencies.py
    if command -v cargo-deny >/dev/null; then cargo deny --locked --workspace check bans licenses sources; fi
    if command -v cargo-machete >/dev/null; then cargo machete; fi

# Known vulnerabilities, from RustSec's database; needs cargo-deny and the network
advisories:
    cargo deny --locked --workspace check advisories

# The lint of migrations, by squawk: those in a transaction, and those without
migrations:
    squawk --assume-in-transaction $(grep -L no-transaction migrations/*/V*.sql | grep -v down.sql)
    squawk $(grep -l no-transaction migrations/*/V*.sql | grep -v down.sql)

# The contract: its lint, and whether it breaks what the last tag (else the commit before) had
protocol:
    #!/usr/bin/env bash
    set -euo pipefail
    buf lint proto
    against=$(git describe --tags --abbrev=0 HEAD^ 2>/dev/null || git rev-parse --quiet --verify HEAD^ || true)
    if [ -n "$against" ] && git cat-file -e "$against:proto/buf.yaml" 2>/dev/null; then
        buf breaking proto --against ".git#ref=$against,subdir=proto"
    else
        echo "nothing to compare with"
    fi

# The Python package's stubs, after a change of proto/
stubs:
    clients/python/scripts/generate.sh

# What is in deploy/, with the tools that read it: images, the chart, the unit, the wheel, rules. See `just deploy-tools`
deploy *ARGS:
    #!/usr/bin/env bash
    set -euo pipefail
    export CHATLEDGER_DEPLOY_TOOLS=${CHATLEDGER_DEPLOY_TOOLS:-$PWD/target/deploy-tools}
    # The venv has a package whose plugin of pytest's needs others.
    export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
    "$CHATLEDGER_DEPLOY_TOOLS/venv/bin/python" -m pytest -q -rs -p no:cacheprovider tests/deploy {{ ARGS }}

# Those tools, into target/deploy-tools; what can't be had is skipped
deploy-tools:
    .ci/deploy-tools target/deploy-tools

# The service beside what an application would do itself; `just bench --json compare.json`
bench *ARGS:
    cargo run --release -- bench compare {{ ARGS }}

# All that CI does, in a quarter of an hour or two
ci:
    .ci/run
