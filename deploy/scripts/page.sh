#!/bin/bash
# Builds the page into hl_live/web/dist if its sources changed (build), or checks it (check).
# Without Node everything else works, so that is said and not an error.
set -euo pipefail
cd "$(dirname "$0")/../../hl_live/web"

if ! command -v npm >/dev/null || ! node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'; then
    [ "$1" = check ] && exit 0
    [ -f dist/index.html ] && exit 0
    echo "The page is not built: that needs Node 20.19 or newer. Run \`apt-get install nodejs npm\` where that is new" >&2
    echo "enough, or see nodejs.org. Everything else works: the API, Dagster, MQTT, Kafka, PostgreSQL." >&2
    exit 0
fi

sources() {
    find . \( -name node_modules -o -name dist -o -name '.tsbuild' \) -prune -o -type f -print0 |
        LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
}
is_built() {
    [ -f dist/index.html ] && [ "$(cat ../../.venv/.made-page 2>/dev/null)" = "$(sources)" ]
}
install() {
    local wanted
    wanted=$(sha256sum package-lock.json)
    if [ "$(cat node_modules/.made 2>/dev/null)" != "$wanted" ]; then
        npm ci --silent --no-audit --no-fund
        echo "$wanted" >node_modules/.made
    fi
}

[ "$1" = build ] && is_built && exit 0
exec 9>../../.page.lock
flock 9

if [ "$1" = check ]; then
    install
    npm run --silent typecheck
    npm run --silent test
    exit 0
fi

is_built && exit 0
echo "Building the page …"
install
npm run --silent build
sources >../../.venv/.made-page
