package settings

import (
	"slices"
	"strings"
)

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
