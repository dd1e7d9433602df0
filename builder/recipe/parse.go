package recipe

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Load reads and checks the recipe at path. What is wrong with its content
// comes as an [Invalid] that holds every problem; that there is none to be read
// is an [UnreadableError].
func Load(path string) (*Recipe, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &UnreadableError{path, err}
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, &UnreadableError{path, err}
	}
	if len(src) > maxSize {
		return nil, &UnreadableError{path, fmt.Errorf("%s has more than %d KiB: it is something else", path, maxSize>>10)}
	}
	return Read(path, src)
}

// maxSize is far above what people write, in bytes.
const maxSize = 1 << 20

// Read checks a recipe that lies in memory as [Load] does one that lies at path,
// which needs not exist: it names the recipe in messages, and relative paths
// start in its directory.
func Read(path string, src []byte) (*Recipe, error) {
	r, problems := Parse(src)
	if problems != nil {
		return nil, &Invalid{File: path, Source: src, Problems: problems}
	}
	r.Dir = filepath.Dir(path)
	return r, nil
}

// Parse reads a recipe and returns it, or everything that is wrong with it in
// the order of the source.
func Parse(src []byte) (*Recipe, []Diagnostic) {
	settings, problems, broken := document(withoutMark(src))
	if broken != nil {
		return nil, []Diagnostic{*broken}
	}
	r := defaults()
	report := func(at place, p *problem) {
		if p != nil {
			problems = append(problems, Diagnostic{Line: at.line, Column: at.column, Length: at.length, Message: p.message, Hint: p.hint})
		}
	}
	named := map[string]bool{} // tables that a problem has named: what lies in them is not named again
	for _, s := range settings {
		if isUnder(s.name, named) {
			continue
		}
		key, member := find(s.name)
		table := s.form == "table" || s.form == listOfTables
		switch {
		case key == nil && isPrefix(s.name):
			if s.form != "table" {
				report(s.key, notTable(s))
				named[join(s.name)] = true
			}
		case key == nil:
			report(s.key, unknownKey(s))
			named[join(s.name)] = table
		case key.Kind == Table && member == "" && s.form == "table":
		default:
			set(r, key, member, s, report)
			named[join(s.name)] = table
		}
	}
	if problems != nil {
		slices.SortStableFunc(problems, func(a, b Diagnostic) int {
			if a.Line != b.Line {
				return a.Line - b.Line
			}
			return a.Column - b.Column
		})
		return nil, problems
	}
	return r, nil
}

// defaults is the recipe of the empty file.
func defaults() *Recipe {
	r := &Recipe{Images: map[string]string{}, Mirror: map[string]string{}}
	for i := range Keys {
		k := &Keys[i]
		if k.Default == "" {
			continue
		}
		settings, twice, broken := document([]byte(lastPart(k.Name) + " = " + k.Default))
		if broken != nil || twice != nil || len(settings) != 1 {
			panic("BUG: default of " + k.Name + " is no TOML value")
		}
		set(r, k, "", settings[0], func(_ place, p *problem) {
			if p != nil {
				panic("BUG: default of " + k.Name + ": " + p.message)
			}
		})
	}
	return r
}

// set puts the value of s where key says, and reports what is wrong with it.
func set(r *Recipe, key *Key, member string, s setting, report func(place, *problem)) {
	switch field := key.field(r).(type) {
	case *string:
		v, ok := s.value.(string)
		if !ok || s.form != "string" {
			report(s.at, wrongForm(key, s.form))
			return
		}
		report(s.at, checkValue(key, v))
		*field = v
	case *[]string:
		list, ok := s.value.([]element)
		if !ok {
			if s.form != "list" {
				report(s.at, wrongForm(key, s.form))
				return
			}
		}
		out := []string{}
		for _, e := range list {
			v, ok := e.value.(string)
			if !ok || e.form != "string" {
				report(e.at, wrongElement(key, e.form))
				continue
			}
			p := checkValue(key, v)
			if p == nil && slices.Contains(out, v) {
				p = comesTwice(v)
			}
			report(e.at, p)
			out = append(out, v)
		}
		if len(out) == 0 && len(list) == 0 && mustHaveOne(key) {
			report(s.at, emptyList(key))
		}
		*field = out
	case *map[string]string:
		v, ok := s.value.(string)
		if member == "" {
			report(s.at, wrongForm(key, s.form))
			return
		}
		if !ok || s.form != "string" {
			report(s.at, wrongMember(key, member, s.form))
			return
		}
		report(s.at, checkValue(key, v))
		(*field)[member] = v
	case *int64:
		v, ok := s.value.(string)
		if !ok || s.form != "string" {
			report(s.at, wrongForm(key, s.form))
			return
		}
		n, p := parseBytes(v)
		report(s.at, p)
		*field = n
	}
}

func mustHaveOne(k *Key) bool { return k.Name == "platforms" || k.Name == "formats" }

func checkValue(k *Key, v string) *problem {
	if k.OneOf != nil && !slices.Contains(k.OneOf, v) {
		return notOneOf(k, v)
	}
	if k.check != nil {
		return k.check(v)
	}
	return nil
}

// units are the size suffixes of IEC 80000-13.
var units = []struct {
	name string
	n    int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"", 1}}

// ParseSize reads a number of bytes as recipes say it, such as "512MiB".
func ParseSize(s string) (int64, error) {
	n, p := parseBytes(s)
	if p != nil {
		return 0, fmt.Errorf("%s: %s", p.message, p.hint)
	}
	return n, nil
}

func parseBytes(s string) (int64, *problem) {
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > (1<<62)/u.n {
			return 0, noSize(s)
		}
		return n * u.n, nil
	}
	return 0, noSize(s)
}

func isPrefix(name []string) bool {
	prefix := strings.Join(name, ".") + "."
	return slices.ContainsFunc(Keys, func(k Key) bool { return strings.HasPrefix(k.Name, prefix) })
}

// isUnder says whether a name lies in a table of the set.
func isUnder(name []string, set map[string]bool) bool {
	for n := range name {
		if n > 0 && set[join(name[:n])] {
			return true
		}
	}
	return false
}

// join makes one string of a name. Parts may hold dots, but no zero.
func join(name []string) string { return strings.Join(name, "\x00") }

func lastPart(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }
