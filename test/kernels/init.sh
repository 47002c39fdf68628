#!/bin/busybox sh
# PID 1 of a kernel under test. It has the host's files, and puts what is written on a disk that is thrown away.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
die() {
  echo "init: $1" > /dev/ttyS0
  echo b > /proc/sysrq-trigger
  sleep 60
}
. /settings.sh # modules, covered
version=$(uname -r)
for module in $(cat /modules); do
  modprobe "$module" || die "the module $module cannot be loaded"
done
mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=512000 host /host || die "the host's files cannot be mounted"
mount -t ext4 /dev/vda /disk || die "the disk cannot be mounted"
mkdir -m 1777 /disk/tmp /disk/vartmp
mkdir /disk/upper /disk/work
mount -t overlay -o lowerdir=/host,upperdir=/disk/upper,workdir=/disk/work overlay /root || die "no overlay can be mounted"

cd /root
for folder in proc sys dev; do mount --move /$folder $folder; done
mkdir dev/pts dev/shm dev/mqueue
ln -s /proc/self/fd dev/fd
for fd in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${fd%:*} dev/${fd#*:}; done
mount -t devpts -o mode=620,ptmxmode=666,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t mqueue mqueue dev/mqueue
mount -t securityfs securityfs sys/kernel/security
mount -t tmpfs -o mode=755 tmpfs run
mount --bind /disk/tmp tmp
mount --bind /disk/vartmp var/tmp
# What is needed of the host's files, and was covered just now.
number=0
for path in $covered; do
  [ -d "/root$path" ] && continue
  number=$((number + 1))
  mkdir -p "/root$path" /disk/upper$number /disk/work$number
  mount -t overlay -o "lowerdir=/host$path,upperdir=/disk/upper$number,workdir=/disk/work$number" overlay "/root$path"
done
mkdir run/kernels lib/modules 2> /dev/null
cp /bin/busybox /test.sh run/kernels
ln -s "$modules" "lib/modules/$version" # No mount: nobody may copy /usr where one below it is locked.
ln -sf /run/kernels/busybox sbin/modprobe

# Cgroups as they are where there is no other hierarchy, with a group that is nobody's.
mount -t cgroup2 cgroup2 sys/fs/cgroup
for controller in $(cat sys/fs/cgroup/cgroup.controllers); do
  echo "+$controller" > sys/fs/cgroup/cgroup.subtree_control
done
mkdir sys/fs/cgroup/nobody
for file in . cgroup.procs cgroup.threads cgroup.subtree_control; do
  chown 65534:65534 sys/fs/cgroup/nobody/$file
done

ifconfig lo up
hostname kernels
ulimit -n 1048576
ulimit -Sn 1024
exec switch_root /root /run/kernels/busybox sh /run/kernels/test.sh
