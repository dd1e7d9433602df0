package recipe

import (
	"errors"
	"fmt"

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

// document lists the settings of TOML source. go-toml decodes strictly but
// keeps no positions, so this walks its parser; the one problem it returns is
// where the source is no TOML at all.
func document(src []byte) ([]setting, *Diagnostic) {
	var all map[string]any
	if err := toml.Unmarshal(src, &all); err != nil {
		var de *toml.DecodeError
		if errors.As(err, &de) {
			line, column := de.Position()
			return nil, &Diagnostic{Line: line, Column: column, Length: 1, Message: de.Error()}
		}
		return nil, &Diagnostic{Line: 1, Column: 1, Length: 1, Message: err.Error()}
	}
	var p unstable.Parser
	p.Reset(src)
	var settings []setting
	var table []string
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = nil
			it := e.Key()
			var at place
			for it.Next() {
				table = append(table, string(it.Node().Data))
				at = locate(&p, it.Node())
			}
			if e.Kind == unstable.ArrayTable {
				settings = append(settings, setting{name: clone(table), form: "list of tables", key: at, at: at})
				continue
			}
			settings = append(settings, setting{name: clone(table), form: "table", key: at, at: at})
		case unstable.KeyValue:
			settings = append(settings, keyValue(&p, table, e)...)
		}
	}
	if err := p.Error(); err != nil {
		return nil, &Diagnostic{Line: 1, Column: 1, Length: 1, Message: err.Error()}
	}
	return settings, nil
}

func keyValue(p *unstable.Parser, table []string, e *unstable.Node) []setting {
	s := setting{name: clone(table)}
	it := e.Key()
	for it.Next() {
		s.name = append(s.name, string(it.Node().Data))
		s.key = locate(p, it.Node())
	}
	v := e.Value()
	s.at = locate(p, v)
	if s.at.length == 0 {
		s.at = s.key
	}
	if v.Kind == unstable.InlineTable {
		out := []setting{{name: s.name, form: "table", key: s.key, at: s.key}}
		for it := v.Children(); it.Next(); {
			out = append(out, keyValue(p, s.name, it.Node())...)
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
			el := element{at: locate(p, n)}
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
	return nil, fmt.Sprint(n.Kind)
}

func locate(p *unstable.Parser, n *unstable.Node) place {
	r := n.Raw
	if r.Length == 0 && len(n.Data) > 0 {
		r = p.Range(n.Data)
	}
	if r.Length == 0 {
		return place{}
	}
	s := p.Shape(r)
	return place{s.Start.Line, s.Start.Column, int(r.Length)}
}

func clone(name []string) []string { return append([]string(nil), name...) }
