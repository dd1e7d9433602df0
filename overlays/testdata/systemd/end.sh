mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /sys/fs/cgroup$CGROUP
echo $$ > /sys/fs/cgroup$CGROUP/cgroup.procs
exec unshare --cgroup --uts --ipc /bin/sh -c 'umount /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec env container=prose /usr/lib/systemd/systemd --unit=look.service --show-status=no --log-target=null'
