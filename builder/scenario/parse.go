package scenario

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/prose-im/prose-image/builder/recipe"
)

// Load reads and checks a scenario file. What is wrong with its content comes
// as a [recipe.Invalid] that holds every problem.
func Load(path string) (*Scenario, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading scenario: %w", err)
	}
	s, problems := Parse(src)
	if problems != nil {
		return nil, &recipe.Invalid{File: path, Source: src, Problems: problems}
	}
	s.Name = strings.TrimSuffix(filepath.Base(path), ".toml")
	return s, nil
}

// Parse reads a scenario and returns it, or everything that is wrong with it in
// the order of the source.
func Parse(src []byte) (*Scenario, []recipe.Diagnostic) {
	var all map[string]any
	if err := toml.Unmarshal(src, &all); err != nil {
		d := recipe.Diagnostic{Line: 1, Column: 1, Length: 1, Message: err.Error()}
		var de *toml.DecodeError
		if errors.As(err, &de) {
			d.Line, d.Column = de.Position()
		}
		return nil, []recipe.Diagnostic{d}
	}
	at := places(src)
	s := defaults()
	var problems []recipe.Diagnostic
	report := func(p place, message, hint string) {
		problems = append(problems, recipe.Diagnostic{Line: p.line, Column: p.column, Length: p.length, Message: message, Hint: hint})
	}
	for name, v := range all {
		i := slices.IndexFunc(Keys, func(k Key) bool { return k.Name == name })
		switch {
		case i < 0:
			report(at[name].key, fmt.Sprintf("unknown key %q", name), "the keys are "+keyNames())
		case name == "steps":
			s.Steps = steps(v, at[name], report)
		default:
			if err := Keys[i].set(s, v); err != nil {
				report(at[name].value, err.Error(), "")
			}
		}
	}
	if _, ok := all["steps"]; !ok {
		report(place{1, 1, 1}, "there are no steps", `write steps = ["status ready"]`)
	}
	if s.UserData != "" && s.Settings != nil {
		report(at["user-data"].key, "user-data and settings exclude each other", "leave one")
	}
	if problems != nil {
		slices.SortStableFunc(problems, func(a, b recipe.Diagnostic) int {
			if a.Line != b.Line {
				return a.Line - b.Line
			}
			return a.Column - b.Column
		})
		return nil, problems
	}
	return s, nil
}

func keyNames() string {
	var names []string
	for _, k := range Keys {
		names = append(names, k.Name)
	}
	return strings.Join(names, ", ")
}

func steps(v any, at keyPlaces, report func(place, string, string)) []Step {
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		report(at.value, "steps is a list with at least one text", `write steps = ["status ready"]`)
		return nil
	}
	var all []Step
	for i, e := range list {
		p := at.value
		if i < len(at.elements) {
			p = at.elements[i]
		}
		line, ok := e.(string)
		if !ok {
			report(p, "a step is a text, in quotes", "")
			continue
		}
		step, hint, err := parseStep(line)
		if err != nil {
			report(p, err.Error(), hint)
			continue
		}
		all = append(all, step)
	}
	return all
}

// parseStep reads "[within TIME] COMMAND ARGUMENTS".
func parseStep(line string) (s Step, hint string, err error) {
	w, err := words(line)
	if err != nil {
		return s, "", err
	}
	s.Line = strings.Join(strings.Fields(line), " ")
	if len(w) > 0 && w[0] == "within" {
		if len(w) < 2 {
			return s, "", errors.New("within wants a time, such as 60s")
		}
		if s.Within, err = time.ParseDuration(w[1]); err != nil || s.Within <= 0 || s.Within > 2*time.Hour {
			return s, "write within 60s, or within 5m", fmt.Errorf("%q is no time", w[1])
		}
		w = w[2:]
	}
	if len(w) == 0 {
		return s, "", errors.New("the step is empty")
	}
	i := slices.IndexFunc(Commands, func(c Command) bool { return c.Name == w[0] })
	if i < 0 {
		return s, "prose-image test --help lists them", fmt.Errorf("unknown command %q", w[0])
	}
	s.Command, s.Args = &Commands[i], w[1:]
	return s, "write " + s.Command.Usage(), s.Command.check(s.Args)
}

// A place is where something stands in the source; lines and columns count
// from 1, columns in bytes.
type place struct{ line, column, length int }

// keyPlaces are where a key of the file, its value and, when that is a list,
// the list's elements stand.
type keyPlaces struct {
	key, value place
	elements   []place
}

// places finds the keys at the top of a file that is TOML: go-toml keeps no
// positions of what it decodes.
func places(src []byte) map[string]keyPlaces {
	all := map[string]keyPlaces{}
	var p unstable.Parser
	p.Reset(src)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		it := e.Key()
		if !it.Next() {
			continue
		}
		first := it.Node()
		key := locate(&p, first)
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = string(first.Data)
			if _, ok := all[table]; !ok {
				all[table] = keyPlaces{key: key, value: key}
			}
		case unstable.KeyValue:
			if table != "" {
				continue
			}
			k := keyPlaces{key: key, value: or(locate(&p, e.Value()), key)}
			if e.Value().Kind == unstable.Array {
				for it := e.Value().Children(); it.Next(); {
					if n := it.Node(); n.Kind != unstable.Comment {
						k.elements = append(k.elements, or(locate(&p, n), key))
					}
				}
			}
			if _, ok := all[string(first.Data)]; !ok {
				all[string(first.Data)] = k
			}
		}
	}
	return all
}

func or(p, other place) place {
	if p.length == 0 {
		return other
	}
	return p
}

func locate(p *unstable.Parser, n *unstable.Node) place {
	r := n.Raw
	if r.Length == 0 && len(n.Data) > 0 {
		r = p.Range(n.Data)
	}
	if r.Length == 0 {
		return place{}
	}
	at := p.Shape(r).Start
	return place{at.Line, at.Column, int(r.Length)}
}
