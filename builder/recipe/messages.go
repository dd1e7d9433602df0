package recipe

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A problem is what is wrong with one value and what to write instead.
type problem struct{ message, hint string }

func unknownKey(s setting) *problem {
	name := strings.Join(s.name, ".")
	p := &problem{message: fmt.Sprintf("unknown key %q", name)}
	if s.form == "table" {
		p.message = fmt.Sprintf("unknown table %q", name)
	}
	var names []string
	for _, k := range Keys {
		names = append(names, k.Name)
		if table, _, ok := strings.Cut(k.Name, "."); ok && !slices.Contains(names, table) {
			names = append(names, table)
		}
	}
	if near := nearest(name, names); near != "" {
		p.hint = fmt.Sprintf("did you mean %q?", near)
		return p
	}
	// The right key in the wrong table is the commonest slip in TOML.
	for _, k := range Keys {
		if lastPart(k.Name) == s.name[len(s.name)-1] {
			p.hint = fmt.Sprintf("there is a key %q", k.Name)
		}
	}
	if p.hint == "" {
		p.hint = "prose-image init writes a recipe with every key"
	}
	return p
}

func wrongForm(k *Key, got string) *problem {
	return &problem{fmt.Sprintf("%s is a %s, not a %s", k.Name, k.Kind, got), "write " + example(k)}
}

// notTable is about a table of keys that is written as something else.
func notTable(s setting) *problem {
	name := strings.Join(s.name, ".")
	return &problem{fmt.Sprintf("%s is a table, not a %s", name, s.form), fmt.Sprintf("write [%s] and below it its keys", name)}
}

func wrongMember(k *Key, member, got string) *problem {
	return &problem{fmt.Sprintf("%s holds strings, not a %s", k.Name, got), fmt.Sprintf("write %q = \"value\"", member)}
}

func wrongElement(k *Key, got string) *problem {
	return &problem{fmt.Sprintf("%s holds strings, not a %s", k.Name, got), "write " + example(k)}
}

func emptyList(k *Key) *problem {
	return &problem{fmt.Sprintf("%s needs at least one of %s", k.Name, strings.Join(k.OneOf, ", ")), "write " + example(k)}
}

func comesTwice(v string) *problem {
	return &problem{fmt.Sprintf("%q comes twice", v), "leave one"}
}

func notOneOf(k *Key, v string) *problem {
	p := &problem{message: fmt.Sprintf("%q is not one of %s", v, strings.Join(k.OneOf, ", ")), hint: "write " + example(k)}
	if near := nearest(v, k.OneOf); near != "" {
		p.hint = fmt.Sprintf("did you mean %q?", near)
	} else if k.Others != "" {
		p.hint += "; " + k.Others
	}
	return p
}

func noSize(v string) *problem {
	return &problem{fmt.Sprintf("%q is no size", v), `write a number and KiB, MiB, GiB or TiB, such as "512MiB"`}
}

var (
	word        = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`)
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
)

func checkWord(v string) *problem {
	if !word.MatchString(v) {
		return &problem{fmt.Sprintf("%q cannot be part of a file name", v), "use letters, digits and . _ + -, beginning with a letter or digit"}
	}
	return nil
}

func checkPackage(v string) *problem {
	if !packageName.MatchString(v) {
		return &problem{fmt.Sprintf("%q is no package name", v), "Debian package names are lower case, such as \"htop\"; versions belong to the lock"}
	}
	return nil
}

func checkPath(v string) *problem {
	if v == "" || strings.ContainsRune(v, 0) || filepath.Clean(v) == "/" {
		return &problem{fmt.Sprintf("%q is no path", v), "write a path, relative to the recipe"}
	}
	return nil
}

func checkFilled(v string) *problem {
	if strings.TrimSpace(v) == "" {
		return &problem{"the value is empty", "write one, or leave the key out"}
	}
	return nil
}

func example(k *Key) string {
	if k.Kind == Table {
		return fmt.Sprintf("[%s] and below it lines of the form \"name\" = \"value\"", k.Name)
	}
	return lastPart(k.Name) + " = " + k.Default
}

// nearest finds what was probably meant: the candidate at the smallest edit
// distance, when that is at most a third of the word and one more.
func nearest(v string, candidates []string) string {
	best, most := "", len(v)/3+2
	for _, c := range candidates {
		if d := distance(v, c); d < most {
			best, most = c, d
		}
	}
	return best
}

// distance is the Levenshtein distance of two short strings, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
