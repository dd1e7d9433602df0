package firstboot

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/prose-im/prose-image/firstboot/pod"
)

// A place is a directory that a reset empties. Its own path leads through
// directories of root only, so that nobody can put another in its place.
type place struct {
	path string
	keep []string // what came with the image and stays
	tree bool     // directories in it stay, files go
}

// unique is where all lies that makes a machine the one of its domain. What the
// owner or the platform has written into /etc/prose-firstboot.d stays: it is
// what the machine begins anew with.
var unique = []place{
	{path: "/etc/prose", keep: []string{"prose.env", "compose.yaml"}},
	{path: "/etc/prosody"},
	{path: "/var/lib/prosody"},
	{path: "/var/lib/prose-pod-api"},
	{path: "/var/lib/prose-pod-server"},
	{path: "/etc/letsencrypt"},
	{path: stateDir + "/acme"},
	{path: stateDir, keep: []string{path.Base(statePath)}, tree: true},
}

// configuredPath is the file that "prose-firstboot configure" writes, ours too.
const configuredPath = "/etc/prose-firstboot.d/50-configure.yaml"

// erase takes the machine back to its beginning. The state goes last: until then
// it says that this is to be done, and a killed run does it again.
func (a *agent) erase(ctx context.Context, w *world) error {
	m := a.machine
	if err := pod.Down(ctx, m.engine, project); err != nil {
		return fmt.Errorf("stopping the Pod: %w", err)
	}
	for _, p := range unique {
		if err := m.empty(p); err != nil {
			return err
		}
	}
	for _, p := range []string{configuredPath, wallsPath, answersPath, reachPath, runDir + "/nginx-sites.conf"} {
		if err := os.Remove(m.path(p)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing what was set up: %w", err)
		}
	}
	for _, tell := range []func(context.Context) error{m.reloadNGINX, m.reloadWalls, m.restartDoor} {
		if err := tell(ctx); err != nil {
			return err
		}
	}
	if err := os.Remove(m.path(statePath)); err != nil {
		return fmt.Errorf("forgetting: %w", err)
	}
	w.state = state{Schema: 1}
	return nil
}

// empty removes what is in a place, and follows no link out of it.
func (m *machine) empty(p place) error {
	fail := func(err error) error { return fmt.Errorf("emptying %s: %w", p.path, err) }
	r, err := os.OpenRoot(m.path(p.path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fail(err)
	}
	defer r.Close()
	d, err := r.Open(".")
	if err != nil {
		return fail(err)
	}
	names, err := d.Readdirnames(-1)
	d.Close()
	if err != nil {
		return fail(err)
	}
	for _, name := range names {
		if slices.Contains(p.keep, name) {
			continue
		}
		if info, err := r.Lstat(name); p.tree && err == nil && info.IsDir() {
			if err := m.empty(place{path: path.Join(p.path, name), tree: true}); err != nil {
				return err
			}
			continue
		}
		if err := r.RemoveAll(name); err != nil {
			return fail(err)
		}
	}
	return nil
}

// reset is the verb: it asks for the domain, because what it removes cannot be
// brought back.
func reset(ctx context.Context, c *call) int {
	domain := ""
	if len(c.args) == 2 && c.args[0] == "--domain" {
		domain, c.args = c.args[1], nil
	}
	if code, ok := c.noMore("reset"); !ok {
		return code
	}
	if os.Geteuid() != 0 {
		return c.fail(1, "sudo prose-firstboot reset", "only root can reset the machine")
	}
	m := c.machine
	s, err := m.loadState()
	switch {
	case err != nil:
		return c.fail(1, "", "%w", err)
	case s.Domain == "":
		return c.fail(1, "sudo prose-firstboot configure", "the machine has not been set up, and there is nothing to reset")
	}
	if domain == "" {
		fmt.Fprintf(c.stdout, "This removes everything that this machine is for %s: all accounts, messages and files, its certificates and keys.\nType the domain to go on: ", s.Domain)
		line, _ := bufio.NewReader(c.in).ReadString('\n')
		domain = strings.TrimSpace(line)
	}
	if domain != s.Domain {
		return c.fail(2, "prose-firstboot reset --domain "+s.Domain, "that is not the domain of this machine; nothing was changed")
	}
	unlock, err := m.lock(ctx)
	if err != nil {
		return c.fail(1, "try again in a minute", "%w", err)
	}
	defer unlock()
	a := newAgent(ctx, m, c.stdout)
	s.Reset = true
	if err := m.saveState(s); err != nil {
		return c.fail(1, "", "%w", err)
	}
	if err := a.erase(ctx, &world{state: s}); err != nil {
		return c.fail(1, "see how far it is: prose-firstboot status", "%w; the machine goes on with it by itself", err)
	}
	fmt.Fprintln(c.stdout, "the machine is as it was before its first start")
	unlock()
	if err := kick(ctx); err != nil {
		return c.fail(1, "sudo systemctl start prose-firstboot", "%w", err)
	}
	return 0
}
