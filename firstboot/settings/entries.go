package settings

import (
	"errors"
	"io/fs"
	"regexp"
	"slices"

	"github.com/prose-im/prose-image/cloudinit"
)

// document reads the text of a file of settings.
func (c *collector) document(path string, text []byte) {
	at := Place{Source: Files, Path: path}
	n, err := parse(path, text)
	if err != nil {
		c.syntax(at, err)
		return
	}
	c.table(at, n, "")
}

func (c *collector) syntax(at Place, err error) {
	var se *syntaxError
	if !errors.As(err, &se) {
		se = &syntaxError{what: err.Error()}
	}
	if at.Source == Files {
		at.Line = se.line
	}
	c.problem(at, "", se.what, se.hint)
}

// instance reads what cloud-init and the kernel left.
func (c *collector) instance(root string) {
	in, err := cloudinit.ReadInstance(root)
	if err != nil {
		c.problem(Place{Source: CloudConfig, Path: cloudinit.InstanceDataFile}, "", err.Error(), "")
	}
	if len(in.Combined.Text) > 0 {
		prose, err := cloudinit.CloudConfigProse(in.Combined.Text)
		at := Place{Source: CloudConfig, Path: in.Combined.Path}
		if err != nil {
			c.problem(at, "", err.Error(), "")
		} else if prose != nil {
			n, err := parseJSON(prose)
			if err != nil {
				c.syntax(at, err)
			} else {
				c.table(at, n, "")
			}
		}
	}
	for _, doc := range in.Configs {
		at := Place{Source: CloudConfig, Path: doc.Path}
		n, ok, err := proseOf(doc.Text)
		if err != nil {
			c.syntax(at, err)
		} else if ok {
			c.table(at, n, "")
		}
	}
	for _, one := range []struct {
		at    Place
		value string
	}{
		{Place{Source: Metadata, Path: cloudinit.InstanceDataFile}, in.MetaDomain},
		{Place{Source: CommandLine, Path: cloudinit.CommandLineFile}, in.CommandLineDomain},
	} {
		if one.value != "" {
			c.entries = append(c.entries, entry{Find("domain"), node{form: string(Text), text: one.value}, one.at})
		}
	}
}

// table gathers the keys of n, which lies at prefix.
func (c *collector) table(at Place, n node, prefix string) {
	if at.Source == Files {
		at.Line = n.line
	}
	if n.form == nothing && prefix != "" {
		return // a table whose lines are all commented out
	}
	if n.form != table {
		c.problem(at, prefix, "is "+article(n.form)+", not a table of keys", "write lines such as `domain: example.org`")
		return
	}
	for _, m := range n.members {
		name := m.name
		if prefix != "" {
			name = prefix + "." + name
		}
		if at.Source == Files {
			at.Line = m.line
		}
		key := Find(name)
		switch {
		case key == nil && isTable(name):
			c.table(at, m.value, name)
		case key == nil:
			c.unknown(at, name)
		case key.Sources&at.Source == 0:
			c.problem(at, name, "may not be set here", "it may come from: "+key.Sources.String())
		default:
			twice := slices.ContainsFunc(c.entries, func(e entry) bool {
				return e.key == key && e.at.Source == at.Source && e.at.Path == at.Path
			})
			if twice {
				c.problem(at, name, "comes twice", "leave one")
				continue
			}
			c.entries = append(c.entries, entry{key, m.value, at})
		}
	}
}

var nameLike = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
