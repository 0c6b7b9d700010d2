# shellcheck shell=bash disable=SC2154  # ports are assigned by free_port, $root by who sources this
# Private processes on free loopback ports, in one temporary folder ($root), ended by the pids that were written down.
# Source it from bash.

given_ports=" "

free_port() { # free_port VARIABLE: below the ephemeral range, so that no outgoing connection takes it meanwhile
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    [[ $given_ports == *" $port "* ]] && continue
    listening "$port" && continue
    given_ports+="$port "
    printf -v "$1" %s "$port"
    return
  done
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

wait_until() { # wait_until SECONDS WHAT COMMAND...
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= deadline)); then
      echo "not within its time: $what" >&2
      return 1
    fi
    sleep 0.2
  done
}

ended() { ! kill -0 "$1" 2>/dev/null; }

stop() { # stop NAME: SIGTERM to the process of pid file NAME, and wait for its end
  local pid
  [[ -s $root/$1.pid ]] || return 0
  pid=$(<"$root/$1.pid")
  kill -TERM "$pid" 2>/dev/null || true
  wait_until 40 "the end of $1" ended "$pid"
  rm -f "$root/$1.pid"
}

# Debian's own wrapper of rabbitmq-server would change to another user and drop this environment.
rabbitmq_sbin=$(printf '%s\n' /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin | head -n 1)

rabbitmq_env() {
  env HOME="$root/home" LC_ALL=C.UTF-8 RABBITMQ_CONF_ENV_FILE=/dev/null \
    ERL_EPMD_PORT="$epmd_port" ERL_EPMD_ADDRESS=127.0.0.1 \
    RABBITMQ_CTL_DIST_PORT_MIN="$ctl_port" RABBITMQ_CTL_DIST_PORT_MAX=$((ctl_port + 20)) \
    RABBITMQ_CTL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}' "$@"
}

rabbitmqctl() { rabbitmq_env "$rabbitmq_sbin/rabbitmqctl" -n rabbitmq@localhost -q "$@"; }

# Wants $amqp_port and, in $root/rabbitmq, rabbitmq.conf, advanced.config and enabled_plugins.
start_rabbitmq() {
  local folder=$root/rabbitmq
  free_port epmd_port
  free_port ctl_port
  free_port dist_port
  mkdir -p "$root/home" "$folder/data" "$folder/log"
  # Its own epmd, which dies with it and shares no names with a node of the system's.
  epmd -address 127.0.0.1 -port "$epmd_port" </dev/null >"$root/epmd.log" 2>&1 &
  echo $! >"$root/epmd.pid"
  wait_until 10 epmd listening "$epmd_port"
  rabbitmq_env RABBITMQ_NODENAME=rabbitmq@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_DIST_PORT="$dist_port" \
    RABBITMQ_PID_FILE="$root/rabbitmq.pid" RABBITMQ_MNESIA_BASE="$folder/data" RABBITMQ_LOG_BASE="$folder/log" \
    RABBITMQ_GENERATED_CONFIG_DIR="$folder/generated" RABBITMQ_CONFIG_FILE="$folder/rabbitmq.conf" \
    RABBITMQ_ADVANCED_CONFIG_FILE="$folder/advanced.config" RABBITMQ_ENABLED_PLUGINS_FILE="$folder/enabled_plugins" \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}' \
    "$rabbitmq_sbin/rabbitmq-server" </dev/null >"$folder/console.log" 2>&1 &
  wait_until 90 "RabbitMQ's port" listening "$amqp_port"
  rabbitmqctl await_startup --timeout 60
}

# PostgreSQL refuses to run as root.
unprivileged() {
  if ((EUID == 0)); then
    setpriv --reuid nobody --regid nogroup --clear-groups env -i PATH="$postgres_bin:/usr/bin:/bin" LC_ALL=C.UTF-8 "$@"
  else
    env -i PATH="$postgres_bin:/usr/bin:/bin" LC_ALL=C.UTF-8 "$@"
  fi
}

# Wants $postgres_port; user, database and password as docker-compose.yml has them.
start_postgres() { # start_postgres PASSWORD_FILE
  local folder=$root/postgres
  postgres_bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
  mkdir -p "$folder"
  cp "$1" "$folder/password"
  ((EUID != 0)) || chown -R nobody "$folder"
  chmod 0711 "$root"
  (
    cd "$folder" || exit # it must be able to be in the current directory
    unprivileged initdb -D "$folder/data" -U hookline --pwfile="$folder/password" -E UTF8 --no-instructions \
      --auth-host=scram-sha-256 --auth-local=scram-sha-256 --data-checksums >"$root/initdb.log"
    unprivileged postgres -D "$folder/data" -c listen_addresses=127.0.0.1 -c port="$postgres_port" \
      -c unix_socket_directories="$folder" </dev/null >"$root/postgres.log" 2>&1 &
    echo $! >"$root/postgres.pid"
  )
  wait_until 30 "PostgreSQL's port" listening "$postgres_port"
  wait_until 30 PostgreSQL "$postgres_bin/pg_isready" -q -h 127.0.0.1 -p "$postgres_port"
  PGPASSWORD=$(<"$1") "$postgres_bin/psql" -X -q -h 127.0.0.1 -p "$postgres_port" -U hookline postgres \
    -c 'CREATE DATABASE hookline'
}
