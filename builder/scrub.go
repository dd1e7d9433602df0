package builder

import (
	"context"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
)

// scrub takes out what must be unique to a machine or secret, and what is only
// left over from making the image.
var scrub = kind{
	name:        "scrub",
	revision:    1,
	perPlatform: true,
	plan: func(in *Inputs, p *Plan, _ string) Layer {
		var rules []string
		for _, r := range scrubbed {
			rules = append(rules, r.pattern)
		}
		return Layer{Kind: "scrub", ReadsAll: true, Inputs: []Input{
			{Name: "rules", Value: "a table of paths", Sum: strings.Join(rules, "\n")},
			epoch(p),
		}}
	},
	make: func(ctx context.Context, m *making) error {
		deletions := scrubPaths(m.below)
		w, err := m.create(deletions)
		if err != nil {
			return err
		}
		// An empty file gets a new id without systemd taking this for a first
		// boot, which would run presets over our units; see machine-id(5).
		err = w.Write(layer.Entry{Path: "etc/machine-id", Mode: 0o444, ModTime: m.plan.Epoch}, nil)
		if err != nil {
			return err
		}
		// systemd-update-done.service(8): these stamps, not older than /usr, say
		// that ldconfig, sysusers, hwdb and the journal catalog are up to date,
		// as they are in an image that was made whole.
		const stamp = "# This file was created by systemd-update-done. The timestamp below is the\n# modification time of /usr/ for which the most recent updates of this directory\n# have been applied.\nTIMESTAMP_NSEC="
		usr, _ := m.below.Lookup("usr")
		text := stamp + strconv.FormatInt(usr.ModTime.UnixNano(), 10) + "\n"
		for _, dir := range []string{"etc", "var"} {
			err := w.Write(layer.Entry{Path: dir + "/.updated", Mode: 0o644, ModTime: usr.ModTime, Size: int64(len(text))}, strings.NewReader(text))
			if err != nil {
				return err
			}
		}
		return nil
	},
}

// A rule names paths that no image keeps, and why.
type rule struct {
	pattern string // of path.Match; "/**" at the end means all below, not the directory
	reason  string
}

var scrubbed = []rule{
	{"etc/ssh/ssh_host_*", "host keys must be unique; cloud-init makes them"},
	{"var/lib/dbus/machine-id", "the id is /etc/machine-id's"},
	{"var/lib/systemd/random-seed", "a seed must not be shared"},
	{"var/lib/systemd/credential.secret", "a secret must not be shared"},
	{"var/lib/systemd/catalog/database", "made again when missing, differs by build"},
	{"var/lib/systemd/timers/**", "when timers last ran belongs to a machine"},
	{"var/lib/docker/engine-id", "the engine's id must be unique, its network pool derives from it"},
	{"etc/docker/key.json", "the engine's key must be unique"},
	{"var/lib/cloud/**", "cloud-init's state belongs to an instance"},
	{"var/lib/dhcp/**", "leases belong to a machine"},
	{"var/lib/apt/lists/**", "indexes are stale at the first boot"},
	{"var/lib/apt/extended_states.*", "apt's backup"},
	{"var/cache/apt/**", "package files and indexes"},
	{"var/cache/debconf/*-old", "debconf's backup"},
	{"var/cache/ldconfig/**", "differs by build, made again when needed"},
	{"var/cache/man/**", "made again when needed"},
	{"var/lib/dpkg/*-old", "dpkg's backup"},
	{"etc/passwd-", "a backup that may hold what was removed"},
	{"etc/group-", "a backup that may hold what was removed"},
	{"etc/shadow-", "a backup that may hold what was removed"},
	{"etc/gshadow-", "a backup that may hold what was removed"},
	{"etc/subuid-", "a backup that may hold what was removed"},
	{"etc/subgid-", "a backup that may hold what was removed"},
	{"etc/apt/apt.conf.d/99mmdebstrap", "settings of the bake"},
	{"etc/dpkg/dpkg.cfg.d/99mmdebstrap", "settings of the bake"},
	{"etc/.pwd.lock", "a lock of the bake"},
	{"etc/.resolv.conf.systemd-resolved.bak", "the resolver of the machine that baked"},
	{"var/lib/ucf/*.[0-9]", "ucf's backups"},
	{"root/.bash_history", "histories"},
	{"root/.wget-hsts", "histories"},
	{"root/.cache/**", "caches"},
	{"var/log/**", "logs of the bake"},
	{"var/tmp/**", "temporary files"},
	{"boot/grub/grubenv", "GRUB's environment belongs to a machine"},
}

// keptLogs are directories that packages own below /var/log and that their
// services expect.
var keptLogs = []string{"var/log/journal", "var/log/nginx", "var/log/apt", "var/log/private", "var/log/unattended-upgrades"}

// scrubs says whether no image keeps the path.
func scrubs(p string, kind layer.Type) bool {
	if kind == layer.Dir && slices.Contains(keptLogs, p) {
		return false
	}
	return slices.ContainsFunc(scrubbed, func(r rule) bool {
		if dir, below := strings.CutSuffix(r.pattern, "/**"); below {
			return strings.HasPrefix(p, dir+"/")
		}
		ok, _ := path.Match(r.pattern, p)
		return ok
	})
}

func scrubPaths(t *tree.Tree) []string {
	var found []string
	_ = t.Walk(func(p string, n *tree.Inode) error {
		// Deleting a directory deletes what is in it.
		if scrubs(p, n.Type) && !slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(p, f+"/") }) {
			found = append(found, p)
		}
		return nil
	})
	return found
}
