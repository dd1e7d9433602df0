package settings

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/prose-im/prose-image/cloudinit"
)

// An entry is one key that a place set.
type entry struct {
	key   *Key
	value node
	at    Place
}

// Load reads every source below root, "/" on a machine, as root. It takes away
// from everyone else what they could read of the settings' files. What is
// wrong is in the report; the settings have what is right.
func Load(root string) (Settings, Report) {
	var c collector
	c.files(root, nil)
	c.instance(root)
	return c.merge()
}

// A collector gathers entries in the order in which they count.
type collector struct {
	entries []entry
	report  Report
}

func (c *collector) problem(at Place, key, message, hint string) {
	c.report.Problems = append(c.report.Problems, Problem{at, key, message, hint})
}

// files reads the settings' directory in the order of its names. instead, when
// not nil, stands for the content of configure's file.
func (c *collector) files(root string, instead []byte) {
	dir := Place{Source: Files, Path: cloudinit.SettingsDir}
	if instead != nil {
		defer func() { // the entries are put in order below
			slices.SortStableFunc(c.entries, func(a, b entry) int { return strings.Compare(a.at.Path, b.at.Path) })
		}()
		c.document(configureFile, instead)
	}
	d, err := os.OpenFile(filepath.Join(root, dir.Path), os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		c.problem(dir, "", "cannot be read: "+bare(err).Error(), "run as root")
		return
	}
	defer d.Close()
	if what := c.tighten(d, dir.Path, 0o700); what != "" {
		c.problem(dir, "", what, "chown root:root "+dir.Path)
		return
	}
	names, err := d.Readdirnames(-1)
	if err != nil {
		c.problem(dir, "", "cannot be listed: "+bare(err).Error(), "")
		return
	}
	slices.Sort(names)
	for _, name := range names {
		path := filepath.Join(dir.Path, name)
		switch ext := filepath.Ext(name); {
		case strings.HasPrefix(name, "."), instead != nil && path == configureFile:
		case ext == ".yaml", ext == ".json":
			c.file(d, path)
		case ext == ".yml", ext == ".toml":
			c.problem(Place{Source: Files, Path: path}, "", "is not read: its name ends in "+ext, "name it .yaml or .json")
		}
	}
}

// file reads one file of the directory d.
func (c *collector) file(d *os.File, path string) {
	at := Place{Source: Files, Path: path}
	fd, err := unix.Openat(int(d.Fd()), filepath.Base(path), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		c.problem(at, "", "is a symbolic link", "put the file itself there")
		return
	}
	if err != nil {
		c.problem(at, "", "cannot be read: "+err.Error(), "")
		return
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if what := c.tighten(f, path, 0o600); what != "" {
		c.problem(at, "", what, "chown root:root "+path)
		return
	}
	text, err := io.ReadAll(io.LimitReader(f, cloudinit.MaxInput+1))
	switch {
	case err != nil:
		c.problem(at, "", "cannot be read: "+bare(err).Error(), "")
	case len(text) > cloudinit.MaxInput:
		c.problem(at, "", fmt.Sprintf("is larger than %d bytes", cloudinit.MaxInput), "")
	default:
		c.document(path, text)
	}
}

// tighten says why f must not be obeyed, or makes sure that only its owner,
// root, may use it.
func (c *collector) tighten(f *os.File, path string, most uint32) string {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "cannot be looked at: " + err.Error()
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind != unix.S_IFREG && kind != unix.S_IFDIR:
		return "is neither file nor directory"
	case kind == unix.S_IFDIR && most == 0o600:
		return "is a directory"
	case st.Uid != 0:
		return fmt.Sprintf("belongs to user %d, not to root", st.Uid)
	case st.Mode&0o7777&^most == 0:
		return ""
	}
	if err := unix.Fchmod(int(f.Fd()), st.Mode&most); err != nil {
		return "can be read by others: " + err.Error()
	}
	c.report.Tightened = append(c.report.Tightened, path)
	return ""
}

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

// unknown reports a key that is none. What does not look like a name is not
// shown: it may be a secret that lost its place.
func (c *collector) unknown(at Place, name string) {
	if !nameLike.MatchString(name) {
		c.problem(at, "", "has an unknown key", "write one `key: value` per line, a space after the colon")
		return
	}
	var names []string
	for _, k := range Keys {
		names = append(names, k.Name)
		for i := range len(k.Name) {
			if k.Name[i] == '.' && !slices.Contains(names, k.Name[:i]) {
				names = append(names, k.Name[:i])
			}
		}
	}
	hint := "the settings are listed in docs/settings.md"
	near := nearest(name, names)
	for _, k := range Keys {
		if near == "" && k.Name[strings.LastIndexByte(k.Name, '.')+1:] == name[strings.LastIndexByte(name, '.')+1:] {
			near = k.Name
		}
	}
	if near != "" {
		hint = fmt.Sprintf("did you mean %s?", near)
	}
	c.problem(at, name, "is no setting", hint)
}

// merge takes the first entry of each key, checks it, and looks at the others
// for conflicts.
func (c *collector) merge() (Settings, Report) {
	s := Defaults()
	r := &c.report
	r.From = map[string]Place{}
	first := map[*Key]entry{}
	for _, e := range c.entries {
		if used, ok := first[e.key]; ok {
			if !used.value.same(e.value) {
				r.Conflicts = append(r.Conflicts, Conflict{e.key.Name, used.at, e.at})
			}
			continue
		}
		first[e.key] = e
		if f := e.check(&s); f != nil {
			c.problem(e.at, e.key.Name, f.message, f.hint)
			continue
		}
		r.From[e.key.Name] = e.at
	}
	for i := range Keys {
		k := &Keys[i]
		if at, set := r.From[k.Name]; set && k.Needs != "" {
			// A key that is there but wrong has its own line already.
			if _, there := first[Find(k.Needs)]; !there {
				c.problem(at, k.Name, "is set, but "+k.Needs+" is not", "set both or neither")
			}
		}
	}
	if s.Apex.Chain != "" && s.Apex.Key.IsSet() {
		if f := checkPair(&s); f != nil {
			c.problem(r.From["apex.chain"], "apex.chain", f.message, f.hint)
			c.withdraw(&s, "apex.chain")
		}
	}
	if at, set := r.From["apex.method"]; set && s.Apex.Method == OwnPair {
		if _, there := first[Find("apex.chain")]; !there {
			c.problem(at, "apex.method", "is own, but there is no apex.chain", "set apex.chain and apex.key")
		}
	}
	// What lacks its other half is not acted on.
	for changed := true; changed; {
		changed = false
		for i := range Keys {
			k := &Keys[i]
			_, set := r.From[k.Name]
			if _, has := r.From[k.Needs]; set && k.Needs != "" && !has {
				c.withdraw(&s, k.Name)
				changed = true
			}
		}
	}
	order := func(p Problem) int {
		return slices.Index([]Sources{Files, CloudConfig, Metadata, CommandLine}, p.At.Source)
	}
	slices.SortStableFunc(r.Problems, func(a, b Problem) int {
		if d := order(a) - order(b); d != 0 {
			return d
		}
		if d := strings.Compare(a.At.Path, b.At.Path); d != 0 {
			return d
		}
		return a.At.Line - b.At.Line
	})
	return s, *r
}

// withdraw gives a key its default again.
func (c *collector) withdraw(s *Settings, name string) {
	Find(name).reset(s)
	delete(c.report.From, name)
}

// check puts the entry's value into s, or says what is wrong with it.
func (e *entry) check(s *Settings) *fault {
	want := e.key.Kind
	if want == PEM {
		want = Text
	}
	switch got := e.value.form; {
	case want == List && got == list:
		var items []string
		for _, m := range e.value.members {
			if m.value.form != string(Text) {
				return wrong("put each of them in quotes", "must be a list of texts, and has %s in it", article(m.value.form))
			}
			items = append(items, m.value.text)
		}
		return e.key.set(s, strings.Join(items, ", "))
	case want == List && got == string(Text):
		return e.key.set(s, e.value.text)
	case got == string(want):
		return e.key.set(s, e.value.text)
	case got == nothing:
		return wrong("write a value, or leave the key out", "is empty")
	case want == Text && (got == string(Number) || got == string(Bool) || got == "date"):
		return wrong("put it in quotes", "must be text, and this is %s", article(got))
	case want == Bool:
		return wrong("write true or false, without quotes", "must be true or false, and this is %s", article(got))
	case want == Number:
		return wrong("write digits, without quotes", "must be a number, and this is %s", article(got))
	default:
		return wrong("", "must be %s, and this is %s", article(string(want)), article(got))
	}
}

// same says whether two values mean the same.
func (n node) same(o node) bool {
	return n.form == o.form && n.text == o.text && slices.EqualFunc(n.members, o.members, func(a, b member) bool {
		return a.name == b.name && a.value.same(b.value)
	})
}

func article(form string) string {
	switch form {
	case string(Text), string(Bool), nothing:
		return form
	}
	return "a " + form
}

func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// nearest finds what was probably meant: the name at the smallest edit
// distance, when that is at most a third of the word and one more.
func nearest(v string, names []string) string {
	best, most := "", len(v)/3+2
	for _, name := range names {
		if d := distance(v, name); d < most {
			best, most = name, d
		}
	}
	return best
}

// distance is the Levenshtein distance of two short strings, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
