# inside ROOT [FROM TO]... -- COMMAND..., in a mount namespace of its own.
root=$1
shift
mount --make-rprivate /
# Programs in it look for the mount that they are on.
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
while [ "$1" != -- ]; do
	mkdir -p "$root$2"
	mount --bind "$1" "$root$2"
	shift 2
done
shift
# Not chroot: in one the kernel makes no user namespaces.
cd "$root"
pivot_root . mnt
umount --lazy mnt
exec "$@"
