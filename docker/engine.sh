#!/bin/sh
# Run a command with a Docker engine: the one that answers, or one that is started for it and stopped when nobody needs it.
#   docker/engine.sh docker run …
set -eu
LOG=${TMPDIR:-/tmp}/avlab-dockerd.log
LOCKS=${AVLAB_ENGINE_LOCKS:-/run}

answers() { docker version >/dev/null 2>&1; }

root=$([ "$(id -u)" = 0 ] && echo yes || true)
if [ "$root" ]; then
  # Held while an engine is in use: who has started it waits for the others before it stops it.
  exec 8>>"$LOCKS"/avlab-dockerd.users
  flock --shared 8
fi
if answers; then exec "$@"; fi
if [ ! "$root" ] || ! command -v dockerd >/dev/null; then
  echo "no Docker engine answers: start one (or set DOCKER_HOST), or run this as root with Debian's docker.io installed" >&2
  exit 1
fi

# Held while one starts: a second one would delete the first one's bridge.
exec 9>>"$LOCKS"/avlab-dockerd.start
flock 9
if answers; then
  exec 9>&-
  exec "$@"
fi
dockerd >"$LOG" 2>&1 8>&- 9>&- &
engine=$!
stop() {
  flock --timeout 900 8 || true
  kill $engine 2>/dev/null && wait $engine || true
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
tries=0
until answers; do
  tries=$((tries + 1))
  if [ $tries -gt 300 ] || ! kill -0 $engine 2>/dev/null; then
    echo "the Docker engine does not start; the end of $LOG:" >&2
    tail -n 5 "$LOG" >&2
    exit 1
  fi
  sleep 0.1
done
exec 9>&-
"$@"
