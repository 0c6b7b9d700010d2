# shellcheck shell=bash
# RabbitMQ and PostgreSQL for the tests' private nodes. Installs packages where they are missing and may be; starts
# nothing and changes nothing where they are there.

# Prints the packages that the tests' nodes need and this machine lacks.
missing_brokers() {
  local servers=(/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server) postgres=(/usr/lib/postgresql/*/bin/postgres)
  [[ -x ${servers[0]} ]] || echo rabbitmq-server
  [[ -x ${postgres[0]} ]] || echo postgresql
}

# Debian's packages start and enable their services: written before installing, these keep them from it.
keep_services_off() { # keep_services_off PACKAGE...
  local package unit units=()
  if [[ ! -e /usr/sbin/policy-rc.d ]]; then # nothing may be started by a package script
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    policy_is_ours=yes
  fi
  for package; do
    case "$package" in
      rabbitmq-server) units+=(rabbitmq-server.service epmd.service epmd.socket) ;;
      postgresql) units+=(postgresql.service) ;;
      docker.io) units+=(docker.service docker.socket containerd.service) ;;
    esac
  done
  mkdir -p /etc/systemd/system /etc/postgresql-common
  for unit in "${units[@]}"; do # nor at the next boot; a unit that somebody wrote stays theirs
    [[ -e /etc/systemd/system/$unit || -L /etc/systemd/system/$unit ]] || ln -s /dev/null "/etc/systemd/system/$unit"
  done
  # and no "main" cluster is made
  [[ -e /etc/postgresql-common/createcluster.conf ]] || echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
}

install_brokers() {
  local missing status=0 policy_is_ours=no
  mapfile -t missing < <(missing_brokers)
  if ((${#missing[@]} == 0)); then
    echo "RabbitMQ and PostgreSQL are there"
    return
  fi
  if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
    echo "The tests start private nodes and need these packages of Debian 12 or later: ${missing[*]}" >&2
    echo "Install them (as root: apt-get install --no-install-recommends ${missing[*]}), or run this script as root." >&2
    return 1
  fi
  echo "installing ${missing[*]}; no service is started"
  keep_services_off "${missing[@]}"
  {
    apt-get update -q &&
      DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
  } >/dev/null || status=$?
  [[ $policy_is_ours == no ]] || rm -f /usr/sbin/policy-rc.d
  return "$status"
}

rabbitmq_version() {
  local servers=(/usr/lib/rabbitmq/lib/rabbitmq_server-*)
  echo "RabbitMQ ${servers[0]##*-}"
}

postgres_version() {
  local servers=(/usr/lib/postgresql/*)
  echo "${servers[-1]##*/}"
}
