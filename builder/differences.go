package builder

import (
	"fmt"
	"slices"
	"strings"

	"github.com/prose-im/prose-image/builder/cache"
)

// differences says how inputs differ from those of another layer of the same
// kind, one line each. With part set, inputs may lack some that the other has.
func differences(old, now []Input, part bool) (lines []string) {
	var names []string
	for _, in := range slices.Concat(now, old) {
		if !slices.Contains(names, in.Name) {
			names = append(names, in.Name)
		}
	}
	for _, name := range names {
		was, is := named(old, name), named(now, name)
		if part && len(is) == 0 {
			continue
		}
		if len(was) == 1 && len(is) == 1 {
			lines = append(lines, differInput(was[0], is[0])...)
			continue
		}
		// Several of one name, such as images, are known by their first word.
		lines = append(lines, differParts(name, asParts(was), asParts(is))...)
	}
	return lines
}

func named(list []Input, name string) (found []Input) {
	for _, in := range list {
		if in.Name == name {
			found = append(found, in)
		}
	}
	return found
}

// differInput compares two inputs of one name.
func differInput(was, is Input) []string {
	switch {
	case was.Sum == is.Sum:
		return nil
	case was.Parts != nil || is.Parts != nil:
		if lines := differParts(is.Name, was.Parts, is.Parts); lines != nil {
			return lines
		}
		return []string{is.Name + ": the order changed"}
	case was.Value == is.Value:
		return []string{is.Name + " changed"}
	}
	return []string{fmt.Sprintf("%s: %s became %s", is.Name, was.Value, is.Value)}
}

func asParts(list []Input) (parts []cache.Part) {
	for _, in := range list {
		first, rest, _ := strings.Cut(in.Value, " ")
		parts = append(parts, cache.Part{Name: first, Value: rest, Sum: in.Sum})
	}
	return parts
}

func differParts(name string, was, is []cache.Part) (lines []string) {
	find := func(list []cache.Part, name string) *cache.Part {
		if i := slices.IndexFunc(list, func(p cache.Part) bool { return p.Name == name }); i >= 0 {
			return &list[i]
		}
		return nil
	}
	for _, p := range is {
		switch old := find(was, p.Name); {
		case old == nil:
			lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s: %s %s", name, p.Name, p.Value))+" is new")
		case old.Sum != p.Sum && old.Value != p.Value:
			lines = append(lines, fmt.Sprintf("%s: %s %s became %s", name, p.Name, old.Value, p.Value))
		case old.Sum != p.Sum:
			lines = append(lines, fmt.Sprintf("%s: %s changed", name, p.Name))
		}
	}
	for _, p := range was {
		if find(is, p.Name) == nil {
			lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s: %s %s", name, p.Name, p.Value))+" is gone")
		}
	}
	return lines
}
