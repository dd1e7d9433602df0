package builder

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/overlays"
)

// accounts adds the image's own users and groups to those that Debian's
// packages made.
var accounts = kind{
	name:     "accounts",
	revision: 1,
	plan: func(in *Inputs, p *Plan, _ string) Layer {
		l := Layer{Kind: "accounts", Inputs: []Input{epoch(p)}}
		for _, a := range overlays.Accounts() {
			l.Inputs = append(l.Inputs, text("account", fmt.Sprintf("%s %d", a.Name, a.ID)))
		}
		for _, f := range accountFiles {
			l.Reads = append(l.Reads, f.path)
		}
		return l
	},
	make: func(ctx context.Context, m *making) error {
		w, err := m.create(nil)
		if err != nil {
			return err
		}
		for _, f := range accountFiles {
			old, err := m.below.ReadFile(f.path)
			if err != nil {
				return err
			}
			content, err := addAccounts(old, f, overlays.Accounts())
			if err != nil {
				return err
			}
			// Owner and mode stay as the packages made them.
			below, _ := m.below.Lookup(f.path)
			err = w.Write(layer.Entry{
				Path: f.path, Mode: below.Mode, UID: below.UID, GID: below.GID, ModTime: m.plan.Epoch, Size: int64(len(content)),
			}, bytes.NewReader(content))
			if err != nil {
				return err
			}
		}
		return nil
	},
}

// An accountFile is one of the files of passwd(5), group(5), shadow(5) and
// gshadow(5), and the line that an account has in it.
type accountFile struct {
	path string
	id   bool // the third field is the account's number
	line func(overlays.Account) string
}

var accountFiles = []accountFile{
	{"etc/passwd", true, func(a overlays.Account) string {
		return fmt.Sprintf("%s:x:%d:%d:%s:/nonexistent:/usr/sbin/nologin", a.Name, a.ID, a.ID, a.Gecos)
	}},
	{"etc/group", true, func(a overlays.Account) string { return fmt.Sprintf("%s:x:%d:", a.Name, a.ID) }},
	// No date of the last change: it would tell when the image was made, and
	// "0" would ask for a new password.
	{"etc/shadow", false, func(a overlays.Account) string { return a.Name + ":!*:::::::" }},
	{"etc/gshadow", false, func(a overlays.Account) string { return a.Name + ":!::" }},
}

func addAccounts(old []byte, f accountFile, list []overlays.Account) ([]byte, error) {
	out := bytes.Clone(old)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	for _, a := range list {
		for line := range strings.Lines(string(out)) {
			fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
			if fields[0] == a.Name {
				return nil, fmt.Errorf("%s has %s already", f.path, a.Name)
			}
			if f.id && len(fields) > 2 && fields[2] == fmt.Sprint(a.ID) {
				return nil, fmt.Errorf("%s gives %d to %s, and %s needs it", f.path, a.ID, fields[0], a.Name)
			}
		}
		out = append(out, f.line(a)+"\n"...)
	}
	return out, nil
}
