#!/bin/sh
# Run a command with a Docker engine: the one that answers, or one that is started for it and stopped afterwards.
#   docker/engine.sh docker run …
set -eu
LOG=${TMPDIR:-/tmp}/avlab-dockerd.log

if docker version >/dev/null 2>&1; then
  exec "$@"
fi
if [ "$(id -u)" != 0 ] || ! command -v dockerd >/dev/null; then
  echo "no Docker engine answers: start one (or set DOCKER_HOST), or run this as root with Debian's docker.io installed" >&2
  exit 1
fi

# One at a time: a second engine would delete the first one's bridge. The engine's own pid file refuses it, this lock queues.
exec 9>/run/avlab-dockerd.lock
flock 9
if docker version >/dev/null 2>&1; then
  exec 9>&-
  exec "$@"
fi
dockerd >"$LOG" 2>&1 9>&- &
engine=$!
trap 'kill $engine 2>/dev/null; wait $engine 2>/dev/null || true' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
tries=0
until docker version >/dev/null 2>&1; do
  tries=$((tries + 1))
  if [ $tries -gt 300 ] || ! kill -0 $engine 2>/dev/null; then
    echo "the Docker engine does not start; the end of $LOG:" >&2
    tail -n 5 "$LOG" >&2
    exit 1
  fi
  sleep 0.1
done
"$@" 9>&-
