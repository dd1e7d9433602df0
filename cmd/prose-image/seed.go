package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/prose-im/prose-image/cloudinit"
	"github.com/prose-im/prose-image/cloudinit/seed"
)

var seedVerb = verb{
	name: "seed", args: "",
	short: "make a drive with user-data for a machine without a cloud",
	long: `
Writes a NoCloud seed: a small drive that tells a new machine its domain.
Proxmox, libvirt and QEMU attach it; on a cloud, paste its user-data into the
form instead (--print shows it).
`,
	flags: func(f *pflag.FlagSet) func(context.Context, *term, []string) error {
		out := f.StringP("out", "o", "seed.iso", "file of the seed")
		domain := f.String("domain", "", "domain of the Pod, such as example.org")
		keys := f.StringArray("ssh-key", nil, "file with SSH public keys that may log in; may be repeated")
		show := f.Bool("print", false, "print the user-data and write no file")
		return func(_ context.Context, t *term, _ []string) error {
			if *domain == "" {
				return &usageError{"seed", errors.New("--domain is missing")}
			}
			first := cloudinit.FirstBoot{Domain: *domain}
			for _, name := range *keys {
				b, err := os.ReadFile(name)
				if err != nil {
					return &inputError{fmt.Errorf("reading SSH keys: %w", err), "give a file of public keys; ssh-keygen makes a pair"}
				}
				for line := range strings.Lines(string(b)) {
					if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
						first.AuthorizedKeys = append(first.AuthorizedKeys, line)
					}
				}
			}
			user, err := first.UserData()
			if err != nil {
				return &inputError{err: err}
			}
			if *show {
				t.printf("%s", user)
				return nil
			}
			meta, err := first.MetaData()
			if err != nil {
				return &inputError{err: err}
			}
			if err := seed.Write(*out, seed.Seed{UserData: user, MetaData: meta}); err != nil {
				return err
			}
			t.printf("%s\n", *out)
			return nil
		}
	},
}
