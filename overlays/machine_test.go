package overlays

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
)

func TestPackagesOwnNoneOfOurPaths(t *testing.T) {
	var paths []string
	for _, f := range all(t) {
		if f.Type != Dir {
			paths = append(paths, "/"+f.Path)
		}
	}
	for _, d := range deletions {
		paths = append(paths, "/"+d)
	}
	out, err := run(t, "dpkg-query --search "+strings.Join(paths, " ")+" 2>/dev/null")
	if err == nil || out != "" {
		t.Errorf("dpkg owns:\n%s", out)
	}
	if out := mustRun(t, "dpkg-query --search /etc/issue"); !strings.HasPrefix(out, "base-files") {
		t.Errorf("the question itself is wrong: %s", out)
	}
}

// Merging layers makes no parents: each has to come from a package or a row.
func TestParentsAreThere(t *testing.T) {
	mustRun(t, "true")
	for _, p := range debian13.orphans {
		t.Errorf("nothing brings the directory of %s", p)
	}
}

func TestModesAndOwnersArrive(t *testing.T) {
	var want, paths []string
	for _, f := range all(t) {
		if f.Type == Symlink {
			continue
		}
		want = append(want, fmt.Sprintf("%o %d:%d /%s", f.Mode, f.UID, f.GID, f.Path))
		paths = append(paths, "/"+f.Path)
	}
	got := strings.Split(strings.TrimSpace(mustRun(t, "stat --format '%a %u:%g %n' "+strings.Join(paths, " "))), "\n")
	if !slices.Equal(got, want) {
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Errorf("want %s, got %s", want[i], got[i])
			}
		}
	}
}

func TestUnitsVerify(t *testing.T) {
	var names []string
	for _, u := range units {
		names = append(names, u.name)
	}
	names = append(names, "nginx.service", "docker.socket")
	// The agent is a package of its own.
	out, err := run(t, "cp /bin/true /usr/bin/prose-firstboot; systemd-analyze verify --man=no "+strings.Join(names, " "))
	if err != nil || out != "" {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// One transaction with everything in it, the agent's units too: systemd would
// drop a job of a cycle, and say so.
func TestBootHasNoCycle(t *testing.T) {
	const start = `cp /bin/true /usr/bin/prose-firstboot
printf '[Unit]\nRequires=multi-user.target cloud-init.target prose-datasource.service prose-firstboot.service prose-firstboot.timer prose-door.socket prose-door.service prose.service\n%s\n' "$EXTRA" > /run/all.target
systemd-analyze verify --man=no /run/all.target`
	out, err := run(t, start)
	if err != nil || strings.Contains(out, "cycle") {
		t.Errorf("%v\n%s", err, out)
	}
	out, _ = run(t, "EXTRA='Before=sysinit.target\nAfter=multi-user.target'; "+start)
	if !strings.Contains(out, "cycle") {
		t.Errorf("a real cycle is not seen:\n%s", out)
	}
}

func TestUnitsAreEnabledAndMasked(t *testing.T) {
	want := map[string]string{
		// What the image counts on Debian for.
		"ssh.service": "enabled", "nginx.service": "enabled", "docker.socket": "enabled", "unattended-upgrades.service": "enabled",
		"systemd-resolved.service": "enabled", "systemd-timesyncd.service": "enabled", "apt-daily.timer": "enabled",
		"apt-daily-upgrade.timer": "enabled", "fstrim.timer": "enabled", "logrotate.timer": "enabled", "cloud-init-network.service": "enabled",
		"getty@tty1.service": "enabled",
	}
	for _, u := range units {
		want[u.name] = "enabled"
	}
	for _, m := range masked {
		if strings.HasPrefix(m, "etc/systemd/system/") {
			want[path.Base(m)] = "masked"
		}
	}
	var script strings.Builder
	for u := range want {
		fmt.Fprintf(&script, "echo %s $(systemctl is-enabled %s)\n", u, u)
	}
	for line := range strings.Lines(mustRun(t, script.String())) {
		if f := strings.Fields(line); len(f) != 2 || want[f[0]] != f[1] {
			t.Errorf("got %s want %s", strings.TrimSpace(line), want[f[0]])
		}
	}
}

// A mask of something that is not there is a spelling mistake.
func TestMaskedThingsExist(t *testing.T) {
	for _, m := range masked {
		if strings.HasPrefix(m, "etc/systemd/system-generators/") {
			mustRun(t, "test -e /usr/lib/systemd/system-generators/"+path.Base(m))
			continue
		}
		name := path.Base(m)
		if before, _, ok := strings.Cut(name, "@"); ok {
			name = before + "@.service"
		}
		mustRun(t, "test -e /usr/lib/systemd/system/"+name)
	}
}

// systemd-analyze security: at most 3.0 for what is ours.
func TestUnitsAreHardened(t *testing.T) {
	const ask = "systemd-analyze security --no-pager --offline=yes --threshold=30 "
	for _, u := range []string{"prose.service", "prose-datasource.service", "prose-firstboot.service", "prose-door.service"} {
		if out, err := run(t, ask+u); err != nil {
			t.Errorf("%s:\n%s", u, out)
		}
	}
	if _, err := run(t, ask+"docker.service"); err == nil {
		t.Error("docker.service passes: the question itself is wrong")
	}
}

func TestSSHTakesKeysOnly(t *testing.T) {
	out := mustRun(t, `mkdir -p /run/sshd; ssh-keygen -q -A
echo 'PasswordAuthentication yes' > /etc/ssh/sshd_config.d/50-cloud-init.conf
sshd -T; rm /etc/ssh/sshd_config.d/50-cloud-init.conf`)
	for _, want := range []string{"passwordauthentication no", "kbdinteractiveauthentication no", "permitemptypasswords no", "permitrootlogin without-password"} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("sshd -T does not say %q", want)
		}
	}
}

func TestCloudInit(t *testing.T) {
	out := mustRun(t, "cloud-init schema --config-file /etc/cloud/cloud.cfg.d/60-prose.cfg")
	if !strings.Contains(out, "Valid schema") {
		t.Errorf("%s", out)
	}
	// As cloud-init itself merges it with the other files. Every module of the
	// lists must be one that it has, and no more than these few are missing.
	out = mustRun(t, `python3 -c '
import importlib, json, os
from cloudinit import util
from cloudinit.settings import CLOUD_CONFIG
cfg = util.read_conf_with_confd(CLOUD_CONFIG)
stock = util.read_conf(CLOUD_CONFIG)
cfg["left_out"] = []
for stage in ("cloud_init_modules", "cloud_config_modules", "cloud_final_modules"):
    names = [m.replace("-", "_") for m in cfg[stage]]
    for m in names:
        importlib.import_module("cloudinit.config.cc_" + m)
    cfg["left_out"] += [m for m in stock[stage] if m.replace("-", "_") not in names]
print(json.dumps(cfg))
'`)
	var cfg struct {
		System struct {
			Distro  string
			Network struct{ Renderers, Activators []string }
		} `json:"system_info"`
		Keys []string `json:"ssh_genkeytypes"`
		Warn struct {
			Missing any `json:"dsid_missing_source"`
		} `json:"warnings"`
		LeftOut []string `json:"left_out"`
	}
	if err := json.Unmarshal([]byte(out[max(strings.Index(out, "{"), 0):]), &cfg); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if cfg.System.Distro != "debian" || !slices.Equal(cfg.System.Network.Renderers, []string{"networkd"}) || len(cfg.Keys) == 0 || cfg.Warn.Missing != false {
		t.Errorf("%+v", cfg)
	}
	if want := []string{"snap", "grub-dpkg", "byobu"}; !slices.Equal(cfg.LeftOut, want) {
		t.Errorf("left out of cloud-init's modules: %v, want %v", cfg.LeftOut, want)
	}
}

// A machine that nobody gave user-data: cloud-init runs all the same. With the
// package's own policy it would not.
func TestNoUserData(t *testing.T) {
	const ask = `mkdir -p /run/cloud-init
echo 'datasource_list: [ConfigDrive, NoCloud, None]' > /etc/cloud/cloud.cfg.d/90-test.cfg
DEBUG_LEVEL=1 DI_LOG=stderr /usr/lib/cloud-init/ds-identify --force; echo "result $?"
rm /etc/cloud/cloud.cfg.d/90-test.cfg`
	if out := mustRun(t, ask); !strings.Contains(out, "result 0\n") {
		t.Errorf("cloud-init stays off:\n%s", out)
	}
	out := mustRun(t, "mv /etc/cloud/ds-identify.cfg /run/\n"+ask+"\nmv /run/ds-identify.cfg /etc/cloud/")
	if !strings.Contains(out, "result 1\n") {
		t.Errorf("cloud-init runs without our policy too:\n%s", out)
	}
}

func TestEnginesTakeTheirConfiguration(t *testing.T) {
	if out := mustRun(t, "dockerd --validate --config-file /etc/docker/daemon.json"); !strings.Contains(out, "configuration OK") {
		t.Errorf("%s", out)
	}
	// As our unit starts it.
	out, _ := run(t, `containerd --config /etc/containerd/prose.toml --root /run/c --state /run/s --address /run/c.sock >/run/log 2>&1 &
for i in $(seq 100); do ctr --address /run/c.sock version >/dev/null 2>&1 && break; sleep 0.1; done
ctr --address /run/c.sock plugins ls || cat /run/log`)
	for name, want := range map[string]bool{"overlayfs": true, "zfs": false, "btrfs": false, "cri": false} {
		if got := strings.Contains(out, " "+name+" "); got != want {
			t.Errorf("containerd has plugin %s: %v, want %v\n%s", name, got, want, out)
		}
	}
}

func TestUpdateGrubChangesNothing(t *testing.T) {
	// There is no disk below this chroot: grub-probe is told what to answer.
	const probe = `mkdir -p /boot/grub; echo ours > /boot/grub/grub.cfg
printf '#!/bin/sh\necho ext2\n' > /usr/sbin/grub-probe
`
	out := mustRun(t, probe+`set -e
update-grub
cat /boot/grub/grub.cfg`)
	if !strings.HasPrefix(out, "prose: ") || !strings.HasSuffix(out, "\nours\n") {
		t.Errorf("want our message and our file:\n%s", out)
	}
	out = mustRun(t, probe+`mv /etc/default/grub.d/prose.cfg /run/
update-grub 2>&1; mv /run/prose.cfg /etc/default/grub.d/
cat /boot/grub/grub.cfg; rm /boot/grub/grub.cfg`)
	if strings.HasSuffix(out, "\nours\n") {
		t.Errorf("without our file update-grub changes nothing either:\n%s", out)
	}
}

func TestInitrd(t *testing.T) {
	out := mustRun(t, "lsinitramfs /boot/initrd.img-*; test -L /vmlinuz; stat -L -c 'size %s' /initrd.img")
	if strings.Contains(out, "hwdb.bin") {
		t.Error("the hardware database is in the initrd")
	}
	builtin := mustRun(t, "cat /lib/modules/*/modules.builtin")
	for _, m := range []string{"virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net", "nvme", "ena", "hv_vmbus", "hv_storvsc", "hv_netvsc",
		"vmw_pvscsi", "vmxnet3", "xen-blkfront", "gve", "ahci", "sd_mod", "ext4"} {
		if !strings.Contains(out, "/"+m+".ko") && !strings.Contains(builtin, "/"+m+".ko") {
			t.Errorf("no driver %s", m)
		}
	}
	if !strings.Contains(out, "fsck.ext4") {
		t.Error("no fsck.ext4")
	}
	var size int
	fmt.Sscanf(out[max(strings.LastIndex(out, "size "), 0):], "size %d", &size)
	if size == 0 || size > 12<<20 {
		t.Errorf("the initrd has %d bytes, want at most 12 MiB", size)
	}
}

func TestLicencesStayAndManualsDoNot(t *testing.T) {
	out := mustRun(t, `for p in $(dpkg-query -W -f '${Package}\n'); do [ -e /usr/share/doc/$p/copyright ] || echo $p; done
find /usr/share/man /usr/share/doc -type f ! -name copyright; find /usr/share/locale -name '*.mo'`)
	if out != "" {
		t.Errorf("without a licence, or not left out:\n%s", out)
	}
}

func TestAptReadsOurs(t *testing.T) {
	out := mustRun(t, "apt-config dump")
	for _, want := range []string{
		`APT::Periodic::Unattended-Upgrade "1";`,
		`APT::Periodic::Update-Package-Lists "1";`,
		`Unattended-Upgrade::Automatic-Reboot "false";`,
		`label=Debian-Security`,
		`DPkg::Post-Invoke:: "if [ -x /usr/lib/prose/after-upgrade ]`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("apt-config does not have %s", want)
		}
	}
}

// The daemon is started again when, and only when, its program was replaced.
func TestAfterUpgrade(t *testing.T) {
	out := mustRun(t, `set -e
/usr/lib/prose/after-upgrade; echo no systemd: nothing
mkdir -p /run/systemd/system /run/bin
printf '#!/bin/sh\ncase $1 in show) cat /run/pid ;; *) echo "systemctl $*" ;; esac\n' > /run/bin/systemctl
chmod 755 /run/bin/systemctl
export PATH=/run/bin:$PATH
echo 0 > /run/pid; /usr/lib/prose/after-upgrade; echo not running: nothing
cp /bin/sleep /tmp/dockerd; /tmp/dockerd 60 & echo $! > /run/pid
sleep 0.5; /usr/lib/prose/after-upgrade; echo same: nothing
rm /tmp/dockerd; /usr/lib/prose/after-upgrade`)
	want := "no systemd: nothing\nnot running: nothing\nsame: nothing\nsystemctl --no-block try-restart docker.service\n"
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
}
