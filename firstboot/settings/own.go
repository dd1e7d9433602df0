package settings

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// readOwn is what an earlier Configure wrote, by key; nothing when it did not.
func readOwn(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, bare(err)
	}
	var c collector
	c.document(configureFile, text)
	own := map[string]string{}
	for _, e := range c.entries {
		own[e.key.Name] = e.value.text // it writes lists as texts
	}
	if len(c.report.Problems) > 0 {
		return nil, errors.New(c.report.Problems[0].Message)
	}
	return own, nil
}

// judge says what is wrong with text as configure's file: what the owner can
// mend by saying it better, and what stands in other places.
func judge(root string, text []byte, said map[string]string, known string) (ours, elsewhere []Problem) {
	var c collector
	c.files(root, text)
	c.instance(root)
	s, r := c.merge()
	for _, p := range r.Problems {
		if p.At.Path == configureFile {
			p.At.Line = 0
			p.At.Path = "configure"
			ours = append(ours, p)
		} else {
			elsewhere = append(elsewhere, p)
		}
	}
	for _, x := range r.Conflicts {
		if _, ok := said[x.Key]; ok && x.Ignored.Path == configureFile {
			ours = append(ours, Problem{At: x.Used, Key: x.Key, Message: "is set here already, and this counts first", Hint: "change it here"})
		}
	}
	if _, ok := said["domain"]; ok && known != "" && s.Domain != known {
		ours = append(ours, Problem{At: Place{Source: Files, Path: "configure"}, Key: "domain",
			Message: fmt.Sprintf("cannot change: this machine has been set up for %s", known),
			Hint:    "start another machine for another domain"})
	}
	return ours, elsewhere
}

func draw(problems []Problem) string {
	r := Report{Problems: problems}
	return r.Draw()
}

// document is a file of settings in the order of the table. Strings are
// written as JSON writes them, which YAML reads.
func document(values map[string]string) []byte {
	var b strings.Builder
	b.WriteString("# Written by prose-firstboot configure.\n")
	var at []string // the tables that are open
	for i := range Keys {
		k := &Keys[i]
		v, ok := values[k.Name]
		if !ok {
			continue
		}
		parts := strings.Split(k.Name, ".")
		tables := parts[:len(parts)-1]
		same := 0
		for same < len(at) && same < len(tables) && at[same] == tables[same] {
			same++
		}
		for depth := same; depth < len(tables); depth++ {
			fmt.Fprintf(&b, "%s%s:\n", strings.Repeat("  ", depth), tables[depth])
		}
		at = tables
		if k.Kind == Text || k.Kind == PEM || k.Kind == List || !plain(k, v) {
			v = quoteYAML(v)
		}
		fmt.Fprintf(&b, "%s%s: %s\n", strings.Repeat("  ", len(tables)), parts[len(parts)-1], v)
	}
	return []byte(b.String())
}

// plain reports whether v is a number or boolean that needs no quotes; what is
// neither is refused when the document is read.
func plain(k *Key, v string) bool {
	if k.Kind == Bool {
		return v == "true" || v == "false"
	}
	_, err := strconv.ParseUint(v, 10, 32)
	return err == nil && (v == "0" || v[0] != '0')
}

// quoteYAML writes s in double quotes (YAML 1.2 section 5.7).
func quoteYAML(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r >= 0xfffe:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// write replaces a file in the settings' directory, which it makes when it is
// not there. After it returns nil the file outlasts a power cut.
func write(dir, name string, text []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	var c collector
	if what := c.tighten(d, dir, 0o700); what != "" {
		return errors.New("the directory " + what)
	}
	f, err := os.CreateTemp(dir, "."+name+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // of no effect once it is renamed
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err == nil {
		err = d.Sync()
	}
	return err
}
