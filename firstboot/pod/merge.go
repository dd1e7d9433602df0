package pod

import (
	"path"
	"slices"
	"strings"
)

// place is what the rules below go by: a path with the names that people choose
// replaced by a star.
func place(p string) string {
	parts := strings.Split(p, ".")
	if len(parts) > 1 && slices.Contains([]string{"services", "networks", "volumes"}, parts[0]) {
		parts[1] = "*"
	}
	if len(parts) > 3 && parts[0] == "services" && parts[2] == "networks" {
		parts[3] = "*"
	}
	return strings.Join(parts, ".")
}

// normal brings the short forms of a value into the long one, so that files that
// use different ones can be merged: lists of NAME=VALUE and of names become
// mappings, one string a list of one.
func (ps *problems) normal(p string, v *value) {
	switch place(p) {
	case "services.*.environment", "services.*.labels", "networks.*.labels", "volumes.*.labels":
		ps.toDict(p, v, true)
	case "services.*.networks", "services.*.depends_on":
		ps.toDict(p, v, false)
	case "services.*.env_file", "services.*.tmpfs":
		if v.kind == scalar {
			one := *v
			one.mode = ""
			v.kind, v.items = list, []*value{&one}
		}
	}
	for _, k := range v.keys {
		ps.normal(join(p, k), v.dict[k])
	}
}

func (ps *problems) toDict(p string, v *value, assigned bool) {
	if v.kind != list {
		return
	}
	v.kind, v.dict = dict, map[string]*value{}
	for _, item := range v.items {
		if item.kind != scalar {
			ps.at(item, p, "%s, want text", item.kind)
			continue
		}
		to := *item
		name, text, ok := item.text, "", false
		if assigned {
			name, text, ok = strings.Cut(item.text, "=")
		}
		if to.text = text; !ok {
			to.kind = null
		}
		if v.dict[name] == nil {
			v.keys = append(v.keys, name)
		}
		v.dict[name] = &to
	}
	v.items = nil
}

// merge lays over on base by the rules of the Compose specification (section
// "Merge"): mappings key by key, lists one after the other without doubles,
// commands and single values replaced. It returns nil for what is reset.
func (ps *problems) merge(p string, base, over *value) *value {
	if over.mode == reset {
		return nil
	}
	if base == nil || over.mode == override {
		base = &value{kind: over.kind}
	}
	out := *over
	out.mode = ""
	switch {
	case over.kind == null:
		if base.kind == null {
			return &out
		}
		return base
	case base.kind == null, over.kind == scalar && base.kind == scalar, isCommand(place(p)):
		base = &value{kind: over.kind}
	case base.kind != over.kind:
		ps.at(over, p, "%s, but the file before has %s", over.kind, base.kind)
		return base
	}
	switch over.kind {
	case dict:
		if place(p) == "services.*.logging" && otherDriver(base, over) {
			base = &value{}
		}
		out.keys, out.dict = nil, map[string]*value{}
		for _, k := range base.keys {
			out.keys = append(out.keys, k)
			out.dict[k] = base.dict[k]
		}
		for _, k := range over.keys {
			v := ps.merge(join(p, k), out.dict[k], over.dict[k])
			if i := slices.Index(out.keys, k); i < 0 && v != nil {
				out.keys = append(out.keys, k)
			} else if v == nil && i >= 0 {
				out.keys = slices.Delete(out.keys, i, i+1)
			}
			if out.dict[k] = v; v == nil {
				delete(out.dict, k)
			}
		}
	case list:
		out.items = nil
		seen := map[string]int{}
		for _, item := range append(slices.Clone(base.items), over.items...) {
			key := identity(place(p), item)
			if i, ok := seen[key]; ok && key != "" {
				out.items[i] = item
				continue
			}
			seen[key] = len(out.items)
			out.items = append(out.items, item)
		}
	}
	return &out
}

func isCommand(place string) bool {
	return place == "services.*.command" || place == "services.*.entrypoint"
}

func otherDriver(a, b *value) bool {
	x, y := a.dict["driver"], b.dict["driver"]
	return x != nil && y != nil && x.text != y.text
}

// identity is what makes two items of a list the same; empty: nothing does.
func identity(place string, item *value) string {
	switch {
	case item.kind != scalar:
		return ""
	case place == "services.*.volumes":
		if m, err := parseMount(item.text, "/"); err == nil {
			return m.Target
		}
	case place == "services.*.ports":
		if port, err := parsePort(item.text); err == nil {
			return port.String()
		}
	case place == "services.*.tmpfs":
		target, _, _ := strings.Cut(item.text, ":")
		return path.Clean(target)
	}
	return item.text
}
