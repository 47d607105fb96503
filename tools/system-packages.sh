#!/usr/bin/env bash
# Installs the few system packages that no Python package carries: tools/system-packages.sh runtime [browser] [spark] [load].
set -euo pipefail

packages=()
for group in "$@"; do
  case $group in
    runtime) packages+=(libcurl4 libssl3 libgomp1) ;;      # mongod links the first two, scikit-learn-intelex and LightGBM the third
    browser) packages+=(chromium fonts-dejavu-core) ;;     # the tests of the app drive a real browser
    load) packages+=(wrk) ;;                               # asks the service as fast as it can
    spark) packages+=(openjdk-17-jre-headless) ;;          # Spark 4 runs on it
    *) echo "unknown group $group" >&2; exit 2 ;;
  esac
done

if ! command -v dpkg-query >/dev/null; then
  echo "Not a Debian or Ubuntu system: see to it that these are there: ${packages[*]}" >&2
  exit 0
fi

installed() { { dpkg-query -W -f '${db:Status-Status}\n' "$1" "$1t64" 2>/dev/null || true; } | grep -qx installed; }

missing=()
for package in "${packages[@]}"; do
  if installed "$package"; then continue; fi
  [ "$package" = chromium ] && [ -x /usr/bin/chromium ] && continue
  missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "These system packages are missing: ${missing[*]}" >&2
  echo "Remedy: sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
echo "Installing ${missing[*]}"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
