package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// A node is one value of a YAML or JSON document. form is for messages.
type node struct {
	form    string   // text, number, true or false, list, table, nothing, or another
	text    string   // of scalars
	members []member // of a list without names
	line    int      // counts from 1
}

type member struct {
	name  string
	line  int
	value node
}

const (
	list    = "list"
	table   = "table"
	nothing = "nothing"
	// deepest is far below what exhausts the stack, and far above our tables.
	deepest = 32
)

// A syntaxError says where a document is none. It never quotes the document,
// which may hold secrets.
type syntaxError struct {
	line int // 0: unknown
	what string
	hint string
}

func (e *syntaxError) Error() string { return e.what }

// parse reads a document; JSON when the path says so, else YAML. An empty YAML
// document is an empty table.
func parse(path string, text []byte) (node, error) {
	if strings.HasSuffix(path, ".json") {
		return parseJSON(text)
	}
	return parseYAML(text)
}

var yamlLine = regexp.MustCompile(`line (\d+)`)

func parseYAML(text []byte) (node, error) {
	y, err := readYAML(text)
	if err != nil {
		return node{}, err
	}
	if y == nil || y.ShortTag() == "!!null" {
		return node{form: table, line: 1}, nil
	}
	return fromYAML(y, 0)
}

// readYAML is the root of a document, nil of an empty one.
func readYAML(text []byte) (root *yaml.Node, err error) {
	// The parser panics on some broken documents that it does not foresee.
	defer func() {
		if r := recover(); r != nil {
			root, err = nil, &syntaxError{what: "cannot be read as YAML"}
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, yamlError(err)
	}
	if err := d.Decode(&more); err == nil {
		return nil, &syntaxError{line: more.Line, what: "has a second document", hint: "leave out the line ---"}
	} else if !errors.Is(err, io.EOF) {
		return nil, yamlError(err)
	}
	if len(doc.Content) != 1 {
		return nil, nil
	}
	return doc.Content[0], nil
}

// proseOf is the value of prose in a cloud-config. What else is there is none
// of our business, and may have what our own files may not.
func proseOf(cloudConfig []byte) (n node, ok bool, err error) {
	y, err := readYAML(cloudConfig)
	if err != nil || y == nil || y.Kind != yaml.MappingNode {
		return node{}, false, err
	}
	for i := 0; i+1 < len(y.Content); i += 2 {
		if y.Content[i].Value == "prose" {
			n, err = fromYAML(y.Content[i+1], 0)
			return n, err == nil, err
		}
	}
	return node{}, false, nil
}

// yamlError keeps the line of a parser's message and the message itself only
// when it is one of its constants: an unknown anchor would be quoted, and may
// be a password that begins with an asterisk.
func yamlError(err error) *syntaxError {
	e := &syntaxError{what: "is no YAML"}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		e.line, _ = strconv.Atoi(m[1])
	}
	switch s := err.Error(); {
	case strings.Contains(s, "anchor"):
		e.hint = "put values that begin with * or & in quotes"
	case strings.Contains(s, "cannot start any token"):
		e.hint = "indent with spaces, not tabs; put values that begin with @, ` or % in quotes"
	case strings.Contains(s, "mapping values are not allowed"), strings.Contains(s, "could not find expected ':'"):
		e.hint = "write one `key: value` per line, a space after the colon; put values with a colon in quotes"
	default:
		e.hint = "indent with spaces, not tabs, and check the quotes around this line"
	}
	return e
}

func fromYAML(y *yaml.Node, depth int) (node, error) {
	n := node{line: y.Line}
	if depth > deepest {
		return n, &syntaxError{line: y.Line, what: "is nested too deep"}
	}
	switch y.Kind {
	case yaml.AliasNode:
		return n, &syntaxError{line: y.Line, what: "has an alias, a value that begins with *", hint: "write the value itself, or put it in quotes"}
	case yaml.SequenceNode:
		n.form = list
		for _, c := range y.Content {
			v, err := fromYAML(c, depth+1)
			if err != nil {
				return n, err
			}
			n.members = append(n.members, member{"", c.Line, v})
		}
	case yaml.MappingNode:
		n.form = table
		for i := 0; i+1 < len(y.Content); i += 2 {
			k := y.Content[i]
			if k.Kind != yaml.ScalarNode || k.ShortTag() == "!!merge" {
				return n, &syntaxError{line: k.Line, what: "has a key that is no name"}
			}
			v, err := fromYAML(y.Content[i+1], depth+1)
			if err != nil {
				return n, err
			}
			n.members = append(n.members, member{k.Value, k.Line, v})
		}
	case yaml.ScalarNode:
		n.text = y.Value
		switch y.ShortTag() {
		case "!!str":
			n.form = string(Text)
		case "!!bool":
			// The document's spelling may be True.
			n.form, n.text = string(Bool), strings.ToLower(y.Value)
		case "!!int", "!!float":
			n.form = string(Number)
		case "!!null":
			n.form = nothing
		case "!!timestamp":
			n.form = "date"
		default:
			n.form = "value with a tag"
		}
	}
	return n, nil
}

func parseJSON(text []byte) (node, error) {
	r := &jsonReader{text: text, d: json.NewDecoder(bytes.NewReader(text)), line: 1}
	r.d.UseNumber()
	n, err := r.value(0)
	if err == nil {
		if _, more := r.d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more")
		}
	}
	if err != nil {
		var se *syntaxError
		if errors.As(err, &se) {
			return node{}, se
		}
		var je *json.SyntaxError
		at := r.d.InputOffset()
		if errors.As(err, &je) {
			at = max(at, je.Offset)
		}
		return node{}, &syntaxError{line: r.lineAt(at), what: "is no JSON", hint: "check commas, braces and quotes before this place"}
	}
	return n, nil
}

// A jsonReader walks a document token by token, for its lines.
type jsonReader struct {
	text []byte
	d    *json.Decoder
	line int
	done int64 // bytes of text whose lines are counted
}

// lineAt counts the lines up to a byte; it goes forward only.
func (r *jsonReader) lineAt(at int64) int {
	at = min(at, int64(len(r.text)))
	if at > r.done {
		r.line += bytes.Count(r.text[r.done:at], []byte("\n"))
		r.done = at
	}
	return r.line
}

func (r *jsonReader) value(depth int) (node, error) {
	t, err := r.d.Token()
	if err != nil {
		return node{}, err
	}
	n := node{line: r.lineAt(r.d.InputOffset())}
	if depth > deepest {
		return n, &syntaxError{line: n.line, what: "is nested too deep"}
	}
	switch t := t.(type) {
	case string:
		n.form, n.text = string(Text), t
	case json.Number:
		n.form, n.text = string(Number), t.String()
	case bool:
		n.form, n.text = string(Bool), strconv.FormatBool(t)
	case nil:
		n.form = nothing
	case json.Delim:
		n.form = list
		if t == '{' {
			n.form = table
		}
		for r.d.More() {
			var m member
			if n.form == table {
				k, err := r.d.Token()
				if err != nil {
					return n, err
				}
				m.name, m.line = fmt.Sprint(k), r.lineAt(r.d.InputOffset())
			}
			if m.value, err = r.value(depth + 1); err != nil {
				return n, err
			}
			n.members = append(n.members, m)
		}
		if _, err := r.d.Token(); err != nil {
			return n, err
		}
	}
	return n, nil
}
