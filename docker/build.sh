#!/bin/sh
# Build the executor's image.
#   docker/build.sh [--base IMAGE] [--variant small|standard|common] [--tag NAME]
# small: what sessions need; standard: also gVisor, what builds packages, metrics and traces; common: also common packages.
# Without --tag: the variable AVLAB_IMAGE, or avlab-executor with the version.
# Without --base: python:3.11-slim-bookworm, or where no registry can be reached a base made of Debian's packages.
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
base='' variant=standard tag=''
while [ $# -gt 1 ]; do
  case $1 in
    --base) base=$2 ;;
    --variant) variant=$2 ;;
    --tag) tag=$2 ;;
    *) break ;;
  esac
  shift 2
done
case $variant in
  small) extras='' packages='' suffix=-small ;;
  standard) extras='environments operation' packages=runsc suffix='' ;;
  common) extras='environments operation common' packages=runsc suffix=-common ;;
  *) set -- "$variant" ;;
esac
[ $# = 0 ] || { sed -n '3s/^# */usage: /p' "$0" >&2; exit 2; }
tag=${tag:-${AVLAB_IMAGE:-avlab-executor:$version$suffix}}
if [ -z "$base" ]; then
  base=python:3.11-slim-bookworm
  docker image inspect "$base" >/dev/null 2>&1 || docker pull -q "$base" >/dev/null 2>&1 || base=$(docker/base.sh)
fi

# The build trusts what pip trusts on this machine.
machine=docker/certificates/machine.crt
if [ -n "${PIP_CERT:-${SSL_CERT_FILE:-}}" ]; then cp "${PIP_CERT:-$SSL_CERT_FILE}" "$machine"; fi

log=$(mktemp)
trap 'rm -f "$machine" "$log"' EXIT
docker build ${PIP_INDEX_URL:+--build-arg PIP_INDEX_URL} -f docker/Dockerfile -t "$tag" \
  --build-arg "BASE_IMAGE=$base" --build-arg "EXTRAS=$extras" --build-arg "DEBIAN_PACKAGES=$packages" --build-arg "VERSION=$version" . >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
echo "$tag"
