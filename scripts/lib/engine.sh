# shellcheck shell=bash
# A container engine for scripts/compose: the machine's own, or as root on Debian a private one with stand-ins for the images,
# made of Debian's packages. Everything of the private one is below $engine_home, outside the clone.
engine_home="$HOME/.cache/hookline/compose"
# The names that docker-compose.yml and deploy/Dockerfile use.
runtime_image=gcr.io/distroless/cc-debian12:nonroot
server_images=(postgres:15-bookworm prom/prometheus:v3.5.0 rabbitmq:4.2-management)

quietly() { # quietly COMMAND...: shows what it said only if it fails
  local log status=0
  log=$(mktemp)
  "$@" >"$log" 2>&1 || status=$?
  ((status == 0)) || tail -n 40 "$log" >&2
  rm -f "$log"
  return "$status"
}

# Sets DOCKER_HOST for a private engine. Fails, and says why, where there can be none.
start_engine() {
  if docker info >/dev/null 2>&1; then
    echo "the machine's own container engine"
    return
  fi
  if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
    echo "no container engine answers, and a private one needs root on Debian"
    return 1
  fi
  local package missing=()
  for package in dockerd:docker.io iptables:iptables debootstrap:debootstrap; do
    command -v "${package%%:*}" >/dev/null || missing+=("${package#*:}")
  done
  if ((${#missing[@]})); then
    quietly apt-get update -q || return 1
    local policy_is_ours=no status=0
    keep_services_off "${missing[@]}"
    DEBIAN_FRONTEND=noninteractive quietly apt-get install -y -q --no-install-recommends "${missing[@]}" || status=$?
    [[ $policy_is_ours == no ]] || rm -f /usr/sbin/policy-rc.d
    ((status == 0)) || return 1
  fi
  mkdir -p "$engine_home"
  engine_run=$(mktemp -d /tmp/hookline-engine.XXXXXX)
  setsid dockerd --data-root "$engine_home/data" --exec-root "$engine_run/exec" --pidfile "$engine_run/pid" \
    -H "unix://$engine_run/socket" >"$engine_run/log" 2>&1 </dev/null &
  export DOCKER_HOST="unix://$engine_run/socket"
  local try
  for try in $(seq 60); do
    docker info >/dev/null 2>&1 && break
    sleep 0.5
  done
  if ((try == 60)); then
    tail -n 20 "$engine_run/log"
    return 1
  fi
  echo "a private container engine"
}

stop_engine() {
  [[ -n ${engine_run:-} && -e $engine_run/pid ]] || return 0
  local pid
  pid=$(<"$engine_run/pid")
  docker image prune -f >/dev/null 2>&1 || true # the images of earlier builds of the programs
  kill "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
  umount "$engine_run"/exec/netns/* 2>/dev/null || true
  rm -rf "$engine_run"
}

import_root() { # import_root SUITE IMAGE PACKAGE...
  local suite=$1 image=$2 root mirror
  shift 2
  docker image inspect "$image" >/dev/null 2>&1 && return
  mirror=$(sed -n -E 's/^URIs: *([^ ]+).*/\1/p; s/^deb (\[[^]]*\] )?([^ ]+) .*/\2/p' /etc/apt/sources.list.d/*.sources \
    /etc/apt/sources.list 2>/dev/null | head -n 1)
  root=$(mktemp -d)
  quietly debootstrap --variant=minbase --include="$(IFS=, && echo "$*")" "$suite" "$root" "$mirror" || return 1
  tar -C "$root" -c --exclude='./proc/*' --exclude='./sys/*' --exclude='./var/cache/apt/archives/*.deb' . |
    docker import -c 'CMD ["bash"]' - "$image" >/dev/null || return 1
  rm -rf "$root"
}

stand_in() { # stand_in DIRECTORY IMAGE
  docker image inspect "$2" >/dev/null 2>&1 && return
  # The packages come over this machine's network: a bridge may have no name server that it reaches.
  quietly env DOCKER_BUILDKIT=0 docker build --network host -t "$2" "$1"
}

# The images that the compose file names: the real ones where a registry can be reached, else stand-ins.
get_images() { # get_images DIRECTORY_OF_STAND_INS
  local image real=yes
  for image in "${server_images[@]}" "$runtime_image"; do
    docker image inspect "$image" >/dev/null 2>&1 || timeout 120 docker pull -q "$image" >/dev/null 2>&1 || real=no
    [[ $real == yes ]] || break
  done
  if [[ $real == yes ]]; then
    echo "the images are there"
    return
  fi
  if ((EUID != 0)) || ! command -v debootstrap >/dev/null; then
    echo "the images cannot be had: no registry answers, and stand-ins need root on Debian"
    return 1
  fi
  import_root bookworm debian:bookworm-slim ca-certificates || return 1
  import_root trixie debian:trixie-rabbitmq rabbitmq-server || return 1
  stand_in "$1/runtime" "$runtime_image" || return 1
  stand_in "$1/postgres" postgres:15-bookworm || return 1
  stand_in "$1/prometheus" prom/prometheus:v3.5.0 || return 1
  stand_in "$1/rabbitmq" rabbitmq:4.2-management || return 1
  echo "stand-ins for the images, of Debian's packages"
}
