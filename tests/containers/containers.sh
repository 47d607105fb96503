#!/usr/bin/env bash
# A podman that works without systemd, a registry or a Docker engine, kept in one folder.
#   containers.sh setup WORK    installs the engine (as root, Debian or Ubuntu) and writes its configuration
#   containers.sh base WORK     makes localhost/base/python-build:3.11, to build in, with pip and strip, out of this
#                               machine's own apt sources
#   containers.sh probe WORK    runs one command in it, which shows whether containers run here at all
#   containers.sh lean WORK     makes localhost/base/python:3.11, to run in, of it: without what only a build needs
#   containers.sh clean WORK    removes every container, image and file
# `. WORK/env` points podman at the folder; `CONTAINERS_CONF=WORK/build.conf` is for builds, which get this
# machine's CA bundle by a mount: nothing of this machine goes into an image.
set -euo pipefail

PROGRAMS=(podman runc mmdebstrap)
PACKAGES=(podman runc mmdebstrap netavark aardvark-dns iptables)
BASE=localhost/base/python:3.11
BUILD_BASE=localhost/base/python-build:3.11
BUILD_PACKAGES="python3-pip binutils"
CA=/etc/ssl/certs/ca-certificates.crt

install_engine() { # WORK
  local program missing=()
  for program in "${PROGRAMS[@]}"; do command -v "$program" >/dev/null || missing+=("$program"); done
  [ ${#missing[@]} -eq 0 ] && return
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing: ${missing[*]}; as root on Debian or Ubuntu: apt-get install --no-install-recommends ${PACKAGES[*]}" >&2
    exit 69
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${PACKAGES[@]}" >"$1/apt.log" 2>&1
}

# crun fails where rlimits or cgroups are hybrid: runc, cgroupfs, and limits that this machine allows.
engine_conf() { # WORK [VOLUMES]
  local limit; limit=$(ulimit -Hn)
  cat <<CONF
[containers]
default_ulimits = ["nofile=$limit:$limit", "nproc=32768:32768"]
${2:-}
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
network_config_dir = "$1/networks"
CONF
}

setup() { # WORK
  local w=$1; mkdir -p "$w/net" "$w/networks"
  install_engine "$w"
  printf '[storage]\ndriver = "overlay"\ngraphroot = "%s/store"\nrunroot = "%s/run"\n' "$w" "$w" >"$w/storage.conf"
  printf '[global]\ncert = %s\nno-cache-dir = true\n' "$CA" >"$w/net/pip.conf"
  printf 'native-tls = true\nno-cache = true\n' >"$w/net/uv.toml"
  engine_conf "$w" >"$w/run.conf"
  engine_conf "$w" "volumes = [\"$CA:$CA:ro\", \"$w/net/pip.conf:/etc/pip.conf:ro\", \"$w/net/uv.toml:/etc/uv/uv.toml:ro\"]" >"$w/build.conf"
  printf 'export CONTAINERS_STORAGE_CONF=%s/storage.conf CONTAINERS_CONF=%s/run.conf\n' "$w" "$w" >"$w/env"
}

base() { # WORK
  local w=$1 scratch sources
  mapfile -t sources < <(awk '/^URIs:/{u=$2} /^Suites:/{for(i=2;i<=NF;i++) print "deb",u,$i,"main"}' /etc/apt/sources.list.d/debian.sources)
  # In memory it takes half the time.
  scratch=$w; [ "$(df --output=avail /dev/shm 2>/dev/null | tail -1)" -gt 2000000 ] 2>/dev/null && scratch=/dev/shm
  # Without usr-is-merged the whole of Perl comes along, to merge what is merged.
  TMPDIR=$scratch mmdebstrap --mode=root --variant=essential --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
    --include=usr-is-merged,ca-certificates,tzdata,python3,python-is-python3,libgomp1,apt,"${BUILD_PACKAGES// /,}" \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/lib/*/gconv/*' \
    --customize-hook='rm -rf "$1"/usr/lib/python3*/EXTERNALLY-MANAGED "$1"/etc/resolv.conf "$1"/etc/apt/sources.list "$1"/var/cache/*' \
    bookworm "$w/base.tar" "${sources[@]}" 2>"$w/mmdebstrap.log" || { tail -5 "$w/mmdebstrap.log" >&2; exit 1; }
  podman import -q --change 'CMD ["python3"]' "$w/base.tar" "$BUILD_BASE" >/dev/null
  rm -f "$w/base.tar"
}

probe() { podman run --rm --network none "$BUILD_BASE" python -V; }

lean() { # WORK
  local w=$1
  # shellcheck disable=SC2086
  podman run --network none --name lean "$BUILD_BASE" apt-get purge -qq -y --auto-remove $BUILD_PACKAGES >"$w/purge.log" 2>&1
  podman export lean | podman import -q --change 'CMD ["python3"]' - "$BASE" >/dev/null
  podman rm lean >/dev/null
}

clean() { # WORK
  # With --depend also those whose network others use; a network that stays would keep its name server running.
  podman rm -fa --depend >/dev/null 2>&1 || true
  podman network prune -f >/dev/null 2>&1 || true
  podman rmi -fa >/dev/null 2>&1 || true
  findmnt -rno TARGET | grep -F "$1/" | sort -r | xargs -r umount 2>/dev/null || true
  rm -rf "$1"
}

command=$1 work=$2
# shellcheck disable=SC1091
[ "$command" = setup ] || . "$work/env"
"$command" "$work"
