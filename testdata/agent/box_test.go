// Package agenttest runs the whole agent, as the stripped binary of the image,
// on a Debian with Docker, NGINX and the image's own files, against a real
// authority and the pod double with its real Prosody. Only systemd is not
// there: a small systemctl does what the agent asks of it.
package agenttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/status"
	"github.com/prose-im/prose-image/overlays"
	"github.com/prose-im/prose-image/testdata/machine"
)

// packages are those of the image that the agent has to do with.
var packages = []string{"nftables", "nginx", "procps"}

var programs string // directory with what TestMain has built

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "agent-programs-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		programs = dir
		for _, args := range [][]string{
			// As the Makefile builds what goes into the image.
			{"-tags=nethttpomithttp2", "-gcflags=all=-l", "-gcflags=crypto/...=", "-gcflags=runtime/...=", "-gcflags=internal/...=", "-ldflags=-s -w", "-o", dir + "/prose-firstboot", "../../cmd/prose-firstboot"},
			{"-o", dir + "/", "./crash"},
			{"-modfile=../tools/go.mod", "-o", dir + "/", "github.com/letsencrypt/pebble/v2/cmd/pebble", "github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv"},
		} {
			build := exec.Command("go", append([]string{"build", "-trimpath"}, args...)...)
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "building %v: %v\n%s", args, err, out)
				return 1
			}
		}
		return m.Run()
	}())
}

// systemctl does what the agent asks of systemd, and keeps a list of it.
const systemctl = `#!/bin/sh
echo "$*" >>/run/systemctl.log
case "$*" in
"reload-or-restart nginx.service") if kill -0 "$(cat /run/nginx.pid)" 2>/dev/null; then nginx -s reload; else nginx; fi ;;
"reload prose-walls.service") nft -f /etc/nftables.d/prose.nft ;;
"stop prose-door.socket prose-door.service") kill "$(cat /run/door.pid)" || true ;;
"start prose-door.socket") ;;
"start --no-block prose-firstboot.service" | "try-reload-or-restart systemd-resolved.service") ;;
*) echo "there is no systemd to $*" >&2; exit 1 ;;
esac
`

// door runs the program of the unit prose-door as its socket and its unit do,
// once there is a key for it.
const doorUnit = `
while :; do
	if [ -s /var/lib/prose-firstboot/door.key ]; then
		install -d -m 0700 -o prose-door -g prose-door /var/lib/prose-door /run/credentials
		install -m 0400 -o prose-door -g prose-door /var/lib/prose-firstboot/door.key /run/credentials/key
		sh -c 'echo $$ >/run/door.pid
			umask 077
			LISTEN_PID=$$ LISTEN_FDS=1 CREDENTIALS_DIRECTORY=/run/credentials STATE_DIRECTORY=/var/lib/prose-door \
				exec setpriv --reuid prose-door --regid prose-door --clear-groups --no-new-privs prose-firstboot door'
	fi
	sleep 0.1
done`

// A box is a machine of the image's with a world around it.
type box struct {
	*machine.Machine
	t     testing.TB
	world *world
	log   strings.Builder // everything that the agent has said
	// waiting is since when the saved state of that name waits for DNS
	waiting time.Time
}

// newBox starts a machine that has just come up for the first time, but for
// what the agent does.
func newBox(t testing.TB) *box {
	t.Helper()
	return newBoxIn(t, newWorld(t, programs), "")
}

// newBoxIn is one in a world where others may have been before, that writes to a
// device unless that is empty, see [machine.StartOn].
func newBoxIn(t testing.TB, w *world, device string) *box {
	t.Helper()
	files, err := overlays.Base()
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := overlays.Pod("default")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, bundle...)
	var daemon []byte
	for _, f := range files {
		if f.Path == "etc/docker/daemon.json" {
			daemon = f.Content
		}
	}
	images := machine.Images(t)
	tree := machine.Debian(t, packages...)
	b := &box{Machine: machine.StartOn(t, tree, machine.Store(t, tree, daemon, images), device), t: t}
	b.world = w
	// That of the one before goes when the kernel has the time.
	_ = exec.Command("nsenter", "-t", fmt.Sprint(w.pid), "-n", "ip", "link", "delete", "veth0").Run()
	b.world.ip("link", "add", "veth0", "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(b.Pid))
	b.world.ip("link", "set", "veth0", "up")
	b.world.ip("route", "add", address, "dev", "veth0", "src", outside)
	b.within("ip", "address", "add", address+"/32", "dev", "eth0")
	b.within("ip", "link", "set", "eth0", "up")
	b.within("ip", "route", "add", outside, "dev", "eth0")
	b.within("ip", "route", "add", "default", "via", outside)

	b.lay(files)
	for _, f := range []struct {
		name, content string
		mode          os.FileMode
	}{
		{overlays.ImagesFile, machine.Pinned(images), 0o644},
		{"etc/resolv.conf", "nameserver " + outside + "\n", 0o644},
		{"usr/bin/systemctl", systemctl, 0o755},
	} {
		b.lay([]overlays.File{{Path: f.name, Mode: uint16(f.mode), Content: []byte(f.content)}})
	}
	for _, name := range []string{"prose-firstboot", "crash"} {
		program, err := os.ReadFile(filepath.Join(programs, name))
		if err != nil {
			t.Fatal(err)
		}
		b.lay([]overlays.File{{Path: "usr/bin/" + name, Mode: 0o755, Content: program}})
	}
	for _, a := range overlays.Accounts() {
		b.append("etc/passwd", fmt.Sprintf("%s:x:%d:%d:%s:/nonexistent:/usr/sbin/nologin\n", a.Name, a.ID, a.ID, a.Gecos))
		b.append("etc/group", fmt.Sprintf("%s:x:%d:\n", a.Name, a.ID))
	}
	for _, d := range overlays.Deletions() {
		os.Remove(b.path(d))
	}
	b.Run(t, "nft", "-f", "/etc/nftables.d/prose.nft")
	b.Run(t, "sh", "-c", "mkdir /run/prose /run/prose-firstboot && nginx")
	b.StartContainerd()
	b.StartDocker()
	b.startDoor()
	return b
}

// within is a command with the machine's network and our programs.
func (b *box) within(args ...string) {
	b.t.Helper()
	if out, err := exec.Command("nsenter", append([]string{"-t", fmt.Sprint(b.Pid), "-n"}, args...)...).CombinedOutput(); err != nil {
		b.t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// path is a place in the machine, as seen from outside.
func (b *box) path(name string) string { return filepath.Join(b.Root, name) }

// lay puts files into the machine as a bake does: owners, modes and links.
func (b *box) lay(files []overlays.File) {
	b.t.Helper()
	for _, f := range files {
		to := b.path(f.Path)
		err := os.MkdirAll(path.Dir(to), 0o755)
		switch f.Type {
		case overlays.Dir:
			if err = os.Mkdir(to, 0o755); errors.Is(err, os.ErrExist) {
				err = nil
			}
		case overlays.Symlink:
			os.Remove(to)
			err = errors.Join(err, os.Symlink(f.Link, to))
		default:
			os.Remove(to)
			err = errors.Join(err, os.WriteFile(to, f.Content, 0o600))
		}
		err = errors.Join(err, os.Lchown(to, int(f.UID), int(f.GID)))
		if f.Type != overlays.Symlink {
			err = errors.Join(err, os.Chmod(to, os.FileMode(f.Mode)))
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *box) append(name, line string) {
	b.t.Helper()
	f, err := os.OpenFile(b.path(name), os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = f.WriteString(line)
		f.Close()
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// startDoor listens as prose-door.socket does.
func (b *box) startDoor() {
	b.t.Helper()
	at := b.path("run/prose-door.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at, Net: "unix"})
	if err != nil {
		b.t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	socket, err := l.File()
	l.Close()
	if err == nil {
		err = errors.Join(os.Chown(at, 0, 33), os.Chmod(at, 0o660)) // www-data
	}
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := b.Command(context.Background(), "sh", "-c", doorUnit)
	cmd.ExtraFiles = []*os.File{socket}
	log, err := os.OpenFile(b.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		b.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	socket.Close()
	go func() { cmd.Wait(); log.Close() }()
}

// settings writes the owner's file, as cloud-init does from user-data.
func (b *box) settings(more string) {
	b.t.Helper()
	text := "domain: " + domain + "\nacme:\n  directory: " + directory + "\n  ca: |\n"
	for line := range strings.Lines(b.world.ca) {
		text += "    " + line
	}
	b.lay([]overlays.File{{Path: "etc/prose-firstboot.d/10-owner.yaml", Mode: 0o600, Content: []byte(text + more)}})
}

// A run is one call of the agent.
type run struct {
	out  string
	code int
}

// agent calls the program as its unit does.
func (b *box) agent(args ...string) run {
	b.t.Helper()
	return b.call("prose-firstboot", args...)
}

func (b *box) call(program string, args ...string) run {
	b.t.Helper()
	r, err := b.limited(4*time.Minute, program, args...)
	if err != nil {
		b.t.Fatalf("%v\n%s", err, r.out)
	}
	return r
}

// limited calls a program and kills it when it takes longer.
func (b *box) limited(limit time.Duration, program string, args ...string) (run, error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), limit, fmt.Errorf("%v are over", limit))
	defer cancel()
	cmd := b.Command(ctx, append([]string{"sh", "-c", `umask 077; exec "$@"`, "sh", program}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if args[0] != "status" {
		fmt.Fprintf(&b.log, "$ %s %s\n%s", program, strings.Join(args, " "), out.String())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		return run{out.String(), -1}, fmt.Errorf("waiting for %s %v to end: %w", program, args, errors.Join(err, context.Cause(ctx)))
	}
	return run{out.String(), cmd.ProcessState.ExitCode()}, nil
}

// status is what the agent tells people, and the exit code of that.
func (b *box) status(t testing.TB) (status.Status, int) {
	t.Helper()
	r := b.agent("status", "--json")
	s, err := status.Decode([]byte(r.out))
	if err != nil {
		t.Fatalf("%v\n%s", err, r.out)
	}
	return s, r.code
}

// until has the agent look as its timer does, until good says so, and returns
// what it said on the way.
func (b *box) until(t testing.TB, what string, good func(s status.Status, code int) bool) string {
	t.Helper()
	var said string
	for begin := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		r := b.agent("run")
		said += r.out
		s, code := b.status(t)
		if r.code == 0 && good(s, code) {
			return said
		}
		if time.Since(begin) > 3*time.Minute {
			t.Fatalf("waiting until %s: three minutes are over\n%s\n%s", what, said, b.agent("status").out)
		}
	}
}

// ready is until everything answers.
func (b *box) ready(t testing.TB) string {
	t.Helper()
	return b.until(t, "the machine is ready", func(_ status.Status, code int) bool { return code == 0 })
}

// asked is what systemd was asked for since the last time.
func (b *box) asked() string {
	text, _ := os.ReadFile(b.path("run/systemctl.log"))
	os.Remove(b.path("run/systemctl.log"))
	return string(text)
}
