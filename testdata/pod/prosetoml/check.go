package prosetoml

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Kind is the type that a key's value must have.
type Kind uint8

// The kinds of values.
const (
	Any      Kind = iota // a subtree that is not looked into
	Text                 // string of Min to Max characters
	Port                 // 16-bit integer
	Count                // integer, at least Min
	Flag                 // boolean
	Domain               // DNS name that is also the domain of a JID
	Addr4                // IPv4 address
	Addr6                // IPv6 address
	Addr                 // IP address
	Duration             // ISO 8601 duration, or infinite
	URL                  // absolute URL without query and fragment
	Enum                 // one of OneOf
	List                 // list of strings
	Empty                // table without keys
)

// A Key is one key of a schema. A level named * matches any name.
type Key struct {
	Path     string
	Kind     Kind
	Min, Max int      // of Text (characters) and Count; Max 0 is no limit
	OneOf    []string // of Enum
}

// Check holds d against a schema. Keys that the schema does not know are errors
// at and below the tables named in strict; "" is the root.
func (d *Document) Check(schema []Key, strict ...string) error {
	return d.checkTable(schema, strict, nil, d.values)
}

func (d *Document) checkTable(schema []Key, strict, at []string, table map[string]any) error {
	names := make([]string, 0, len(table))
	for name := range table {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		path := append(at[:len(at):len(at)], name)
		key, inner := lookup(schema, path)
		var err error
		switch child, isTable := table[name].(map[string]any); {
		case key == nil && !inner:
			if covered(strict, at) {
				err = d.errorf(path, "unknown field: found `%s`, expected %s", name, expected(schema, at))
			}
		case key == nil && isTable:
			err = d.checkTable(schema, strict, path, child)
		case key == nil:
			err = d.errorf(path, "invalid type: found %s, expected a table", describe(table[name]))
		default:
			if what := key.fault(table[name]); what != "" {
				err = d.errorf(path, "%s", what)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *Document) errorf(path []string, format string, args ...any) error {
	key := strings.Join(path, ".")
	source := d.sources[key]
	for leaf, s := range d.sources { // a table is named by its first leaf
		if source == "" && strings.HasPrefix(leaf, key+".") {
			source = s
		}
	}
	return fmt.Errorf("%s for key %q in %s", fmt.Sprintf(format, args...), "default."+key, source)
}

func covered(strict, at []string) bool {
	path := strings.Join(at, ".")
	for _, s := range strict {
		if s == "" || path == s || strings.HasPrefix(path, s+".") {
			return true
		}
	}
	return false
}

// lookup finds the key that covers path, and whether keys lie below path.
func lookup(schema []Key, path []string) (key *Key, inner bool) {
	for i := range schema {
		want := strings.Split(schema[i].Path, ".")
		n := min(len(want), len(path))
		same := true
		for j := range n {
			same = same && (want[j] == "*" || want[j] == path[j])
		}
		switch {
		case !same:
		case len(want) == len(path):
			key = &schema[i]
		case len(want) > len(path):
			inner = true
		case schema[i].Kind == Any:
			key = &schema[i]
		}
	}
	return key, inner
}

// expected lists what the schema has directly below at.
func expected(schema []Key, at []string) string {
	var names []string
	for _, key := range schema {
		want := strings.Split(key.Path, ".")
		if len(want) <= len(at) {
			continue
		}
		if _, inner := lookup([]Key{key}, at); inner || len(at) == 0 {
			names = append(names, "`"+want[len(at)]+"`")
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	switch len(names) {
	case 0:
		return "no fields"
	case 1:
		return names[0]
	}
	return "one of " + strings.Join(names, ", ")
}

var (
	label    = regexp.MustCompile(`^[\pL\pN_]([\pL\pN_-]{0,61}[\pL\pN_])?$`)
	duration = regexp.MustCompile(`^P(\d+[YMWD])*(T(\d+[HMS])+)?$`)
)

// IsDomain reports whether s can be the domain of a Pod.
func IsDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for l := range strings.SplitSeq(s, ".") {
		if !label.MatchString(l) {
			return false
		}
	}
	return true
}

// fault says what is wrong with v as the value of k, or nothing.
func (k *Key) fault(v any) string {
	switch k.Kind {
	case Any:
		return ""
	case Flag:
		if _, ok := v.(bool); !ok {
			return "invalid type: found " + describe(v) + ", expected a boolean"
		}
		return ""
	case Empty:
		table, ok := v.(map[string]any)
		if !ok {
			return "invalid type: found " + describe(v) + ", expected a table"
		}
		for name := range table {
			return fmt.Sprintf("unknown field: found `%s`, expected no fields", name)
		}
		return ""
	case Port, Count:
		n, ok := v.(int64)
		switch {
		case !ok:
			return "invalid type: found " + describe(v) + ", expected an integer"
		case k.Kind == Port && (n < 0 || n > 65535), n < int64(k.Min):
			return fmt.Sprintf("invalid value %d", n)
		}
		return ""
	case List:
		list, ok := v.([]any)
		if !ok {
			return "invalid type: found " + describe(v) + ", expected a sequence"
		}
		for _, item := range list {
			if _, ok := item.(string); !ok {
				return "invalid type: found " + describe(item) + ", expected a string"
			}
		}
		return ""
	}
	s, ok := v.(string)
	if !ok {
		return "invalid type: found " + describe(v) + ", expected a string"
	}
	good := true
	switch k.Kind {
	case Text:
		n := len([]rune(s))
		good = n >= k.Min && (k.Max == 0 || n <= k.Max) && strings.IndexFunc(s, unicode.IsControl) < 0
	case Domain:
		good = IsDomain(s)
	case Addr, Addr4, Addr6:
		a, err := netip.ParseAddr(s)
		good = err == nil && (k.Kind == Addr || a.Is4() == (k.Kind == Addr4))
	case Duration:
		good = s == "infinite" || len(s) > 2 && duration.MatchString(s)
	case URL:
		u, err := url.Parse(s)
		good = err == nil && u.Scheme != "" && u.Host != "" && u.RawQuery == "" && u.Fragment == ""
	case Enum:
		good = slices.Contains(k.OneOf, s)
	}
	switch {
	case good:
		return ""
	case k.Kind == Enum:
		return fmt.Sprintf("unknown variant: found `%s`, expected `one of %s`", s, strings.Join(k.OneOf, ", "))
	}
	return fmt.Sprintf("invalid value: %q", s)
}

func describe(v any) string {
	switch v := v.(type) {
	case bool:
		return fmt.Sprintf("bool `%t`", v)
	case int64:
		return fmt.Sprintf("signed int `%d`", v)
	case float64:
		return fmt.Sprintf("float `%v`", v)
	case string:
		return fmt.Sprintf("string %q", v)
	case []any:
		return "sequence"
	case map[string]any:
		return "map"
	}
	return fmt.Sprintf("%T", v)
}
