package boottest

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/builder/boot"
)

// TestBoot boots the image on a disk that is larger than the image and with the
// network cut: nothing of a first boot may need it. UEFI without Secure Boot is
// what the scenario first-boot has.
func TestBoot(t *testing.T) {
	Image(t)
	unique := map[string]string{} // what no two machines may share -> which has it
	for _, fw := range []boot.Firmware{boot.BIOS, boot.SecureBoot} {
		t.Run(string(fw), func(t *testing.T) {
			m := Boot(t, boot.Options{Firmware: fw, Size: 8 << 30, Network: boot.Cut})
			settled(t, m)
			switch fw {
			case boot.BIOS:
				appliance(t, m)
			case boot.SecureBoot:
				secure(t, m)
			}
			for _, id := range identity(t, m) {
				if other, ok := unique[id]; ok {
					t.Errorf("the machines with %s and %s firmware share %s", fw, other, id)
				}
				unique[id] = string(fw)
			}
			m.Off(t)
		})
	}
}

// settled waits until systemd and cloud-init have done all they had to do, and
// well.
func settled(t *testing.T, m *Machine) {
	t.Helper()
	within := m.Accel.Budget(boot.ToSettled)
	ctx, cancel := context.WithTimeoutCause(t.Context(), within, fmt.Errorf("%s are over", within))
	defer cancel()
	state, err := m.Shell.Root(ctx, "systemctl is-system-running --wait || true")
	if err != nil { // a unit that starts again and again never settles
		t.Fatalf("%v\nwhat is still to be started:\n%s", err, m.Root(t, boot.Command, "systemctl list-jobs --no-pager; systemctl --no-pager --failed"))
	}
	state = strings.TrimSpace(state)
	m.reach(t, "system "+state)
	if state != "running" {
		t.Errorf("the system is %s:\n%s", state, m.Root(t, boot.Command,
			`systemctl --no-pager --failed; for u in $(systemctl --failed --plain --no-legend | cut -d' ' -f1); do systemctl status --no-pager --lines=20 "$u" || true; done`))
	}
	status := m.Root(t, boot.ToSettled, "cloud-init status --wait --long || echo exit $?")
	m.reach(t, "cloud-init done")
	if !strings.Contains(status, "extended_status: done\n") || strings.Contains(status, "exit ") || !strings.Contains(status, "DataSourceNoCloud") {
		t.Errorf("cloud-init:\n%s", status)
	}
}

// identity is what is this machine's alone.
func identity(t *testing.T, m *Machine) []string {
	t.Helper()
	id := m.Root(t, boot.Command, "cat /etc/machine-id")
	if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(id) {
		t.Errorf("machine-id is %q", id)
	}
	keys := strings.Fields(m.Root(t, boot.Command, "cut -d' ' -f1,2 /etc/ssh/ssh_host_*_key.pub"))
	if len(keys) < 2 || len(keys)%2 != 0 {
		t.Fatalf("host keys: %q", keys)
	}
	ids := []string{"machine-id " + id}
	var types []string
	for i := 0; i < len(keys); i += 2 {
		types = append(types, keys[i])
		ids = append(ids, "host key "+keys[i]+" "+keys[i+1])
	}
	if !slices.Contains(ids, "host key "+m.Shell.HostKey) {
		t.Errorf("sshd shows a key that is not in /etc/ssh: %s", m.Shell.HostKey)
	}
	if !slices.Contains(types, "ssh-ed25519") || slices.Contains(types, "ssh-dss") {
		t.Errorf("kinds of host keys: %v", types)
	}
	return ids
}

// secure checks that firmware and kernel agree on Secure Boot: a test of it on
// a machine that does not enforce it would prove nothing.
func secure(t *testing.T, m *Machine) {
	t.Helper()
	// Four bytes of attributes, one of value (UEFI specification, section 3.3).
	v := m.Root(t, boot.Command, "od -An -tu1 -j4 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
	if strings.TrimSpace(v) != "1" {
		t.Errorf("SecureBoot is %q", v)
	}
	lock := m.Root(t, boot.Command, "cat /sys/kernel/security/lockdown")
	if strings.Contains(lock, "[none]") {
		t.Errorf("lockdown is %s", lock)
	}
}

// appliance checks what every machine has, whatever its firmware.
func appliance(t *testing.T, m *Machine) {
	checks := []struct {
		name, script string
		check        func(t *testing.T, out string)
	}{
		{"root file system fills the disk", "df --block-size=1 --output=size / | tail -n1", func(t *testing.T, out string) {
			size, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
			if err != nil || size < 7<<30 || size > 8<<30 {
				t.Errorf("it has %q bytes of 8 GiB, %v", out, err)
			}
		}},
		{"no unit has failed", "systemctl --failed --plain --no-legend", equal("")},
		{"no job is waiting", "systemctl list-jobs --no-legend | wc -l", equal("0")},
		{"docker runs", "systemctl is-active docker.service containerd.service", equal("active\nactive")},
		{"docker's store", "docker info --format '{{.Driver}} {{.Images}}'", equal("overlay2 4")},
		{"images", "docker images --digests --format '{{.Repository}}:{{.Tag}} {{.Digest}}' | sort", images},
		{"compose finds its images", `cd /usr/lib/prose/pod
docker compose --project-directory . --env-file compose.env -f compose.yaml -f compose.override.yaml -f compose.images.yaml config --images |
while read -r image; do docker image inspect --format '{{index .RepoDigests 0}}' "$image"; done | wc -l`, equal("4")},
		{"host name", "hostname", equal("prose")},
		{"settings of the owner", "stat -c '%a %u:%g' /etc/prose-firstboot.d /etc/prose-firstboot.d/10-domain.yaml; cat /etc/prose-firstboot.d/10-domain.yaml",
			equal("700 0:0\n600 0:0\ndomain: " + Domain)},
		{"account", "getent passwd prose | cut -d: -f1,3,4,7; id -G prose", equal("prose:1001:1001:/usr/sbin/nologin\n1001")},
		{"listening ports", "ss -Hltun", ports},
		{"walls", "nft list chain inet prose input | grep -c 'policy drop'", equal("1")},
		{"sshd takes no passwords", "sshd -T | grep -E '^(passwordauthentication|kbdinteractiveauthentication|permitemptypasswords) ' | sort",
			equal("kbdinteractiveauthentication no\npasswordauthentication no\npermitemptypasswords no")},
		{"the network is cut", "timeout 5 bash -c '</dev/tcp/10.0.2.2/22' 2>/dev/null && echo open || echo cut", equal("cut")},
		{"time zone", "date +%Z", equal("UTC")},
	}
	for _, c := range checks {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			c.check(t, m.Root(t, boot.Command, c.script))
		})
	}
	m.reach(t, "looked at")
}

func equal(want string) func(*testing.T, string) {
	return func(t *testing.T, out string) {
		if out != want {
			t.Errorf("got\n%s\nwant\n%s", out, want)
		}
	}
}

// images: the Pod's four, each by name, tag and digest.
func images(t *testing.T, out string) {
	line := regexp.MustCompile(`^(?:docker\.io/)?(proseim/[a-z-]+):[0-9][0-9A-Za-z.-]* sha256:[0-9a-f]{64}$`)
	var names []string
	for l := range strings.Lines(out) {
		m := line.FindStringSubmatch(strings.TrimSpace(l))
		if m == nil {
			t.Errorf("image %q has no name, tag or digest", l)
			continue
		}
		names = append(names, m[1])
	}
	want := []string{"proseim/prose-app-web", "proseim/prose-pod-api", "proseim/prose-pod-dashboard", "proseim/prose-pod-server"}
	if !slices.Equal(names, want) {
		t.Errorf("images %v, want %v", names, want)
	}
}

// ports: only what the walls let in may listen to the outside, and sshd does.
// Addresses that only this machine reaches do not count.
func ports(t *testing.T, out string) {
	mayListen := map[string][]string{
		"tcp": {"22", "80", "443", "5222", "5269"},
		"udp": {"68", "546"}, // DHCP
	}
	ssh := false
	for l := range strings.Lines(out) {
		f := strings.Fields(l)
		if len(f) < 5 {
			t.Errorf("ss says %q", l)
			continue
		}
		proto, local := f[0], f[4]
		host, port, err := net.SplitHostPort(local)
		if err != nil {
			t.Errorf("ss says %q: %v", l, err)
			continue
		}
		host, _, _ = strings.Cut(host, "%")
		if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
			continue
		}
		if !slices.Contains(mayListen[proto], port) {
			t.Errorf("%s %s listens", proto, local)
		}
		ssh = ssh || port == "22"
	}
	if !ssh {
		t.Errorf("sshd does not listen:\n%s", out)
	}
}
