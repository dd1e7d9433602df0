package pod

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// A Problem is one mistake in a file.
type Problem struct {
	File      string
	Line, Col int    // from 1; 0: of the whole file
	Path      string // such as services.api.ports
	Text      string
}

func (p *Problem) Error() string {
	where := p.File
	if p.Line > 0 {
		where += fmt.Sprintf(":%d:%d", p.Line, p.Col)
	}
	if p.Path != "" {
		where += ": " + p.Path
	}
	return where + ": " + p.Text
}

// problems collects what is wrong, so that all of it can be told at once.
type problems []error

func (p *problems) at(v *value, path, format string, args ...any) {
	*p = append(*p, &Problem{v.file, v.line, v.col, path, fmt.Sprintf(format, args...)})
}

func (p problems) err() error { return errors.Join(p...) }

type kind int

const (
	null kind = iota
	scalar
	list
	dict
)

func (k kind) String() string { return [...]string{"nothing", "a value", "a list", "a mapping"}[k] }

// A value is a node of a file with aliases and merge keys resolved. All scalars
// are text: what they mean depends on where they stand, because a variable may
// have filled them in.
type value struct {
	file      string
	line, col int
	kind      kind
	text      string
	items     []*value
	keys      []string // in the file's order
	dict      map[string]*value
	mode      string // "", reset, override
}

const (
	reset    = "!reset"
	override = "!override"
)

// Limits of what is read: aliases multiply.
const (
	maxFile   = 1 << 20
	maxValues = 50_000
	maxDepth  = 50
)

// A reader turns one file into values.
type reader struct {
	file  string
	env   map[string]string
	count int
	problems
}

func (r *reader) read(content []byte) *value {
	whole := &value{file: r.file, kind: dict, dict: map[string]*value{}}
	if len(content) > maxFile {
		r.at(whole, "", "the file is larger than %d bytes", maxFile)
		return whole
	}
	d := yaml.NewDecoder(bytes.NewReader(content))
	var doc yaml.Node
	if err := d.Decode(&doc); err == io.EOF {
		return whole
	} else if err != nil {
		r.at(whole, "", "%s", strings.TrimPrefix(err.Error(), "yaml: "))
		return whole
	}
	if err := d.Decode(new(yaml.Node)); err != io.EOF {
		r.at(whole, "", "the file has more than one document")
		return whole
	}
	v := r.value(doc.Content[0], "", 0)
	if v.kind != dict {
		if v.kind != null {
			r.at(v, "", "%s, want a mapping", v.kind)
		}
		return whole
	}
	return v
}

func (r *reader) value(n *yaml.Node, path string, depth int) *value {
	v := &value{file: r.file, line: n.Line, col: n.Column}
	if r.count++; r.count == maxValues || depth == maxDepth {
		r.at(v, path, "too many values, or too deep")
	}
	if r.count >= maxValues || depth >= maxDepth {
		return v
	}
	switch tag := n.ShortTag(); {
	case tag == reset, tag == override:
		v.mode = tag
	case !slices.Contains([]string{"!!str", "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq", "!!timestamp", "!!merge", ""}, tag):
		r.at(v, path, "tag %s is not understood", tag)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return r.value(n.Alias, path, depth+1)
	case yaml.ScalarNode:
		if n.ShortTag() == "!!null" || v.mode == reset {
			break
		}
		v.kind = scalar
		text, err := expand(n.Value, r.env)
		if err != nil {
			r.at(v, path, "%v", err)
		}
		v.text = text
	case yaml.SequenceNode:
		v.kind = list
		for i, item := range n.Content {
			v.items = append(v.items, r.value(item, fmt.Sprintf("%s[%d]", path, i), depth+1))
		}
	case yaml.MappingNode:
		v.kind, v.dict = dict, map[string]*value{}
		r.mapping(v, n, path, depth)
	}
	return v
}

func (r *reader) mapping(v *value, n *yaml.Node, path string, depth int) {
	var merged []*value
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, c := n.Content[i], n.Content[i+1]
		at := &value{file: r.file, line: k.Line, col: k.Column}
		switch {
		case k.Kind == yaml.ScalarNode && k.ShortTag() == "!!merge":
			from := r.value(c, join(path, "<<"), depth+1)
			if from.kind == list {
				merged = append(merged, from.items...)
			} else {
				merged = append(merged, from)
			}
		case k.Kind != yaml.ScalarNode:
			r.at(at, path, "a key is no plain value")
		case v.dict[k.Value] != nil:
			r.at(at, join(path, k.Value), "the key is there twice")
		default:
			c := r.value(c, join(path, k.Value), depth+1)
			if c.kind == null {
				c.line, c.col = k.Line, k.Column
			}
			v.keys = append(v.keys, k.Value)
			v.dict[k.Value] = c
		}
	}
	// The mapping's own keys win, then the first of those merged.
	for _, m := range merged {
		if m.kind != dict {
			r.at(m, join(path, "<<"), "%s, want a mapping", m.kind)
		}
		for _, k := range m.keys {
			if v.dict[k] == nil {
				v.keys = append(v.keys, k)
				v.dict[k] = m.dict[k]
			}
		}
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
