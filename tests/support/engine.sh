#!/bin/bash
# One private Docker engine: engine.sh HOME NETNS BIN [dockerd flags]
#
# It runs until standard input ends, so it ends with the process that holds the other end, however that ends. Then it stops the
# engine, its containers and its namespaces, and forgets its data.
home=$1 netns=$2 bin=$3
shift 3
PATH=$bin:$PATH

clean() {
  # containers first: a process that ignores SIGTERM would make the engine wait ten seconds for it
  for id in $(runc --root "$home/exec/runtime-runc/${home##*/}" list -q 2>/dev/null); do
    runc --root "$home/exec/runtime-runc/${home##*/}" kill "$id" KILL
  done 2>/dev/null
  [ -z "${engine:-}" ] || { kill "$engine"; timeout 20 tail --pid="$engine" -f /dev/null || kill -9 "$engine"; wait "$engine"; } 2>/dev/null
  # what an engine that was killed leaves: shims and containers name its folder, or live in its network namespace
  for pid in $(ip netns pids "$netns" 2>/dev/null) $(pgrep -f -- "containerd-shim.* $home/" 2>/dev/null); do kill -9 "$pid" 2>/dev/null; done
  ip netns del "$netns" 2>/dev/null
  umount -l "$home"/*/* 2>/dev/null
  rm -rf "$home"
}
trap clean EXIT

mkdir -p "$home"/{data,exec,etc,run} || exit 1
ip netns add "$netns" && ip -n "$netns" link set lo up || exit 1
for setting in ${SYSCTLS:-}; do nsenter --net="/run/netns/$netns" sysctl -qw "$setting" || exit 1; done
# nsenter, not `ip netns exec`: that would mount a new /sys and hide the cgroups
nsenter --net="/run/netns/$netns" unshare --mount --propagation private bash -c '
  home=$1
  shift
  mkdir -p /run/docker /etc/docker
  mount --bind "$home/run" /run/docker && mount --bind "$home/etc" /etc/docker || exit 1
  exec dockerd --data-root "$home/data" --exec-root "$home/exec" --pidfile "$home/dockerd.pid" \
    --host "unix://$home/docker.sock" --containerd-namespace "${home##*/}" --containerd-plugins-namespace "${home##*/}-p" "$@"
' engine "$home" "$@" </dev/null >"$home/log" 2>&1 &
engine=$!
read -r _
