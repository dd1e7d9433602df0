package firstboot

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prose-im/prose-image/firstboot/beneath"
	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/door"
)

// do does one step. What it leaves undone when it fails, or is killed, the next
// look finds.
func (a *agent) do(ctx context.Context, w *world, s step) error {
	m := a.machine
	switch s.do {
	case remember:
		w.state.Domain = w.settings.Domain
		w.state.identity = w.is
		return m.saveState(w.state)
	case adopt:
		w.state.identity = w.state.known(w.is)
		return m.saveState(w.state)
	case becomeItself:
		return a.becomeItself(ctx, w)
	case erase:
		return a.erase(ctx, w)
	case takeOver:
		w.state.Copied = time.Time{}
		return m.saveState(w.state)
	case makeDoorKey:
		_, err := m.write(doorKeyPath, door.NewKey(), 0o600, root)
		return err
	case mendDoor:
		return a.mendDoor(ctx)
	case writeFile:
		return a.writeFile(w, s.file)
	case keep:
		if s.cert.Action == certificate.CheckDNS {
			a.checked[s.cert.Host] = true
		}
		return w.keeper.Do(ctx, s.cert)
	case startPod:
		return a.pod.start(w.settings.Analytics)
	case writeSite:
		return a.writeSite(ctx, w)
	case writeWalls:
		if _, err := m.write(wallsPath, w.walls, 0o644, root); err != nil {
			return err
		}
		if err := m.reloadWalls(ctx); err != nil {
			return err
		}
		w.state.Walls = digest(w.walls)
		return m.saveState(w.state)
	case writeResolvers:
		if _, err := m.write(resolversPath, w.resolvers, 0o644, root); err != nil {
			return err
		}
		if err := m.reloadResolver(ctx); err != nil {
			return err
		}
		w.state.Resolvers = digest(w.resolvers)
		return m.saveState(w.state)
	case applyConfig, beginAgain:
		// With the time as look has it: a Pod that starts from here on is newer.
		if err := m.saveState(w.state); err != nil {
			return err
		}
		if s.do == beginAgain {
			return a.pod.begin(ctx)
		}
		return a.pod.reconfigure(ctx)
	case openDoor, closeDoor:
		// The door itself has done it: it decides at each request.
		w.state.Account = s.do == openDoor
		return m.saveState(w.state)
	case firstAdmin:
		return a.createAdmin(ctx, w)
	}
	return fmt.Errorf("there is no step %q", s.do)
}

// mendDoor starts the door anew, with the key that there is.
func (a *agent) mendDoor(ctx context.Context) error {
	m := a.machine
	if err := m.restartDoor(ctx); err != nil {
		return fmt.Errorf("starting the door: %w", err)
	}
	key, err := m.read(doorKeyPath, root)
	if err != nil {
		return err
	}
	return door.Works(ctx, m.path(door.Socket), key, m.path(doorState), m.clock())
}

// writeFile writes a file that the settings ask for, with the directories.
func (a *agent) writeFile(w *world, f file) error {
	m := a.machine
	for _, d := range directories {
		if err := m.mkdir(d.path, d.mode, d.owner); err != nil {
			return err
		}
	}
	if f.path == configPath {
		// The API does not make its own database. Never one that is there.
		d, err := beneath.Open(m.path(filepath.Dir(databasePath)))
		if err != nil {
			return err
		}
		defer d.Close()
		if _, err := d.Create(filepath.Base(databasePath), 0o640, prose); err != nil {
			return err
		}
		// Before the file: a Pod that started in between reads it again.
		w.state.Config, w.state.ConfigAt = digest(f.data), m.clock()
		if err := m.saveState(w.state); err != nil {
			return err
		}
	}
	_, err := m.write(f.path, f.data, f.mode, f.owner)
	return err
}

// testConfig is a whole configuration of NGINX with a candidate in the place of
// the sites that it has.
const testConfig = `# Written by prose-firstboot, to try a candidate.
user www-data;
pid %[1]s/nginx-test.pid;
error_log stderr;
include /etc/nginx/modules-enabled/*.conf;
events {}
http {
	include /etc/nginx/mime.types;
	include /etc/nginx/conf.d/prose.conf;
	include /etc/nginx/sites-enabled/*;
	include %[2]s;
}
`

// writeSite gives NGINX its sites, once it has taken a candidate. A reload that
// it refuses leaves it with the sites that it had.
func (a *agent) writeSite(ctx context.Context, w *world) error {
	m := a.machine
	// Both stay until the next time, or the next boot.
	candidate := runDir + "/nginx-sites.conf"
	if _, err := m.write(candidate, w.site, 0o600, root); err != nil {
		return err
	}
	config := runDir + "/nginx-test.conf"
	if _, err := m.write(config, fmt.Appendf(nil, testConfig, m.path(runDir), m.path(candidate)), 0o600, root); err != nil {
		return err
	}
	if err := m.testNGINX(ctx, m.path(config)); err != nil {
		return fmt.Errorf("trying NGINX's sites: %w", err)
	}
	if _, err := m.write(sitePath, w.site, 0o600, root); err != nil {
		return err
	}
	if err := m.reloadNGINX(ctx); err != nil {
		return fmt.Errorf("having NGINX read its sites: %w", err)
	}
	w.state.Site, w.state.Allow = digest(w.site), w.allow
	return m.saveState(w.state)
}

// locked looks through NGINX whether strangers are kept out: nobody may create
// an account without the claim, and while there is none nobody sees the
// dashboard. A certificate makes the name public within seconds.
func (m *machine) locked(ctx context.Context, host string, account bool) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client := &http.Client{CheckRedirect: noRedirects, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", m.ports.HTTPS.String())
		},
		// Our own server, asked for its own words.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: host},
	}}
	type try struct{ method, path string }
	tries := []try{{http.MethodPut, "/api/v1/init/first-account"}}
	if !account {
		tries = append(tries, try{http.MethodGet, "/"})
	}
	for _, t := range tries {
		req, err := http.NewRequestWithContext(ctx, t.method, "https://"+host+t.path, http.NoBody)
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		res.Body.Close()
		// 503 is the door's while the Pod does not say whether there is an account.
		if res.StatusCode != http.StatusForbidden && res.StatusCode != http.StatusServiceUnavailable {
			return fmt.Errorf("%s %s is answered with status %d", t.method, t.path, res.StatusCode)
		}
	}
	return nil
}
