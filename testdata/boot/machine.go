// Package boottest boots the baked image. It lies under testdata so that
// "go test ./..." passes it by: it needs an image and takes minutes.
//
//	PROSE_IMAGE=out/prose.qcow2 go test -count=1 -timeout 40m ./testdata/boot
//
// What a failed machine said on its console, and its journal if it could still
// be asked, is kept in out/boot, or in the directory that PROSE_BOOT_LOGS
// names.
package boottest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/boot"
	"github.com/prose-im/prose-image/cloudinit"
	"github.com/prose-im/prose-image/cloudinit/seed"
)

// Domain is what the seed says to each machine.
const Domain = "chat.example"

// Image is the image to boot.
func Image(t *testing.T) string {
	t.Helper()
	path := os.Getenv("PROSE_IMAGE")
	if path == "" {
		path = filepath.Join(top(t), "out", "prose-0-generic-amd64.qcow2")
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("there is no image to boot: %v; `make demo` bakes one, PROSE_IMAGE names another", err)
	}
	return path
}

// top is the directory of the sources.
func top(t *testing.T) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) {
		dir, err := filepath.Abs("../..") // built with -trimpath
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// A Machine is a booted image that the tests are logged in to.
type Machine struct {
	*boot.VM
	Shell *boot.Shell
	Start time.Time // of the power
	logs  string
	kept  bool
}

// Boot boots the image with a seed as an owner writes it, waits for the login
// prompt and logs in. Image, Seed, Log and Forwards of the options are filled
// in.
func Boot(t *testing.T, o boot.Options) *Machine {
	t.Helper()
	key, err := boot.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return BootWith(t, key, o)
}

// BootWith is Boot with a given key: a disk that was booted before keeps the
// key of its first boot.
func BootWith(t *testing.T, key *boot.Key, o boot.Options) *Machine {
	t.Helper()
	o.Image = Image(t)
	first := cloudinit.FirstBoot{Domain: Domain, AuthorizedKeys: []string{key.Authorized()}}
	user, err := first.UserData()
	if err != nil {
		t.Fatal(err)
	}
	meta, err := first.MetaData()
	if err != nil {
		t.Fatal(err)
	}
	o.Seed = filepath.Join(t.TempDir(), "seed.iso")
	if err := seed.Write(o.Seed, seed.Seed{UserData: user, MetaData: meta}); err != nil {
		t.Fatal(err)
	}
	o.Forwards = append(o.Forwards, boot.Forward{Guest: 22})
	m := &Machine{Start: time.Now(), logs: logDir(t)}
	o.Log = filepath.Join(m.logs, "serial.log")
	ctx := context.Background() // the test's own ends before its clean-up
	m.VM, err = boot.Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.keepLogs(t, ctx, m.logs)
		m.Close()
	})
	m.reach(t, "starting with "+string(m.Accel))
	if err := m.Wait(ctx, boot.LoginPrompt, m.Accel.Budget(boot.ToLogin)); err != nil {
		t.Fatal(err)
	}
	m.reach(t, "login prompt")
	if m.Shell, err = m.SSH(ctx, "debian", key); err != nil {
		t.Fatal(err)
	}
	m.reach(t, "logged in over SSH")
	return m
}

// reach notes how long after power-on something was reached.
func (m *Machine) reach(t *testing.T, what string) {
	t.Helper()
	t.Logf("%6.1f s  %s", time.Since(m.Start).Seconds(), what)
}

// Root runs a script as root within the budget of a span and returns its output
// without the white space around it. An error ends the test.
func (m *Machine) Root(t *testing.T, span boot.Span, script string) string {
	t.Helper()
	return m.RootWithin(t, m.Accel.Budget(span), script)
}

// RootWithin is Root with a time of its own.
func (m *Machine) RootWithin(t *testing.T, within time.Duration, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), within, fmt.Errorf("%s are over", within))
	defer cancel()
	out, err := m.Shell.Root(ctx, script)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// logDir is a new directory for the logs of one machine.
func logDir(t *testing.T) string {
	t.Helper()
	parent := os.Getenv("PROSE_BOOT_LOGS")
	if parent == "" {
		parent = filepath.Join(top(t), "out", "boot")
	}
	dir := filepath.Join(parent, strings.ReplaceAll(t.Name(), "/", "-"))
	if err := os.RemoveAll(dir); err != nil { // an earlier run's
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// keepLogs leaves the logs of a machine that failed, with its journal if it can
// still be asked, and removes those of one that did not. It may be called more
// than once.
func (m *Machine) keepLogs(t *testing.T, ctx context.Context, dir string) {
	t.Helper()
	if !t.Failed() {
		os.RemoveAll(dir)
		return
	}
	if m.kept {
		return
	}
	m.kept = true
	if m.Shell != nil {
		ctx, cancel := context.WithTimeout(ctx, m.Accel.Budget(boot.Command))
		defer cancel()
		out, err := m.Shell.Root(ctx, "systemctl --no-pager --failed; journalctl --no-pager -b -o short-monotonic")
		if err != nil {
			out += "\nreading the journal: " + err.Error() + "\n"
		}
		if err := os.WriteFile(filepath.Join(dir, "journal.log"), []byte(out), 0o644); err != nil {
			t.Log(err)
		}
	}
	t.Logf("logs are kept in %s", dir)
}

// Off switches the machine off as its owner would.
func (m *Machine) Off(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	if t.Failed() {
		m.keepLogs(t, ctx, m.logs) // while it can be asked
	}
	m.Shell.Close()
	if err := m.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	m.reach(t, "off")
}
