package recipe

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// A place is where something stands in the source; lines and columns count
// from 1, columns in bytes.
type place struct{ line, column, length int }

// A setting is one "key = value" of the source with its full name.
type setting struct {
	name    []string
	value   any // string, bool, []element, or nil with form set
	form    string
	key, at place // of the last part of the key, and of the value
}

type element struct {
	value any
	form  string
	at    place
}

const listOfTables = "list of tables"

// document lists the settings of TOML source. go-toml decodes strictly but
// keeps no positions, so this walks its parser too. broken is where the source
// is no TOML at all, and repeated what is in it more than once.
func document(src []byte) (settings []setting, repeated []Diagnostic, broken *Diagnostic) {
	var all map[string]any
	err := toml.Unmarshal(src, &all)
	p := newWalker(src)
	var table []string
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = nil
			it := e.Key()
			var at place
			for it.Next() {
				table = append(table, string(it.Node().Data))
				at = p.locate(it.Node())
			}
			form := "table"
			if e.Kind == unstable.ArrayTable {
				form = listOfTables
			}
			settings = append(settings, setting{name: clone(table), form: form, key: at, at: at})
		case unstable.KeyValue:
			settings = append(settings, p.keyValue(table, e)...)
		}
	}
	if err == nil {
		err = p.Error()
	}
	if err == nil {
		return settings, nil, nil
	}
	// The parser takes what the decoder does not: names that come twice.
	if p.Error() == nil {
		settings, repeated = withoutRepeated(settings)
	}
	if repeated == nil {
		broken = &Diagnostic{Line: 1, Column: 1, Length: 1, Message: sentence(err)}
		var de *toml.DecodeError
		if errors.As(err, &de) {
			broken.Line, broken.Column = de.Position()
		}
	}
	return settings, repeated, broken
}

// sentence is what go-toml says, without its own name in front.
func sentence(err error) string { return strings.TrimPrefix(err.Error(), "toml: ") }

// withoutRepeated splits off settings whose name was there before.
func withoutRepeated(all []setting) (once []setting, repeated []Diagnostic) {
	first := map[string]setting{}
	for _, s := range all {
		f, again := first[join(s.name)]
		if !again || s.form == listOfTables && f.form == listOfTables {
			first[join(s.name)] = s
			once = append(once, s)
			continue
		}
		repeated = append(repeated, Diagnostic{
			Line: s.key.line, Column: s.key.column, Length: s.key.length,
			Message: fmt.Sprintf("%q comes twice", strings.Join(s.name, ".")),
			Hint:    fmt.Sprintf("the first is in line %d; leave one", f.key.line),
		})
	}
	return once, repeated
}

func (p *walker) keyValue(table []string, e *unstable.Node) []setting {
	s := setting{name: clone(table)}
	it := e.Key()
	for it.Next() {
		s.name = append(s.name, string(it.Node().Data))
		s.key = p.locate(it.Node())
	}
	v := e.Value()
	s.at = p.inside(v)
	if s.at.length == 0 {
		s.at = s.key
	}
	if v.Kind == unstable.InlineTable {
		out := []setting{{name: s.name, form: "table", key: s.key, at: s.key}}
		for it := v.Children(); it.Next(); {
			out = append(out, p.keyValue(s.name, it.Node())...)
		}
		return out
	}
	s.value, s.form = value(v)
	if v.Kind == unstable.Array {
		var list []element
		for it := v.Children(); it.Next(); {
			n := it.Node()
			if n.Kind == unstable.Comment {
				continue
			}
			el := element{at: p.inside(n)}
			if el.at.length == 0 {
				el.at = s.key
			}
			el.value, el.form = value(n)
			list = append(list, el)
		}
		s.value = list
	}
	return []setting{s}
}

func value(n *unstable.Node) (any, string) {
	switch n.Kind {
	case unstable.String:
		return string(n.Data), "string"
	case unstable.Bool:
		return string(n.Data) == "true", "boolean"
	case unstable.Array:
		return nil, "list"
	case unstable.InlineTable:
		return nil, "table"
	case unstable.Integer, unstable.Float:
		return string(n.Data), "number"
	}
	return nil, "date"
}

// A walker walks a parser's expressions and knows where lines begin: the
// parser would count them for every place anew.
type walker struct {
	unstable.Parser
	lines []int // offsets
}

func newWalker(src []byte) *walker {
	w := &walker{lines: []int{0}}
	for i, c := range src {
		if c == '\n' {
			w.lines = append(w.lines, i+1)
		}
	}
	w.Reset(src)
	return w
}

func (p *walker) locate(n *unstable.Node) place {
	r := n.Raw
	if r.Length == 0 && len(n.Data) > 0 {
		r = p.Range(n.Data)
	}
	if r.Length == 0 {
		return place{}
	}
	line := sort.SearchInts(p.lines, int(r.Offset)+1)
	return place{line, int(r.Offset) - p.lines[line-1] + 1, int(r.Length)}
}

// inside is where a node is, or the first one in it that has a place: lists have
// none.
func (p *walker) inside(n *unstable.Node) place {
	at := p.locate(n)
	if n.Kind != unstable.Array || at.length > 0 {
		return at
	}
	for it := n.Children(); at.length == 0 && it.Next(); {
		at = p.inside(it.Node())
	}
	return at
}

func clone(name []string) []string { return append([]string(nil), name...) }
