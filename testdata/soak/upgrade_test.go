package soaktest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder"
	"github.com/prose-im/prose-image/builder/boot"
	"github.com/prose-im/prose-image/builder/debian"
	boottest "github.com/prose-im/prose-image/testdata/boot"
)

// replaced are the packages that an owner's upgrade must not break a machine
// with: what starts it, what runs the Pod and what stands before it. The kernel
// is replaced by another one of Debian's.
var replaced = []string{
	"docker.io", "docker-cli", "docker-compose", "containerd", "runc",
	"grub-common", "grub2-common", "grub-pc-bin", "grub-efi-amd64-bin", "grub-efi-amd64-unsigned", "grub-efi-amd64-signed",
	"shim-signed", "shim-signed-common", "shim-unsigned", "shim-helpers-amd64-signed", "initramfs-tools", "initramfs-tools-core", "nginx",
}

// upgrading is how long apt may take, with two initrds to make under emulation.
const upgrading = 30 * time.Minute

// TestUpgrade replaces kernel, GRUB, shim, Docker and NGINX inside a machine
// whose Pod runs, as apt would, and boots it again with each firmware.
func TestUpgrade(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cache = filepath.Join(cache, "prose-image")
	lock, err := builder.ReadLock("../recipes/demo.lock")
	if err != nil {
		t.Fatalf("%v; make soak bakes first", err)
	}
	r := newRepository(t)
	var set []debian.Package
	for _, p := range lock.Packages {
		if slices.Contains(replaced, p.Name) {
			set = append(set, p)
		}
	}
	if len(set) < 10 {
		t.Fatalf("only %d of the packages are in the lock", len(set))
	}
	for _, p := range set {
		r.addNewer(debian.CachePath(cache, p), set)
	}
	found, err := debian.Resolve(t.Context(), debian.Request{Suite: "trixie", Arch: "amd64", Packages: []string{"linux-image-amd64"}})
	if err != nil {
		t.Fatal(err)
	}
	kernel := slices.DeleteFunc(found.Packages, func(p debian.Package) bool { return !strings.HasPrefix(p.Name, "linux-image-") })
	if err := debian.Fetch(t.Context(), cache, kernel); err != nil {
		t.Fatal(err)
	}
	for _, p := range kernel {
		r.add(debian.CachePath(cache, p))
	}
	address := r.serve()

	key, err := boot.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	o := boot.Options{Dir: t.TempDir(), Size: 8 << 30}
	before := ""
	t.Run("before", func(t *testing.T) {
		m := boottest.BootWith(t, key, o)
		before = m.Root(t, boot.Command, "uname -r")
		podAnswers(t, m)
		out := m.RootWithin(t, upgrading, fmt.Sprintf(`
echo 'deb [trusted=yes] %s ./' > /etc/apt/sources.list
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -y -o Dpkg::Options::=--force-confold full-upgrade 2>&1 | tail -n 5
apt-get -y install linux-image-amd64 2>&1 | tail -n 5
`, address))
		t.Logf("apt:\n%s", out)
		for line := range strings.Lines(m.Root(t, boot.Command, "dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\n' "+names(set))) {
			if f := strings.Fields(line); len(f) != 3 || !strings.HasSuffix(f[1], newer) || f[2] != "ii" {
				t.Errorf("not upgraded: %s", line)
			}
		}
		podAnswers(t, m)
		m.Off(t)
	})
	for _, fw := range boot.Firmwares {
		t.Run(string(fw), func(t *testing.T) {
			o := o
			o.Firmware = fw
			m := boottest.BootWith(t, key, o)
			if after := m.Root(t, boot.Command, "uname -r"); after == before || before == "" {
				t.Errorf("the kernel is still %q", after)
			}
			if state := m.Root(t, boot.ToSettled, "systemctl is-system-running --wait || true"); state != "running" {
				t.Errorf("the system is %s:\n%s", state, m.Root(t, boot.Command, "systemctl --no-pager --failed"))
			}
			podAnswers(t, m)
			if fw == boot.Firmwares[len(boot.Firmwares)-1] {
				// As if the power had gone while the initrd was being made.
				m.Root(t, boot.Command, "rm $(readlink -f /initrd.img) && sync")
			}
			m.Off(t)
		})
	}
	t.Run("without the new initrd", func(t *testing.T) {
		m := boottest.BootWith(t, key, o)
		if after := m.Root(t, boot.Command, "uname -r"); after != before {
			t.Errorf("kernel %q started, want the one before, %q", after, before)
		}
		m.Off(t)
	})
}

func names(set []debian.Package) string {
	var names []string
	for _, p := range set {
		names = append(names, p.Name)
	}
	return strings.Join(names, " ")
}

// podAnswers waits until the API answers with both versions.
func podAnswers(t *testing.T, m *boottest.Machine) {
	t.Helper()
	out := m.Root(t, boot.ToReady, `
for i in $(seq 60); do
	curl -sS -m 10 http://127.0.0.1:8081/api/pod/version && exit 0
	sleep 3
done 2>&1 | tail -n 1
docker ps -a
prose-firstboot status || true
exit 0`)
	if !strings.Contains(out, `"api"`) || !strings.Contains(out, `"server"`) {
		t.Errorf("the Pod does not answer:\n%s", out)
	}
}
