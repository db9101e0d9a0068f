# Shared by scripts/demo and scripts/test: packages, root, progress, clean-up, results.
# Source it after `set -u`; it changes to the repository's root.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT" || exit 1
LOGS="$ROOT/.build/logs"

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  BOLD=$'\e[1m' RED=$'\e[31m' GREEN=$'\e[32m' YELLOW=$'\e[33m' PLAIN=$'\e[0m'
else
  BOLD='' RED='' GREEN='' YELLOW='' PLAIN=''
fi

# The packages that a fresh Debian 12 lacks, each with the reason.
PACKAGES=(
  libdpdk-dev dpdk          # the packet ports and buffers
  libnl-3-dev libnl-route-3-dev  # kernel sockets
  libnuma-dev               # placement
  libpcap-dev               # DPDK's static dependency list names it
  pkg-config binutils       # objdump for scripts/check-hot-path
  gcc                       # the generator of bench/pktgen
  frr                       # the control plane beside pe-dp
  iproute2 iputils-ping traceroute ethtool procps  # namespaces and hosts of the lab
  tcpdump tshark            # captures
  python3-scapy             # scripts/packets builds what must leave with it
  python3                   # the lab's own program, the benchmark commands
  valgrind                  # bench/gate, where the processor does not count instructions
  python3-matplotlib        # figures of bench/report
  user-mode-linux kmod      # the guest kernel, which has VRF and VLAN devices
  git ca-certificates       # Swift packages
)

CHILD=''          # process group of the running step
STEP='start'      # what runs, for the message when it fails
CLEANUPS=()       # commands run at the end, last first

on_exit() {
  local code=$?
  trap - EXIT
  trap '' INT TERM HUP
  stop_child
  local index
  for ((index = ${#CLEANUPS[@]} - 1; index >= 0; index--)); do eval "${CLEANUPS[index]}"; done
  exit "$code"
}
trap on_exit EXIT
trap 'INTERRUPTED=1; echo; echo "interrupted during: $STEP; cleaning up" >&2; exit 130' INT TERM HUP
INTERRUPTED=''

# Ends the running step's process group and waits until it has cleaned up after itself.
stop_child() {
  [ -n "$CHILD" ] || return 0
  kill -TERM -- "-$CHILD" 2>/dev/null
  local tries
  for ((tries = 0; tries < 300; tries++)); do
    kill -0 -- "-$CHILD" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL -- "-$CHILD" 2>/dev/null
  CHILD=''
}

# fail REASON: the step that runs has failed.
fail() {
  echo "${RED}FAILED${PLAIN}: $STEP: $*" >&2
  exit 1
}

# as_root COMMAND...: as it is for root, through sudo for anybody else.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo --preserve-env=NO_COLOR env "PATH=$PATH" "$@"; fi
}

# Asks for the password once, before anything long begins.
require_root() {
  STEP='root privileges'
  [ "$(id -u)" = 0 ] && return
  command -v sudo >/dev/null || fail "network namespaces need root; run this as root or install sudo"
  sudo -v || fail "sudo was refused; run this as root"
}

# run_in_group COMMAND...: in a process group of its own, so that all of it can be ended.
run_in_group() {
  set -m
  "$@" &
  CHILD=$!
  set +m
  wait "$CHILD"
  local code=$?
  CHILD=''
  return "$code"
}

# step TITLE COMMAND...: runs quietly with a clock; shows the log's end when it fails.
step() {
  STEP=$1
  shift
  mkdir -p "$LOGS"
  local log began code
  log="$LOGS/$(printf '%s' "$STEP" | tr -cs 'A-Za-z0-9' '-').log"
  began=$SECONDS
  printf '%s' "${BOLD}$STEP${PLAIN} ... "
  [ -t 1 ] || echo
  set -m
  "$@" >"$log" 2>&1 &
  CHILD=$!
  set +m
  tick "$began" "$log" &
  local ticker=$!
  wait "$CHILD"
  code=$?
  CHILD=''
  kill "$ticker" 2>/dev/null
  wait "$ticker" 2>/dev/null
  [ -t 1 ] && printf '\r\e[K%s ' "${BOLD}$STEP${PLAIN}"
  if [ "$code" = 0 ]; then
    echo "${GREEN}ok${PLAIN} ($((SECONDS - began)) s)"
  else
    echo "${RED}failed${PLAIN} ($((SECONDS - began)) s, exit $code)"
    echo "  the last lines of $log:"
    grep -E 'error:|FAIL|✘|Error' "$log" | tail -n 15 | sed 's/^/    /'
    tail -n 15 "$log" | sed 's/^/    /'
  fi
  return "$code"
}

# Shows that a step still runs: a clock on a terminal, a line every 20 s elsewhere.
tick() {
  trap 'exit 0' TERM
  local width
  while sleep 1; do
    if [ -t 1 ]; then
      width=$(($(tput cols 2>/dev/null || echo 80) - ${#STEP} - 16))
      [ "$width" -gt 10 ] && printf '\r\e[K%s ... %d s  %s' "${BOLD}$STEP${PLAIN}" \
        "$((SECONDS - $1))" "$(tail -n 1 "$2" 2>/dev/null | tr -d '\r' | cut -c1-"$width")"
    elif [ $(((SECONDS - $1) % 20)) = 0 ]; then
      echo "  $STEP: $((SECONDS - $1)) s"
    fi
  done
}

missing_packages() {
  local package
  for package in "${PACKAGES[@]}"; do
    dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || echo "$package"
  done
}

# Installs what is missing. FRR's package starts its daemons where systemd runs; the lab needs
# the programs only, so that none of it may run or listen outside the lab's namespaces.
install_packages() {
  STEP='packages'
  local missing had_frr=1
  mapfile -t missing < <(missing_packages)
  if [ ${#missing[@]} = 0 ]; then
    echo "${BOLD}packages${PLAIN} ${GREEN}ok${PLAIN} (all installed)"
    return 0
  fi
  command -v apt-get >/dev/null || fail "this needs Debian 12 (apt-get); install: ${missing[*]}"
  dpkg-query -W frr >/dev/null 2>&1 || had_frr=''
  if [ -z "$had_frr" ] && [ ! -e /usr/sbin/policy-rc.d ]; then
    CLEANUPS+=("as_root rm -f /usr/sbin/policy-rc.d")
    as_root sh -c 'printf "#!/bin/sh\nexit 101\n" > /usr/sbin/policy-rc.d;
                   chmod 755 /usr/sbin/policy-rc.d'
  fi
  local apt=(as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq
             -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
  step "package lists" "${apt[@]}" update || fail "apt-get update; is the network reachable?"
  step "install ${#missing[@]} packages" "${apt[@]}" install -y --no-install-recommends \
    "${missing[@]}" || fail "apt-get install ${missing[*]}"
  if [ -z "$had_frr" ]; then
    as_root rm -f /usr/sbin/policy-rc.d
    if [ -d /run/systemd/system ]; then
      as_root systemctl disable --now frr.service >/dev/null 2>&1 || true
    fi
  fi
}

require_swift() {
  STEP='Swift'
  command -v swift >/dev/null ||
    fail "no \`swift\` in PATH; install Swift 6.3 (https://www.swift.org/install/linux/debian)"
  local version
  version=$(swift --version 2>/dev/null | grep -oE 'Swift version [0-9]+\.[0-9]+' | grep -oE '[0-9.]+$')
  case "$version" in
    6.[3-9] | 6.[1-9][0-9] | [7-9].*) echo "${BOLD}Swift${PLAIN} ${GREEN}ok${PLAIN} ($version)" ;;
    *) fail "Swift ${version:-unknown} found, 6.3 or later needed" ;;
  esac
}

build_release() {
  step "build pe-dp (release)" swift build -c release --product pe-dp ||
    fail "swift build -c release --product pe-dp"
}

# Steps that ran as root may leave files that their owner could not replace later.
restore_owner() {
  [ "$(id -u)" = 0 ] || as_root chown -R "$(id -u):$(id -g)" "$ROOT/.build" 2>/dev/null || true
}
