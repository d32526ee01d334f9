#!/bin/sh
# Make a base image without a registry: Debian with its own Python, straight from Debian's packages.
#   docker/base.sh [NAME]          then: docker/build.sh --base NAME
# Needs mmdebstrap. Prints the image's name; an image that is there already is kept (docker image rm makes it new).
set -eu
RELEASE=bookworm
IMAGE=${1:-avlab-base:$RELEASE}

if ! docker image inspect "$IMAGE" >/dev/null 2>&1; then
  command -v mmdebstrap >/dev/null || { echo "$0 needs Debian's package mmdebstrap" >&2; exit 1; }
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates "$RELEASE" "$folder/base.tar" >&2
  docker import --change 'ENV LANG=C.UTF-8' "$folder/base.tar" "$IMAGE" >/dev/null
fi
echo "$IMAGE"
