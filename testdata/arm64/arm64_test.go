// Package arm64 bakes an image for another architecture than this machine's,
// has outside tools judge it, and boots it by UEFI until its agent speaks and
// the Pod's containers run.
//
//	make arm64
//
// With PROSE_ARM64 set to a directory it takes the image that was baked there.
package arm64

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/boot"
	boottest "github.com/prose-im/prose-image/testdata/boot"
	"github.com/prose-im/prose-image/testdata/oracle"
)

const top = "../.."

// baked is the directory of the image, made by the built program.
func baked(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("PROSE_ARM64"); dir != "" {
		return dir
	}
	dir := filepath.Join(top, "out", "arm64")
	c := exec.Command(filepath.Join(top, "bin", "prose-image"), "bake", filepath.Join(top, "testdata", "recipes", "arm64.toml"), "-o", dir, "--format", "raw", "--format", "qcow2")
	data, err := filepath.Abs(filepath.Join(top, "out", "data"))
	if err != nil {
		t.Fatal(err)
	}
	c.Env = append(os.Environ(), "XDG_DATA_HOME="+data) // not in the user's own catalog
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		t.Fatalf("baking: %v\n%s", err, said.String())
	}
	want := filepath.Join(dir, "prose-0-generic-arm64.raw") + "\n" + filepath.Join(dir, "prose-0-generic-arm64.qcow2") + "\n"
	if string(out) != want {
		t.Errorf("it names %q, want %q", out, want)
	}
	return dir
}

func TestImage(t *testing.T) {
	dir := baked(t)
	raw := filepath.Join(dir, "prose-0-generic-arm64.raw")
	if out := oracle.Run(t, "sgdisk", "-v", raw); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk:\n%s", out)
	}
	if out := oracle.Run(t, "sgdisk", "-p", raw); strings.Contains(out, "EF02") {
		t.Errorf("there is a partition for BIOS:\n%s", out)
	}
	parts := oracle.Partitions(t, raw)
	if kind := parts[1].Type; kind != "B921B045-1DF0-41C3-AF44-4C6F280D3FAE" {
		t.Errorf("root's type is %s", kind)
	}
	root := oracle.Root(t, raw)
	oracle.Run(t, "e2fsck", "-fn", root)

	for from, want := range map[string]string{
		"::EFI/BOOT/BOOTAA64.EFI": "PE32+ executable", "::EFI/BOOT/grubaa64.efi": "PE32+ executable",
	} {
		file := filepath.Join(t.TempDir(), "file")
		oracle.Run(t, "mcopy", "-i", raw+"@@"+strconv.FormatInt(parts[15].Start, 10), from, file)
		if out := oracle.Run(t, "file", "--brief", file); !strings.Contains(out, want) || !strings.Contains(out, "Aarch64") || !strings.Contains(out, "EFI application") {
			t.Errorf("%s is %s", from, out)
		}
	}
	for name, want := range map[string]string{
		"/usr/bin/prose-firstboot": "ELF 64-bit LSB executable, ARM aarch64", "/usr/sbin/dockerd": "ARM aarch64", "/usr/lib/systemd/systemd": "ARM aarch64",
	} {
		file := filepath.Join(t.TempDir(), "file")
		oracle.Debugfs(t, root, "dump "+name+" "+file)
		if out := oracle.Run(t, "file", "--brief", file); !strings.Contains(out, want) {
			t.Errorf("%s is %s", name, out)
		}
	}
	menu := oracle.Debugfs(t, root, "cat /boot/prose/grub.cfg")
	if !strings.Contains(menu, "console=ttyAMA0,115200") || strings.Contains(menu, "ttyS0") {
		t.Errorf("the menu:\n%s", menu)
	}
	oracle.Run(t, "qemu-img", "compare", raw, filepath.Join(dir, "prose-0-generic-arm64.qcow2"))
	evidence(t, dir)
}

// evidence checks that what is said beside the image names its architecture,
// and no other.
func evidence(t *testing.T, dir string) {
	t.Helper()
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("amd64")) {
			t.Errorf("%s speaks of amd64", name)
		}
		return string(b)
	}
	var manifest struct{ Arch string }
	if err := json.Unmarshal([]byte(read("manifest.json")), &manifest); err != nil || manifest.Arch != "arm64" {
		t.Errorf("manifest: %v, %v", manifest, err)
	}
	for _, name := range []string{"linux-image-cloud-arm64", "grub-efi-arm64-signed", "prose-firstboot"} {
		if sbom := read("prose-0-arm64.spdx.json"); !strings.Contains(sbom, `"`+name+`"`) {
			t.Errorf("the SBOM has no %s", name)
		}
	}
	if from := read("prose-0-arm64.intoto.json"); !strings.Contains(from, "prose-0-generic-arm64.raw") {
		t.Error("the provenance does not name the disk")
	}
}

// spoken is the first line of the agent on the console, once it knows its
// domain.
var spoken = regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(boottest.Domain) + ` is being set up\.$`)

func TestBoot(t *testing.T) {
	t.Setenv("PROSE_IMAGE", filepath.Join(baked(t), "prose-0-generic-arm64.qcow2"))
	m := boottest.Boot(t, boot.Options{Size: 8 << 30, Network: boot.Cut, CPU: os.Getenv("PROSE_CPU")})
	if m.Arch != boot.ARM64 || m.Firmware != boot.UEFI {
		t.Errorf("started on %s with %s", m.Arch, m.Firmware)
	}
	if err := m.Wait(t.Context(), spoken, m.Accel.Budget(boot.ToSettled)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%6.1f s  the agent has spoken", time.Since(m.Start).Seconds())
	for script, want := range map[string]string{
		"uname -m; dpkg --print-architecture; prose-firstboot version | grep -o linux/.*": "aarch64\narm64\nlinux/arm64",
		"cat /sys/class/tty/console/active":                                               "tty0 ttyAMA0",
		"systemctl is-active docker.service containerd.service":                           "active\nactive",
		"docker info --format '{{.Driver}} {{.Images}}'":                                  "overlay2 4",
		"docker image inspect --format '{{.Architecture}}' $(docker images -q) | sort -u": "arm64",
		"[ -d /sys/firmware/efi ] && echo efi":                                            "efi",
	} {
		if got := m.Root(t, boot.Command, script); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	// The Pod needs no network to start.
	const running = `for i in $(seq 120); do
	n=$(docker ps --quiet --filter status=running | wc -l)
	[ "$n" -lt 4 ] || break
	sleep 5
done
docker ps --all --format '{{.Names}} {{.State}}' | sort`
	out := m.Root(t, boot.ToReady, running)
	if strings.Count(out, " running") != 4 {
		t.Errorf("containers:\n%s", out)
	}
	t.Logf("%6.1f s  the containers of the Pod run", time.Since(m.Start).Seconds())
	m.Off(t)
}
