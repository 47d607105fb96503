#!/usr/bin/env bash
# Installs the system packages that no Python package contains: tools/system-packages.sh runtime [browser] [spark] [load].
set -euo pipefail

LOCK_SECONDS=${LOCK_SECONDS:-300}   # how long another package manager may hold its lock

# One word per package; `a|b`: names in different releases, of which the first available one is installed.
packages=()
for group in "$@"; do
  case $group in
    # mongod links the first two, scikit-learn-intelex and LightGBM the third. t64: Debian 13, Ubuntu 24.04.
    runtime) packages+=("libcurl4t64|libcurl4" "libssl3t64|libssl3" libgomp1) ;;
    browser) packages+=(chromium fonts-dejavu-core) ;;     # the tests of the app drive a real browser
    load) packages+=(wrk) ;;                               # the load generator of the serving benchmark
    spark) packages+=("openjdk-17-jre-headless|openjdk-21-jre-headless") ;;  # Spark 4.0 runs on either
    *) echo "unknown group $group" >&2; exit 2 ;;
  esac
done

if ! command -v dpkg-query >/dev/null; then
  echo "Not a Debian or Ubuntu system: make sure that these are installed: ${packages[*]}" >&2
  exit 0
fi

installed() {
  local names
  IFS='|' read -ra names <<<"$1"
  { dpkg-query -W -f '${db:Status-Status}\n' "${names[@]}" 2>/dev/null || true; } | grep -qx installed
}

missing=()
for package in "${packages[@]}"; do
  if installed "$package"; then continue; fi
  # Ubuntu has Chromium as a snap only.
  if [ "$package" = chromium ] && command -v chromium >/dev/null; then continue; fi
  missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "These system packages are missing (a|b: either of them) and only root can install them: ${missing[*]}" >&2
  echo "Remedy: sudo $0 $*" >&2
  exit 1
fi

# apt-get waits for dpkg's lock only; it fails immediately on the locks of its lists and its archive.
apt() {
  local output deadline=$((SECONDS + LOCK_SECONDS))
  until output=$(DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -qq -o "DPkg::Lock::Timeout=$LOCK_SECONDS" "$@" 2>&1); do
    if ! grep -q 'Could not get lock\|Unable to lock' <<<"$output"; then
      echo "$output" >&2
      return 1
    fi
    if [ $SECONDS -ge $deadline ]; then
      echo "Another package manager held its lock for $LOCK_SECONDS seconds: $(grep -m1 'lock' <<<"$output")" >&2
      echo "Remedy: wait until it has ended, then run this again." >&2
      return 1
    fi
    [ -n "${waiting:-}" ] || echo "Waiting for another package manager to end" >&2
    waiting=yes
    sleep 5
  done
}

has_candidate() { grep -q '^  Candidate: [^(]' <<<"$(apt-cache policy "$1")"; }

apt update
names=()
for package in "${missing[@]}"; do
  name=""
  IFS='|' read -ra alternatives <<<"$package"
  for alternative in "${alternatives[@]}"; do
    if has_candidate "$alternative"; then name=$alternative; break; fi
  done
  if [ "$package" = chromium ] && grep -qx 'ID=ubuntu' /etc/os-release; then
    echo "Ubuntu has no chromium package that works without snap. Remedy: snap install chromium" >&2
    exit 1
  fi
  if [ -z "$name" ]; then
    echo "The package sources of this system have none of these: $package" >&2
    exit 1
  fi
  names+=("$name")
done
echo "Installing ${names[*]}"
apt install -y --no-install-recommends "${names[@]}"
