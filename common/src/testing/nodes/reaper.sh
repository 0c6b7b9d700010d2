# Ends every node below the folder $1 once the process that holds the other end of our stdin has ended, however it did.
trap '' HUP INT TERM
root=$1
while read -r _; do :; done

# Only processes that bear the folder's name: a number in a file may belong to somebody else by now.
ours() {
  pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] && cat "/proc/$pid/cmdline" "/proc/$pid/environ" 2>/dev/null | grep -qaF "$root"
}
end() { # end SIGNAL FILE...
  signal=$1
  shift
  for file; do ours "$file" && kill -s "$signal" "$pid" 2>/dev/null; done
  for file; do
    tries=0
    while ours "$file" && [ "$tries" -lt 600 ]; do
      tries=$((tries + 1))
      sleep 0.05
    done
  done
}
# Nodes before their epmd. PostgreSQL's children end at once by QUIT, and would go on writing for a moment by KILL.
end QUIT "$root"/postgres-*/pid
end KILL "$root"/rabbit-*/pid
end KILL "$root"/epmd*/pid
# A rabbitmqctl that outlives our epmd for a moment starts another one.
for process in /proc/[0-9]*; do
  [ "$(cat "$process/comm" 2>/dev/null)" = epmd ] && grep -qaF "$root" "$process/environ" 2>/dev/null && kill -s KILL "${process#/proc/}"
done
tries=0
while ! rm -rf "$root" 2>/dev/null && [ "$tries" -lt 100 ]; do
  tries=$((tries + 1))
  sleep 0.05
done
