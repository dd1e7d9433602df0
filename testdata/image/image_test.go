package image

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/overlays"
	"github.com/prose-im/prose-image/testdata/oracle"
)

var update = flag.Bool("update", false, "rewrite the golden")

func named(t *testing.T, variable string) string {
	t.Helper()
	name := os.Getenv(variable)
	if _, err := os.Stat(name); err != nil {
		t.Fatalf("%s names no image: %v; make test bakes one", variable, err)
	}
	return name
}

func root(t *testing.T) fileSystem {
	return fileSystem{oracle.Root(t, named(t, "PROSE_RAW"))}
}

func TestOutsideToolsFindItClean(t *testing.T) {
	raw, qcow2 := named(t, "PROSE_RAW"), named(t, "PROSE_IMAGE")
	if out := oracle.Run(t, "sgdisk", "--verify", raw); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk:\n%s", out)
	}
	oracle.Run(t, "sfdisk", "--verify", raw)
	oracle.Run(t, "e2fsck", "-fn", root(t).spec)
	if out := oracle.Run(t, "qemu-img", "check", qcow2); !strings.Contains(out, "No errors were found") {
		t.Errorf("qemu-img check:\n%s", out)
	}
	oracle.Run(t, "qemu-img", "compare", raw, qcow2)

	parts := oracle.Partitions(t, raw)
	if len(parts) != 3 {
		t.Errorf("partitions %v, want 1, 14 and 15", parts)
	}
	esp := filepath.Join(t.TempDir(), "esp")
	oracle.Run(t, "dd", "if="+raw, "of="+esp, "bs=1M", "iflag=skip_bytes,count_bytes",
		fmt.Sprintf("skip=%d", parts[15].Start), fmt.Sprintf("count=%d", parts[15].Size))
	oracle.Run(t, "fsck.fat", "-n", esp)
	listing := oracle.Run(t, "mdir", "-/", "-b", "-i", esp, "::")
	for _, name := range []string{"EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/grubx64.efi", "EFI/debian/grub.cfg"} {
		if !strings.Contains(strings.ToLower(listing), strings.ToLower(name)) {
			t.Errorf("the ESP has no %s:\n%s", name, listing)
		}
	}
}

// The table of overlays and the image say the same.
func TestOverlaysAreAsTheirTable(t *testing.T) {
	files, err := root(t).list()
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]file{}
	for _, f := range files {
		at[f.path] = f
	}
	base, err := overlays.Base()
	if err != nil {
		t.Fatal(err)
	}
	pod, err := overlays.Pod(overlays.Bundles()[0])
	if err != nil {
		t.Fatal(err)
	}
	types := map[overlays.Type]uint32{overlays.Regular: 0o100000, overlays.Dir: 0o040000, overlays.Symlink: 0o120000}
	for _, want := range slices.Concat(base, pod) {
		got, ok := at["/"+want.Path]
		if !ok {
			t.Errorf("/%s is not there", want.Path)
			continue
		}
		mode := types[want.Type] | uint32(want.Mode)
		if got.mode != mode || got.uid != int(want.UID) || got.gid != int(want.GID) {
			t.Errorf("/%s is %o %d:%d, the table says %o %d:%d", want.Path, got.mode, got.uid, got.gid, mode, want.UID, want.GID)
		}
	}
	for _, d := range overlays.Deletions() {
		if _, ok := at["/"+d]; ok {
			t.Errorf("/%s is still there", d)
		}
	}
}

// Who could write what root obeys: nobody but root owns or may write anything
// outside of the directories that are given to the Pod.
func TestOnlyRootWritesWhatRootObeys(t *testing.T) {
	files, err := root(t).list()
	if err != nil {
		t.Fatal(err)
	}
	pod := []string{"/etc/prose", "/etc/prosody", "/var/lib/prose-pod-api", "/var/lib/prose-pod-server", "/var/lib/prosody", "/var/lib/docker"}
	under := func(p string, dirs []string) bool {
		return slices.ContainsFunc(dirs, func(d string) bool { return p == d || strings.HasPrefix(p, d+"/") })
	}
	sticky := []string{"/tmp", "/var/tmp", "/run/lock"}
	for _, f := range files {
		link := f.mode&0o170000 == 0o120000
		if f.uid == 1001 && !under(f.path, pod) {
			t.Errorf("%s belongs to 1001", f.path)
		}
		if !link && f.mode&0o002 != 0 && !slices.Contains(sticky, f.path) && !under(f.path, []string{"/var/lib/docker"}) {
			t.Errorf("%s may be written by everybody: %o", f.path, f.mode)
		}
	}
}

func TestNothingUniqueOrSecret(t *testing.T) {
	fs := root(t)
	files, err := fs.list()
	if err != nil {
		t.Fatal(err)
	}
	refused := []string{
		"/etc/ssh/ssh_host_*", "/var/lib/systemd/random-seed", "/var/lib/systemd/credential.secret",
		"/var/lib/docker/engine-id", "/etc/docker/key.json", "/var/lib/dbus/machine-id",
		"/root/.bash_history", "/root/.ssh/*", "/home/*", "/etc/*-", "/var/lib/apt/lists/*", "/var/cache/apt/*",
		"/var/lib/cloud/*", "/var/lib/dhcp/*", "/var/lib/systemd/timers/*", "/var/lib/prose-pod-server/*",
		"/var/lib/docker/containers/*", "/var/lib/docker/volumes/*", "/etc/prosody/certs/*", "/var/lib/docker/network/*",
		"/etc/ssl/private/*", "/etc/apt/apt.conf.d/99mmdebstrap", "/tmp/*", "/var/tmp/*", "/run/*",
	}
	for _, f := range files {
		for _, pattern := range refused {
			if ok, _ := path.Match(pattern, f.path); ok {
				t.Errorf("%s must not be in an image", f.path)
			}
		}
		if strings.HasPrefix(f.path, "/var/log/") && f.mode&0o170000 == 0o100000 {
			t.Errorf("%s is a log", f.path)
		}
		switch f.path {
		case "/etc/machine-id":
			if f.size != 0 {
				t.Errorf("%s has %d bytes, want none", f.path, f.size)
			}
		case "/var/lib/prose-pod-api/database.sqlite", "/etc/prose/prose.env":
			if f.size != 0 {
				t.Errorf("%s is not empty", f.path)
			}
		}
	}
	shadow, err := fs.cat("/etc/shadow")
	if err != nil || shadow == "" {
		t.Fatalf("/etc/shadow: %q %v", shadow, err)
	}
	for line := range strings.Lines(shadow) {
		if f := strings.Split(line, ":"); !strings.HasPrefix(f[1], "!") && !strings.HasPrefix(f[1], "*") {
			t.Errorf("account %s is not locked", f[0])
		}
	}
}

// What a reviewer reads: every name in the image that no package owns, and
// every one, owned or not, that is not plainly root's. Versions, digests and
// what follows from them are written as words, so that a new kernel changes
// nothing here.
func TestListing(t *testing.T) {
	fs := root(t)
	files, err := fs.list()
	if err != nil {
		t.Fatal(err)
	}
	owned := map[string]bool{}
	for _, f := range files {
		if path.Dir(f.path) != "/var/lib/dpkg/info" || !strings.HasSuffix(f.path, ".list") {
			continue
		}
		list, err := fs.cat(f.path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(list) {
			p := strings.TrimSuffix(line, "\n")
			// Debian's /bin, /lib and /sbin are links into /usr.
			for _, dir := range []string{"/bin", "/lib", "/lib64", "/sbin"} {
				if p == dir || strings.HasPrefix(p, dir+"/") {
					owned["/usr"+p] = true
				}
			}
			owned[p] = true
		}
	}
	if len(owned) < 1000 {
		t.Fatalf("packages own only %d files", len(owned))
	}
	var b strings.Builder
	seen := map[string]bool{}
	for _, f := range files {
		plain := f.uid == 0 && f.gid == 0 && f.mode&0o7022 == 0
		link := f.mode&0o170000 == 0o120000
		if owned[f.path] && (plain || link) {
			continue
		}
		name := anonymous(f.path)
		if name == "" {
			continue
		}
		line := fmt.Sprintf("%s %04o %4d:%-4d %s\n", kinds[f.mode>>12], f.mode&0o7777, f.uid, f.gid, name)
		if !seen[line] {
			seen[line] = true
			b.WriteString(line)
		}
	}
	const golden = "listing.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		got := filepath.Join(t.TempDir(), "got")
		if err := os.WriteFile(got, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		diff, _ := exec.Command("diff", "-u", golden, got).CombinedOutput()
		t.Errorf("the image holds other files than %s says; make golden rewrites it:\n%s", golden, diff)
	}
}

var kinds = map[uint32]string{1: "p", 2: "c", 4: "d", 6: "b", 8: "-", 10: "l", 12: "s"}

var words = []struct {
	pattern *regexp.Regexp
	word    string
}{
	{regexp.MustCompile(`[0-9]+\.[0-9]+\.[0-9]+\+deb[0-9]+(u[0-9]+)?-(cloud-)?(amd64|arm64)`), "KERNEL"},
	{regexp.MustCompile(`(/var/lib/docker/.*/)[0-9a-f]{64}`), "${1}SHA256"},
	{regexp.MustCompile(`^(/var/lib/docker/overlay2/l/)[A-Z2-7]{26}`), "${1}LINK"},
	// What is in the containers is the images' business.
	{regexp.MustCompile(`^(/var/lib/docker/overlay2/SHA256/diff)/.*`), ""},
	{regexp.MustCompile(`^/usr/lib/python3/dist-packages/.*/__pycache__.*|^/usr/(lib|share)/.*\.pyc$|^/usr/.*/__pycache__$`), "/usr/…/__pycache__"},
	{regexp.MustCompile(`^/etc/ssl/certs/.*`), "/etc/ssl/certs/CERTIFICATE"},
	{regexp.MustCompile(`^/var/lib/dpkg/info/.*`), "/var/lib/dpkg/info/PACKAGE"},
	{regexp.MustCompile(`^/var/lib/dpkg/alternatives/.*|^/etc/alternatives/.*`), ""},
}

func anonymous(p string) string {
	for _, w := range words {
		p = w.pattern.ReplaceAllString(p, w.word)
	}
	return p
}
