#!/usr/bin/env bash
# The first ten minutes, from an empty folder to a scheduled run on a Prefect server and an alert in a receiver. A test runs this
# (tests/flows/test_ten_minutes.py), with fincon's sandbox in Stripe's place: STRIPE_API_KEY, STRIPE_API_BASE and
# FINCON_ALERT_URLS are set by whoever runs it, and PREFECT_API_URL where a server is running already.
set -euo pipefail
began=$SECONDS
say() { echo "$((SECONDS - began)) s: $*"; }
stop() {
    kill $(jobs -p) 2>/dev/null || return 0
    for _ in {1..40}; do [ -z "$(jobs -rp)" ] && return 0 || sleep 0.25; done
    kill -KILL $(jobs -rp) 2>/dev/null || true # a worker may wait for ever for a run that it was to begin
}
trap stop EXIT

fincon init lake
cd lake
export FINCON_DATA=$PWD/data
say "the files of a deployment are there"

fincon sync --no-prefect
fincon status --max-age 10m
say "the first sync is in"

if [ -z "${PREFECT_API_URL:-}" ]; then
    prefect server start >server.log 2>&1 &
    export PREFECT_API_URL=http://127.0.0.1:4200/api
    until curl -sf "$PREFECT_API_URL/health" >/dev/null; do sleep 1; done
    say "Prefect's server answers"
fi
prefect work-pool create local --type process
prefect --no-prompt deploy --all >deploy.log 2>&1
fincon automations
PREFECT_WORKER_QUERY_SECONDS=1 prefect worker start --pool local >worker.log 2>&1 &
say "all schedules are deployed, and a worker waits for them"

prefect deployment run sync/sync --watch
say "a run is seen in the UI: ${PREFECT_API_URL%/api}/runs"

fincon alert
say "what is new was told"
