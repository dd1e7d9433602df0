package firstboot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/prose-im/prose-image/firstboot/command"
	"github.com/prose-im/prose-image/firstboot/redact"
	"github.com/prose-im/prose-image/firstboot/settings"
	"github.com/prose-im/prose-image/firstboot/status"
)

const (
	// supportLimit is for packing all of it.
	supportLimit = 5 * time.Minute
	// supportMost is how much of one log is packed, in bytes.
	supportMost = 1 << 20
)

// support packs what helps others to help.
func support(ctx context.Context, c *call) int {
	path := ""
	if len(c.args) > 1 && c.args[0] == "-o" {
		path, c.args = c.args[1], c.args[2:]
	}
	if code, ok := c.noMore("support"); !ok {
		return code
	}
	if os.Geteuid() != 0 {
		return c.fail(1, "sudo prose-firstboot support", "only root can read what belongs in it")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, supportLimit, fmt.Errorf("it takes at most %v", supportLimit))
	defer cancel()
	m := c.machine
	now := m.clock().UTC()
	s, _ := m.loadState() // a part of its own says what is wrong with it
	parts := m.parts(ctx)
	name := "prose-support-" + or(s.Domain, "unconfigured") + "-" + now.Format("20060102T150405Z")
	if path == "" {
		path = name + ".tar.gz"
	}
	if err := pack(ctx, path, name, parts); err != nil {
		return c.fail(1, "prose-firstboot support -o FILE", "packing: %w", err)
	}
	fmt.Fprintf(c.stdout, "%s has:\n\n", path)
	for _, p := range parts {
		fmt.Fprintf(c.stdout, "  %-28s %s\n", p.name, p.doc)
	}
	fmt.Fprintf(c.stdout, "\nSecrets that the machine knows, private keys, tokens and cookies are taken out; names, addresses and what people did on\nthe machine may be in its logs. Look at it before you send it to anybody:\n\n  tar -xOzf %s | less\n", path)
	return 0
}

// A part is one file of the bundle.
type part struct{ name, doc, text string }

// parts gathers all. What cannot be had says why in its place.
func (m *machine) parts(ctx context.Context) []part {
	set, report := settings.Load(or(m.at, "/"))
	secrets := settings.Secrets(&set)
	to := recipientsKept(m)
	secrets = append(secrets, to.Mail.Password, to.Webhook.URL)
	hide := redact.New(secrets...)
	var out []part
	add := func(name, doc, text string, err error) {
		if err != nil {
			text += "error: " + err.Error() + "\n"
		}
		out = append(out, part{name, doc, hide.Text(text)})
	}
	run := func(args ...string) (string, error) { return command.Output(ctx, supportMost, args...) }

	b, err := os.ReadFile(m.path(statusPath))
	text := ""
	if err == nil {
		var s status.Status
		if s, err = status.Decode(b); err == nil {
			text = status.Text(s, status.Layout{}) + "\n" + status.WholeZone(s)
		}
	}
	add("status.txt", "the status", text, err)
	add("status.json", "the same for programs", string(b), nil)
	text = ""
	for _, l := range settings.Shown(&set, report) {
		text += fmt.Sprintf("%s: %s (%s)\n", l.Key, strings.ReplaceAll(l.Value, "\n", "\n\t"), or(l.From, "default"))
	}
	add("settings.txt", "settings and where they come from", text+report.Draw(), nil)
	text, err = m.versions(ctx, run)
	add("versions.txt", "versions of agent, system and engine", text, err)
	text, err = run("df", "-h", "--output=source,fstype,size,used,avail,pcent,itotal,iused,ipcent,target")
	add("df.txt", "disks", text, err)
	b, err = m.read(answersPath, root)
	add("dns.json", "what DNS said", string(b), err)
	text, err = m.records()
	add("certificates.json", "what is remembered of certificates, without keys", text, err)
	text, err = run("nginx", "-T")
	add("nginx.txt", "NGINX's configuration", text, err)
	text, err = run("journalctl", "--no-pager", "-o", "short-iso", "-n", "2000", "-u", "prose*", "-u", "nginx", "-u", "docker", "-u", "cloud-init*")
	add("journal.txt", "the end of the units' journal", text, err)
	for _, p := range m.containers(ctx) {
		add(p.name, p.doc, p.text, nil)
	}
	return out
}

// versions are of everything that one asks for first.
func (m *machine) versions(ctx context.Context, run func(...string) (string, error)) (string, error) {
	text := fmt.Sprintf("prose-firstboot %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	v, err := m.engine.Version(ctx)
	text += fmt.Sprintf("engine %s, API %s\n", v.Version, v.APIVersion)
	kernel, err2 := run("uname", "-a")
	text += kernel
	release, err3 := os.ReadFile(m.path("/etc/os-release"))
	return text + string(release), errors.Join(err, err2, err3)
}

// records are what is remembered of each name, without the keys of orders.
func (m *machine) records() (string, error) {
	files, err := filepath.Glob(filepath.Join(m.paths.State, "names", "*.json"))
	var b strings.Builder
	for _, f := range files {
		text, e := os.ReadFile(f)
		var r map[string]any
		if e == nil {
			e = json.Unmarshal(text, &r)
		}
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		if order, ok := r["order"].(map[string]any); ok && order["key"] != nil {
			order["key"] = redact.Hidden
		}
		text, e = json.MarshalIndent(r, "", "  ")
		err = errors.Join(err, e)
		b.Write(append(text, '\n'))
	}
	return b.String(), err
}

// containers are the list, and the end of each one's log.
func (m *machine) containers(ctx context.Context) []part {
	all, err := m.engine.Containers(ctx)
	list := part{name: "containers.txt", doc: "containers and how they are"}
	if err != nil {
		list.text = "error: " + err.Error() + "\n"
	}
	var logs []part
	for _, l := range all {
		id := l.ID
		c, err := m.engine.Inspect(ctx, id)
		if err != nil {
			list.text += fmt.Sprintf("%s error: %v\n", id, err)
			continue
		}
		name := strings.TrimPrefix(c.Name, "/")
		list.text += fmt.Sprintf("%s: %s, started %s, exit code %d, restarts %d, image %s %s\n",
			name, c.State.Status, c.State.StartedAt.UTC().Format(time.RFC3339), c.State.ExitCode, c.RestartCount, c.Image, c.State.Error)
		text, err := m.engine.Logs(ctx, id, 500)
		if err != nil {
			text += "error: " + err.Error() + "\n"
		}
		logs = append(logs, part{"logs/" + filepath.Base(name) + ".txt", "the end of its log", text})
	}
	return append([]part{list}, logs...)
}

// pack has tar write parts below a directory name. A file that is there is left
// alone, and so is what a link leads to. The libraries for it would cost the
// agent a tenth of a megabyte.
func pack(ctx context.Context, path, name string, parts []part) (err error) {
	dir, err := os.MkdirTemp("", "prose-support-") // 0700
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, p := range parts {
		file := filepath.Join(dir, name, p.name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(p.text), 0o600); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := command.Run(ctx, "tar", "--create", "--gzip", "--force-local", "--owner=root:0", "--group=root:0", "--file="+path, "--directory="+dir, name); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return f.Sync()
}
