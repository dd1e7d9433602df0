package agenttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/prose-im/prose-image/firstboot/status"
)

const (
	thisID  = "0123456789abcdef0123456789abcdef\n"
	otherID = "fedcba9876543210fedcba9876543210\n"
)

// What happens to a machine that is nobody's fault, in the order in which it
// costs least. After each the machine is well again by itself.
func TestFaults(t *testing.T) {
	b := newBox(t)
	b.Write("/etc/machine-id", thisID)
	b.instance("i-1", "")
	b.world.records(address, names...)
	b.settings("")
	b.asked()
	want := 0 // orders so far
	ordered := func(t *testing.T) {
		t.Helper()
		if of, all := b.world.ordered(); all != want {
			t.Errorf("%d orders, want %d: %v", all, want, of)
		}
	}
	for _, f := range []struct {
		name string
		try  func(t *testing.T)
	}{
		{"no network", func(t *testing.T) {
			b.within("ip", "link", "set", "eth0", "down")
			b.until(t, "the Pod answers without a network", func(s status.Status, code int) bool {
				return code == 2 && item(s, "pod").Progress == status.Done && strings.Contains(item(s, "dns").What, "does not answer")
			})
			ordered(t)
			b.linkUp()
		}},
		{"the engine comes late", func(t *testing.T) {
			b.StopDocker()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			run := b.Command(ctx, "prose-firstboot", "run")
			if err := run.Start(); err != nil {
				t.Fatal(err)
			}
			for begin := time.Now(); ; time.Sleep(200 * time.Millisecond) {
				if s, code := b.status(t); code != 0 && strings.Contains(item(s, "pod").Why, "docker.sock") {
					break
				} else if time.Since(begin) > time.Minute {
					t.Fatalf("waiting until it says that there is no engine: a minute is over\n%s", b.agent("status").out)
				}
			}
			b.StartDocker()
			if err := run.Wait(); err != nil {
				t.Errorf("the run that waited for the engine: %v", err)
			}
		}},
		{"a clock before the image", func(t *testing.T) {
			b.forget()
			b.Run(t, "sh", "-ec", "find /etc/letsencrypt -mindepth 1 -delete; touch -d '2 days' /usr/bin/prose-firstboot")
			before, _ := b.world.ordered()
			for range 3 {
				b.until(t, "it says that the clock is wrong", func(s status.Status, code int) bool {
					return code == 2 && item(s, "pod").Progress == status.Done && item(s, "clock").Progress == status.Doing
				})
			}
			if after, _ := b.world.ordered(); len(after) != len(before) {
				t.Errorf("orders by a wrong clock: %v", after)
			}
			b.Run(t, "touch", "-d", "1 hour ago", "/usr/bin/prose-firstboot")
			b.forgetLooks(t)
			b.ready(t)
			want = len(names)
			ordered(t)
			b.serves(t)
		}},
		{"a full disk", func(t *testing.T) {
			size := b.full(t)
			before := b.files(t)
			b.settings("company: Another\n") // a file of the owner's that fits
			b.until(t, "it says that the disk is full", func(s status.Status, code int) bool {
				why := item(s, "setup").Why
				return code == 2 && strings.Contains(why, "/var/lib/prose-firstboot/state.json") && strings.Contains(why, "no space left") && strings.Contains(why, "bytes are needed")
			})
			for _, p := range differences(before, b.files(t)) {
				if strings.HasPrefix(filepath.Base(p), ".") {
					t.Errorf("half a file is left: %s", p)
				}
			}
			b.serves(t)
			b.resize(t, size)
			b.until(t, "it has written what did not fit", func(s status.Status, code int) bool {
				config, err := os.ReadFile(b.path("etc/prose/prose.toml"))
				return err == nil && code == 0 && strings.Contains(string(config), "Another")
			})
			ordered(t)
		}},
		{"a root that nobody can write", func(t *testing.T) {
			// What daemons have open for writing keeps the root itself from it.
			for _, at := range readOnly {
				b.mount(t, at, func() error {
					return errors.Join(unix.Mount(at, at, "", unix.MS_BIND, ""), unix.Mount("none", at, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
				})
			}
			for range 2 {
				if r := b.agent("run"); r.code != 0 {
					t.Errorf("exit code %d\n%s", r.code, r.out)
				}
			}
			if s, code := b.status(t); code != 2 || !strings.Contains(item(s, "disk").Why, "/etc/letsencrypt, /etc/prose, /var/lib/prose-firstboot") {
				t.Errorf("exit code %d: %+v", code, s.Items)
			}
			b.serves(t)
			for _, at := range readOnly {
				b.mount(t, at, func() error { return unix.Unmount(at, 0) })
			}
			b.ready(t)
			ordered(t)
		}},
		{"another instance-id", func(t *testing.T) {
			b.ready(t)
			b.agent("run") // what that leaves to be told
			files, containers := b.files(t), b.containers(t)
			b.instance("i-2", "")
			said := b.ready(t)
			if !strings.Contains(said, "remembering which machine this is") {
				t.Errorf("it did not take the new name: %s", said)
			}
			for _, p := range differences(files, b.files(t)) {
				if p != "/var/lib/prose-firstboot" && p != "/var/lib/prose-firstboot/state.json" && !strings.HasPrefix(p, "/var/lib/prose-firstboot/www/status") {
					t.Errorf("it has changed %s", p)
				}
			}
			if d := differences(containers, b.containers(t)); len(d) > 0 {
				t.Errorf("it has restarted %v", d)
			}
			ordered(t)
		}},
		{"DNS moves away and comes back", func(t *testing.T) {
			before, err := b.serials()
			if err != nil {
				t.Fatal(err)
			}
			b.world.records(elsewhere, names...)
			b.forget()
			b.until(t, "it says that DNS leads elsewhere", func(s status.Status, code int) bool {
				return code == 2 && len(wrong(s)) >= 2 && item(s, "copy").Key == ""
			})
			after, err := b.serials()
			if d := differences(before, after); err != nil || len(d) > 0 {
				t.Errorf("other certificates for %v, %v", d, err)
			}
			b.world.records(address, names...)
			b.forget()
			b.ready(t)
			ordered(t)
		}},
		{"a copied disk", func(t *testing.T) {
			account := func() string {
				found, _ := filepath.Glob(b.path("var/lib/prose-firstboot/acme/*/account.key"))
				if len(found) != 1 {
					return fmt.Sprint(len(found), " accounts")
				}
				text, err := os.ReadFile(found[0])
				if err != nil {
					t.Error(err)
				}
				return string(text)
			}
			door := func() string { text, _ := os.ReadFile(b.path("var/lib/prose-firstboot/door.key")); return string(text) }
			original, key := account(), door()
			before, err := b.serials()
			if err != nil {
				t.Fatal(err)
			}
			b.world.records(elsewhere, names...)
			b.forget()
			b.Write("/etc/machine-id", otherID)
			b.instance("i-3", "")
			copied := func(s status.Status, code int) bool {
				return code == 2 && item(s, "copy").Progress == status.Owner && strings.Contains(item(s, "copy").Why, elsewhere)
			}
			b.until(t, "it says that it is a copy", copied)
			if got := account(); got != "0 accounts" {
				t.Errorf("the copy has the original's account, or one of its own too early: %.20q", got)
			}
			if door() == key || door() == "" {
				t.Error("links of the original open the copy")
			}
			// Even when a certificate is due it does not fight.
			b.agent("renew")
			for range 3 {
				b.until(t, "it still waits", copied)
			}
			ordered(t)
			after, err := b.serials()
			if d := differences(before, after); err != nil || len(d) > 0 {
				t.Errorf("other certificates for %v, %v", d, err)
			}
			// It takes over.
			b.world.records(address, names...)
			b.forget()
			b.forgetLooks(t)
			b.until(t, "it has taken over", func(s status.Status, code int) bool { return code == 0 && item(s, "copy").Key == "" })
			want += len(names)
			ordered(t)
			if got := account(); got == original || !strings.Contains(got, "PRIVATE KEY") {
				t.Errorf("the copy goes on with the account of the original: %.20q", got)
			}
			b.serves(t)
		}},
		{"a copied disk for another domain", func(t *testing.T) {
			b.Write("/etc/machine-id", thisID)
			text, err := os.ReadFile(b.path("etc/prose-firstboot.d/10-owner.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			b.owner(strings.Replace(string(text), "domain: "+domain, "domain: other.example", 1))
			b.until(t, "the other domain is refused, with the way out", func(s status.Status, code int) bool {
				return code == 2 && s.Domain == domain && slices.Contains(item(s, "settings").Type, "sudo prose-firstboot reset")
			})
			before := b.files(t)
			if r := b.agent("reset", "--domain", "other.example"); r.code != 2 {
				t.Errorf("reset with another domain: exit code %d\n%s", r.code, r.out)
			}
			if d := differences(before, b.files(t)); len(d) > 0 {
				t.Errorf("a reset that was refused has changed %v", d)
			}
			b.asProse(t, "ln -s /etc/nginx /etc/prosody/planted; ln -s /etc/nginx /var/lib/prosody/planted")
			b.Write("/etc/prose-firstboot.d/50-configure.yaml", "company: Old\n")
			b.Write("/etc/nftables.d/prose.d/own.nft", "# The owner's.\n")
			if r := b.agent("reset", "--domain", domain); r.code != 0 {
				t.Fatalf("reset: exit code %d\n%s", r.code, r.out)
			}
			if all := b.containers(t); len(all) != 0 {
				t.Errorf("containers are left: %v", all)
			}
			left := b.Run(t, "sh", "-c", "find /etc/prosody /var/lib/prosody /var/lib/prose-pod-api /var/lib/prose-pod-server /etc/letsencrypt /etc/prose /etc/prose-firstboot.d -mindepth 1; find /var/lib/prose-firstboot /etc/nftables.d/prose.d -type f")
			if got := slices.Sorted(slices.Values(strings.Fields(left))); !slices.Equal(got, []string{"/etc/nftables.d/prose.d/own.nft", "/etc/prose-firstboot.d/10-owner.yaml", "/etc/prose/compose.yaml", "/etc/prose/prose.env"}) {
				t.Errorf("left: %v", got)
			}
			if _, err := os.Stat(b.path("etc/nginx/nginx.conf")); err != nil {
				t.Errorf("a planted link was followed: %v", err)
			}
			for _, n := range names {
				b.world.records(address, strings.Replace(n, domain, "other.example", 1))
			}
			b.until(t, "it is another domain's", func(s status.Status, code int) bool { return code == 0 && s.Domain == "other.example" && s.Locked })
			want += len(names)
			ordered(t)
		}},
	} {
		begin := time.Now()
		if !t.Run(strings.ReplaceAll(f.name, " ", "_"), f.try) {
			t.Logf("the agent's part of it:\n%s", b.log.String()[max(0, b.log.Len()-8000):])
			return
		}
		t.Logf("%-34s %v", f.name, time.Since(begin).Round(100*time.Millisecond))
	}
}

// instance is what cloud-init leaves of the platform's metadata.
func (b *box) instance(id, public string) {
	b.t.Helper()
	text, err := json.Marshal(map[string]any{"v1": map[string]any{"instance_id": id}, "ds": map[string]any{"meta_data": map[string]any{"public-ipv4": public}}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.Write("/run/cloud-init/instance-data.json", string(text))
}

// linkUp is a network that is there again.
func (b *box) linkUp() {
	b.within("ip", "link", "set", "eth0", "up")
	b.within("ip", "route", "replace", outside, "dev", "eth0")
	b.within("ip", "route", "replace", "default", "via", outside)
}

// forget lets the agent ask DNS at its next look instead of within the hour.
func (b *box) forget() {
	for _, p := range []string{"run/prose-firstboot/dns.json", "run/prose-firstboot/reach.json"} {
		os.Remove(b.path(p))
	}
}

// forgetLooks lets it look before an order at once instead of within half a
// minute.
func (b *box) forgetLooks(t testing.TB) {
	t.Helper()
	b.Run(t, "sh", "-c", `sed -i 's/"at": "20[0-9][0-9]/"at": "2001/' /var/lib/prose-firstboot/acme/names/*.json`)
}

// wrong are the records that lead elsewhere.
func wrong(s status.Status) []status.Record {
	return slices.DeleteFunc(slices.Clone(s.Records), func(r status.Record) bool { return r.State != status.Wrong })
}

// full leaves the disk below the root no room, and returns how large it was.
func (b *box) full(t testing.TB) string {
	t.Helper()
	disk := b.disk()
	size := strings.Fields(b.Run(t, "df", "-k", "--output=size,used", disk))
	b.resize(t, size[3]+"k")
	return size[2] + "k"
}

func (b *box) resize(t testing.TB, size string) {
	t.Helper()
	b.mount(t, b.disk(), func() error { return unix.Mount("none", b.disk(), "", unix.MS_REMOUNT, "size="+size) })
}

// readOnly are the directories in which the agent writes, but for what it writes
// anew at each boot.
var readOnly = []string{"/etc", "/var/lib/prose-firstboot"}

// mount changes a mount of the machine's, which has no program for that.
func (b *box) mount(t testing.TB, at string, change func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		// The thread dies with the goroutine: it never goes back.
		runtime.LockOSThread()
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/mnt", b.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(fd, unix.CLONE_NEWNS))
			unix.Close(fd)
		}
		if err == nil {
			err = change()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("mounting %s: %v", at, err)
	}
}

// disk is where the writable part of the root lies, seen from inside.
func (b *box) disk() string { return "/mnt" + b.Dir + "/top" }
