// Package prosetoml reads prose.toml as upstream's programs do: a TOML file,
// overridden by environment variables that start with PROSE_ and separate the
// levels with two underscores. A missing file is an empty one.
package prosetoml

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Path is where the containers have the file.
const Path = "/etc/prose/prose.toml"

const prefix = "PROSE_"

// A Document is the merged configuration.
type Document struct {
	values  map[string]any
	sources map[string]string // dotted path of a leaf to where it was set
}

// Load reads the file at path and merges environ, a list of KEY=VALUE, over it.
func Load(path string, environ []string) (*Document, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return parse(path, text, environ)
}

func parse(path string, text []byte, environ []string) (*Document, error) {
	d := &Document{values: map[string]any{}, sources: map[string]string{}}
	if err := toml.Unmarshal(text, &d.values); err != nil {
		return nil, fmt.Errorf("TOML parse error in %s: %w", path, err)
	}
	d.note(nil, d.values, path+" TOML file")
	for _, kv := range environ {
		key, raw, _ := strings.Cut(kv, "=")
		if len(key) <= len(prefix) || !strings.EqualFold(key[:len(prefix)], prefix) {
			continue
		}
		at := strings.Split(strings.ToLower(key[len(prefix):]), "__")
		value := envValue(raw)
		set(d.values, at, value)
		d.note(at, value, "`PROSE_` environment variable(s)")
	}
	return d, nil
}

// note records source for every leaf of v, which lies at path at.
func (d *Document) note(at []string, v any, source string) {
	table, ok := v.(map[string]any)
	if !ok {
		d.sources[strings.Join(at, ".")] = source
		return
	}
	for k, child := range table {
		d.note(append(at[:len(at):len(at)], k), child, source)
	}
}

func set(table map[string]any, at []string, value any) {
	for ; len(at) > 1; at = at[1:] {
		child, ok := table[at[0]].(map[string]any)
		if !ok {
			child = map[string]any{}
			table[at[0]] = child
		}
		table = child
	}
	table[at[0]] = value
}

// envValue types an environment value: what reads as a TOML bool, number,
// string, array or inline table is one, the rest is a string. So a password of
// digits becomes a number, as upstream.
func envValue(raw string) any {
	raw = strings.TrimSpace(raw)
	if raw == "" || strings.ContainsAny(raw, "\n\r") {
		return raw
	}
	var doc struct{ V any }
	if err := toml.Unmarshal([]byte("V = "+raw), &doc); err != nil {
		return raw
	}
	switch v := doc.V.(type) {
	case bool, int64, float64, string, []any, map[string]any:
		return v
	}
	return raw
}

// get returns the value at a dotted path.
func (d *Document) get(path string) (any, bool) {
	var v any = d.values
	for name := range strings.SplitSeq(path, ".") {
		table, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = table[name]; !ok {
			return nil, false
		}
	}
	return v, true
}

// Has reports whether path is set.
func (d *Document) Has(path string) bool {
	_, ok := d.get(path)
	return ok
}

// String returns the string at path, or def.
func (d *Document) String(path, def string) string {
	if v, ok := d.get(path); ok {
		if s, ok := v.(string); ok {
			return s
		}
	}
	return def
}

// Int returns the integer at path, or def.
func (d *Document) Int(path string, def int) int {
	if v, ok := d.get(path); ok {
		if n, ok := v.(int64); ok {
			return int(n)
		}
	}
	return def
}

// Bool returns the boolean at path, or def.
func (d *Document) Bool(path string, def bool) bool {
	if v, ok := d.get(path); ok {
		if b, ok := v.(bool); ok {
			return b
		}
	}
	return def
}

// Strings returns the list of strings at path.
func (d *Document) Strings(path string) []string {
	v, _ := d.get(path)
	list, _ := v.([]any)
	var out []string
	for _, item := range list {
		if s, ok := item.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// Table returns the table at path, nil when there is none. names are the
// levels one by one, for a level may hold a dot.
func (d *Document) Table(names ...string) map[string]any {
	table := d.values
	for _, name := range names {
		table, _ = table[name].(map[string]any)
	}
	return table
}
